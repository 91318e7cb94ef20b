package wire

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// Settings are what the server decides for the collectors of a cluster. Each
// version is a full state: what it leaves out is as the collector has it by
// itself. Local configuration wins over all of it.
type Settings struct {
	Version         int64              `json:"version,omitempty"`
	IntervalSeconds int                `json:"interval_seconds,omitempty"` // 10, 15, 30 or 60
	Families        []catalogue.Family `json:"families,omitempty"`         // that are computed; core always is
	Logs            *bool              `json:"logs,omitempty"`             // follow containers' logs at all
	LogRules        *LogRules          `json:"log_rules,omitempty"`
	QueueAgeSeconds int64              `json:"queue_age_seconds,omitempty"`
	QueueBytes      int64              `json:"queue_bytes,omitempty"`
	Raw             *Raw               `json:"raw,omitempty"`
}

// LogRules say which lines are collected, and what is masked in them.
type LogRules struct {
	Namespaces     []string `json:"namespaces,omitempty"`       // patterns, as shop, team-* or !kube-system
	Workloads      []string `json:"workloads,omitempty"`        // patterns, as deployment/cart or !*/noisy
	Services       []string `json:"services,omitempty"`         // patterns, as cart, shop/* or !*-canary
	Selector       string   `json:"selector,omitempty"`         // of the pods' labels
	Annotations    string   `json:"annotations,omitempty"`      // selector of the pods' annotations that begin with logs.crowsnest.dev/
	Mask           []string `json:"mask,omitempty"`             // regular expressions, beside those that are masked anyway
	LinesPerSecond int64    `json:"lines_per_second,omitempty"` // of one container
	BytesPerSecond int64    `json:"bytes_per_second,omitempty"`
	RecordBytes    int      `json:"record_bytes,omitempty"` // longer records are cut

	Multiline []Multiline `json:"multiline,omitempty"` // the first that matches a container decides
}

// Multiline says how the lines of some containers become records; a pod's own
// annotation wins. Every part of the selection that is given must match.
type Multiline struct {
	Namespaces  []string `json:"namespaces,omitempty"`
	Workloads   []string `json:"workloads,omitempty"`
	Containers  []string `json:"containers,omitempty"`  // patterns of names, as app or !istio-*
	Selector    string   `json:"selector,omitempty"`    // of the pods' labels
	Annotations string   `json:"annotations,omitempty"` // selector, as LogRules has it
	Start       string   `json:"start,omitempty"`       // regular expression: a line that matches begins a record, any other continues one
	Off         bool     `json:"off,omitempty"`         // every line is a record
}

// Bounds of settings.
const (
	MinQueueAgeSeconds = 600
	MaxQueueAgeSeconds = 30 * 24 * 3600
	MinQueueBytes      = 16 << 20
	MaxQueueBytes      = 1 << 40
	maxPatterns        = 200
	maxPatternBytes    = 1000
	MaxMasks           = 32 // each costs with every line
	MaxMaskBytes       = 512
	MaxMultiline       = 32  // each is tried once with every container
	MaxMultilineBytes  = 512 // of a start
)

// Validate says all that is wrong, as fault.Fields.
func (s Settings) Validate() error {
	var fs fault.Fields
	if !slices.Contains([]int{0, 10, 15, 30, 60}, s.IntervalSeconds) {
		fs.Say("interval_seconds", fault.Say(fault.OneOf, "10, 15, 30, 60"), s.IntervalSeconds)
	}
	for i, f := range s.Families {
		if !slices.Contains(catalogue.Families, f) {
			fs.Say(fmt.Sprintf("families[%d]", i), fault.Say(fault.OneOf, catalogue.Families), f)
		}
	}
	if n := s.QueueAgeSeconds; n != 0 && (n < MinQueueAgeSeconds || n > MaxQueueAgeSeconds) {
		fs.Say("queue_age_seconds", fault.Say(fault.Between, MinQueueAgeSeconds, MaxQueueAgeSeconds), n)
	}
	if n := s.QueueBytes; n != 0 && (n < MinQueueBytes || n > MaxQueueBytes) {
		fs.Say("queue_bytes", fault.Say(fault.Between, MinQueueBytes, int64(MaxQueueBytes)), n)
	}
	if r := s.LogRules; r != nil {
		r.validate(&fs)
	}
	if s.Raw != nil {
		s.Raw.validate(&fs)
	}
	return fs.Err()
}

// checked says of a list which of its patterns are wrong, and why.
func checked(fs *fault.Fields, at string, patterns []string, most, bytes int, check func(string) (wrong fault.Reason, ok bool)) {
	if len(patterns) > most {
		fs.Say(at, fault.Say(fault.EntriesAtMost, most), len(patterns))
		return
	}
	for i, p := range patterns {
		wrong, ok := check(p)
		if p == "" || len(p) > bytes {
			wrong, ok = fault.Say(fault.BytesBetween, 1, bytes), false
		}
		if !ok {
			fs.Say(fmt.Sprintf("%s[%d]", at, i), wrong, p)
		}
	}
}

func logPattern(p string) (fault.Reason, bool) {
	_, err := path.Match(strings.TrimPrefix(p, "!"), "")
	return fault.Say(fault.LogPattern), err == nil
}

func logWorkload(p string) (fault.Reason, bool) {
	if !strings.Contains(p, "/") {
		return fault.Say(fault.LogWorkload), false
	}
	return logPattern(p)
}

func checkSelector(fs *fault.Fields, at, s string) {
	if len(s) > maxPatternBytes {
		fs.Say(at, fault.Say(fault.BytesAtMost, maxPatternBytes), len(s))
	} else if _, err := labels.Parse(s); err != nil {
		fs.Say(at, fault.Say(fault.Selector, err.Error()), s)
	}
}

func (r *LogRules) validate(fs *fault.Fields) {
	checked(fs, "log_rules.namespaces", r.Namespaces, maxPatterns, maxPatternBytes, logPattern)
	checked(fs, "log_rules.workloads", r.Workloads, maxPatterns, maxPatternBytes, logWorkload)
	checked(fs, "log_rules.services", r.Services, maxPatterns, maxPatternBytes, func(p string) (fault.Reason, bool) {
		wrong, ok := logPattern(p)
		return wrong, ok && strings.Count(p, "/") <= 1
	})
	checked(fs, "log_rules.mask", r.Mask, MaxMasks, MaxMaskBytes, func(p string) (fault.Reason, bool) {
		re, err := regexp.Compile(p)
		if err != nil {
			return fault.Say(fault.LogMask, err.Error()), false
		}
		return fault.Say(fault.LogMaskEmpty), !re.MatchString("")
	})
	checkSelector(fs, "log_rules.selector", r.Selector)
	checkSelector(fs, "log_rules.annotations", r.Annotations)
	for at, n := range map[string]int64{"log_rules.lines_per_second": r.LinesPerSecond, "log_rules.bytes_per_second": r.BytesPerSecond, "log_rules.record_bytes": int64(r.RecordBytes)} {
		if n < 0 || n > 1<<40 {
			fs.Say(at, fault.Say(fault.NotNegativeNorOver, "2^40"), n)
		}
	}
	if n := len(r.Multiline); n > MaxMultiline {
		fs.Say("log_rules.multiline", fault.Say(fault.EntriesAtMost, MaxMultiline), n)
		return
	}
	for i, m := range r.Multiline {
		m.validate(fs, fmt.Sprintf("log_rules.multiline[%d]", i))
	}
}

func (m Multiline) validate(fs *fault.Fields, at string) {
	checked(fs, at+".namespaces", m.Namespaces, maxPatterns, maxPatternBytes, logPattern)
	checked(fs, at+".workloads", m.Workloads, maxPatterns, maxPatternBytes, logWorkload)
	checked(fs, at+".containers", m.Containers, maxPatterns, maxPatternBytes, logPattern)
	checkSelector(fs, at+".selector", m.Selector)
	checkSelector(fs, at+".annotations", m.Annotations)
	if (m.Start != "") == m.Off {
		fs.Say(at, fault.Say(fault.LogMultiline), m.Start)
	} else if len(m.Start) > MaxMultilineBytes {
		fs.Say(at+".start", fault.Say(fault.BytesAtMost, MaxMultilineBytes), len(m.Start))
	} else if _, err := regexp.Compile(m.Start); err != nil {
		fs.Say(at+".start", fault.Say(fault.LogMask, err.Error()), m.Start)
	}
}
