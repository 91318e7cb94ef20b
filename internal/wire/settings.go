package wire

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

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
	Selector       string   `json:"selector,omitempty"`         // of the pods' labels
	Mask           []string `json:"mask,omitempty"`             // regular expressions, beside those that are masked anyway
	LinesPerSecond int64    `json:"lines_per_second,omitempty"` // of one container
	BytesPerSecond int64    `json:"bytes_per_second,omitempty"`
	RecordBytes    int      `json:"record_bytes,omitempty"` // longer records are cut
}

// Bounds of settings.
const (
	MinQueueAgeSeconds = 600
	MaxQueueAgeSeconds = 30 * 24 * 3600
	MinQueueBytes      = 16 << 20
	MaxQueueBytes      = 1 << 40
	maxPatterns        = 200
	maxPatternBytes    = 1000
)

// Validate says all that is wrong, as fault.Fields.
func (s Settings) Validate() error {
	var fs fault.Fields
	if !slices.Contains([]int{0, 10, 15, 30, 60}, s.IntervalSeconds) {
		fs.Add("interval_seconds", "must be 10, 15, 30 or 60", s.IntervalSeconds)
	}
	for i, f := range s.Families {
		if !slices.Contains(catalogue.Families, f) {
			fs.Add(fmt.Sprintf("families[%d]", i), fmt.Sprintf("must be one of %v", catalogue.Families), f)
		}
	}
	if n := s.QueueAgeSeconds; n != 0 && (n < MinQueueAgeSeconds || n > MaxQueueAgeSeconds) {
		fs.Add("queue_age_seconds", fmt.Sprintf("must be %d to %d", MinQueueAgeSeconds, MaxQueueAgeSeconds), n)
	}
	if n := s.QueueBytes; n != 0 && (n < MinQueueBytes || n > MaxQueueBytes) {
		fs.Add("queue_bytes", fmt.Sprintf("must be %d to %d", MinQueueBytes, int64(MaxQueueBytes)), n)
	}
	if r := s.LogRules; r != nil {
		r.validate(&fs)
	}
	if s.Raw != nil {
		s.Raw.validate(&fs)
	}
	return fs.Err()
}

func (r *LogRules) validate(fs *fault.Fields) {
	list := func(at string, patterns []string, check func(string) string) {
		if len(patterns) > maxPatterns {
			fs.Add(at, fmt.Sprintf("must have at most %d entries", maxPatterns), len(patterns))
			return
		}
		for i, p := range patterns {
			why := check(p)
			if p == "" || len(p) > maxPatternBytes {
				why = fmt.Sprintf("must have 1 to %d bytes", maxPatternBytes)
			}
			if why != "" {
				fs.Add(fmt.Sprintf("%s[%d]", at, i), why, p)
			}
		}
	}
	pattern := func(p string) string {
		if _, err := path.Match(strings.TrimPrefix(p, "!"), ""); err != nil {
			return "is no pattern, as shop, team-* or !kube-system"
		}
		return ""
	}
	list("log_rules.namespaces", r.Namespaces, pattern)
	list("log_rules.workloads", r.Workloads, func(p string) string {
		if !strings.Contains(p, "/") {
			return "must be type/name, as deployment/cart or !*/noisy"
		}
		return pattern(p)
	})
	list("log_rules.mask", r.Mask, func(p string) string {
		if _, err := regexp.Compile(p); err != nil {
			return "is no regular expression: " + err.Error()
		}
		return ""
	})
	if len(r.Selector) > maxPatternBytes {
		fs.Add("log_rules.selector", fmt.Sprintf("must have at most %d bytes", maxPatternBytes), len(r.Selector))
	}
	for at, n := range map[string]int64{"log_rules.lines_per_second": r.LinesPerSecond, "log_rules.bytes_per_second": r.BytesPerSecond, "log_rules.record_bytes": int64(r.RecordBytes)} {
		if n < 0 || n > 1<<40 {
			fs.Add(at, "must not be negative, nor over 2^40", n)
		}
	}
}
