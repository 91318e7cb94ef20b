package logs

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// Rules say which lines are collected, and in what shape they leave the node.
type Rules struct {
	Join   JoinOptions
	Mask   MaskOptions
	Select SelectOptions
	Limit  LimitOptions
}

// SelectOptions say whose lines are collected. Every part that is given must
// match. A pod that is not known yet is judged by its namespace alone. A pod's
// annotation logs.crowsnest.dev/collect: "false", or the same with a dot and a
// container's name behind it, leaves it out in any case.
type SelectOptions struct {
	// Namespaces and Workloads ("deployment/cart") are patterns as path.Match has
	// them; one that begins with "!" leaves out what it matches. Where all patterns
	// leave out, the rest is taken.
	Namespaces []string
	Workloads  []string
	// Services are such patterns of names, as cart or shop/*, the latter with the
	// namespace. A pod may be of several: one that is left out decides. What is followed
	// goes on being followed when its pod is taken out of a Service.
	Services []string
	// Labels is a selector of the pod's labels, Annotations of those of its
	// annotations that begin with logs.crowsnest.dev/.
	Labels      string
	Annotations string
}

// LimitOptions bound what one container may bring. Zero bounds nothing. A pod's
// annotations logs.crowsnest.dev/lines-per-second and …/bytes-per-second win.
type LimitOptions struct {
	// Lines and Bytes are rates per second, over spans of ten seconds of the lines'
	// own times, so that what waited is not dropped for being read at once.
	Lines int64
	Bytes int64
	// LineBytes cuts records that are longer.
	LineBytes int
}

// Drops are the reasons for which lines are not sent, with words for people.
var dropWords = map[string]string{
	DropRotated: "rotated away",
	DropAway:    "rotated away while no collector ran",
	DropRate:    "over the container's rate limit",
	DropGone:    "instances came and went between two looks",
	DropPod:     "the pod was deleted before its log was read to the end",
	DropRefused: "refused by the server",
	DropFull:    "the server was away, and what is kept of rotated files was full",
	DropOld:     "the server was away for longer than rotated files are kept",
}

func (r *Rules) complete() error {
	var errs []error
	errs = append(errs, r.Join.complete())
	if r.Limit.Lines < 0 || r.Limit.Bytes < 0 || r.Limit.LineBytes < 0 {
		errs = append(errs, errors.New("limits of log lines must not be negative"))
	}
	_, err := newSelection(r.Select)
	return errors.Join(append(errs, err)...)
}

// next holds rules that wait for the next Run.
type next struct {
	mu    sync.Mutex
	rules *understood
}

// understood are rules that were checked, ready to be gone by.
type understood struct {
	Rules
	shaper  shaper
	selects selection
	joins   joining
}

func (n *next) set(r Rules, s Services, m *metrics) error {
	if err := errors.Join(r.complete(), r.answerable(s)); err != nil {
		return err
	}
	shaper, err := newShaper(r, m)
	if err != nil {
		return err
	}
	selects, err := newSelection(r.Select)
	if err != nil {
		return err
	}
	joins, err := newJoining(r.Join)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rules = &understood{r, shaper, selects, joins}
	return nil
}

func (n *next) take() *understood {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.rules
	n.rules = nil
	return r
}

// selection is a SelectOptions that was understood.
type selection struct {
	namespaces, workloads []string
	services              []string // each with a namespace
	labels, annotations   labels.Selector
}

func newSelection(o SelectOptions) (selection, error) {
	s := selection{namespaces: o.Namespaces, workloads: o.Workloads, labels: labels.Everything(), annotations: labels.Everything()}
	errs := []error{checkPatterns(slices.Concat(o.Namespaces, o.Workloads, o.Services))}
	for _, p := range o.Workloads {
		if !strings.Contains(p, "/") {
			errs = append(errs, fmt.Errorf("log selection: workload %q must be type/name, as deployment/cart or */cart", p))
		}
	}
	for _, p := range o.Services {
		name := strings.TrimPrefix(p, "!")
		switch strings.Count(name, "/") {
		case 0:
			p = p[:len(p)-len(name)] + "*/" + name
		case 1:
		default:
			errs = append(errs, fmt.Errorf("log selection: service %q must be name or namespace/name, as cart or shop/*", p))
		}
		s.services = append(s.services, p)
	}
	for _, c := range []struct {
		of   string
		text string
		to   *labels.Selector
	}{{"labels", o.Labels, &s.labels}, {"annotations", o.Annotations, &s.annotations}} {
		sel, err := labels.Parse(c.text)
		if err != nil {
			errs = append(errs, fmt.Errorf("log selection by %s: %w", c.of, err))
			continue
		}
		*c.to = sel
	}
	return s, errors.Join(errs...)
}

func checkPatterns(patterns []string) error {
	var errs []error
	for _, p := range patterns {
		if _, err := path.Match(strings.TrimPrefix(p, "!"), ""); err != nil || strings.TrimPrefix(p, "!") == "" {
			errs = append(errs, fmt.Errorf("log selection: %q is no pattern", p))
		}
	}
	return errors.Join(errs...)
}

// takes says whether a container's lines are collected; pod is nil when it is not
// known.
func (s selection) takes(id Container, pod *object.Pod) bool {
	if !matches(s.namespaces, id.Namespace) {
		return false
	}
	if pod == nil {
		return true
	}
	for _, name := range []string{object.AnnotationCollect, object.AnnotationCollect + "." + id.Container} {
		if pod.Annotations[name] == "false" {
			return false
		}
	}
	return matches(s.workloads, pod.Workload.String()) && s.labels.Matches(labels.Set(pod.Labels)) && s.annotations.Matches(labels.Set(pod.Annotations))
}

func matches(patterns []string, name string) bool {
	takes, leavesOut := match(patterns, name)
	return !leavesOut && (takes || onlyLeavesOut(patterns))
}

// onlyLeavesOut says that what no pattern matches is wanted.
func onlyLeavesOut(patterns []string) bool {
	return !slices.ContainsFunc(patterns, func(p string) bool { return !strings.HasPrefix(p, "!") })
}

func match(patterns []string, name string) (takes, leavesOut bool) {
	for _, p := range patterns {
		if ok, _ := path.Match(strings.TrimPrefix(p, "!"), name); !ok {
			continue
		}
		if strings.HasPrefix(p, "!") {
			leavesOut = true
		} else {
			takes = true
		}
	}
	return takes, leavesOut
}

// shaper gives a record the shape in which it leaves the node.
type shaper struct {
	masker  *masker
	limit   int // of bytes; 0: none
	metrics *metrics
}

func newShaper(r Rules, m *metrics) (shaper, error) {
	masker, err := newMasker(r.Mask, func(rule string) { m.masked.WithLabelValues(rule).Inc() })
	return shaper{masker, r.Limit.LineBytes, m}, err
}

// each calls take for the parts of a record of that time, which are several when it is longer
// than a line may be.
func (s shaper) each(text string, at int64, room *fieldRoom, take func(message string, fields wire.LogFields)) {
	text = s.masker.mask(strings.TrimRight(text, "\n"))
	if s.limit > 0 && len(text) > s.limit {
		s.metrics.cut.Inc()
		whole := len(text)
		text = cutText(text, min(s.limit, wire.MaxLogLineBytes))[0]
		message, fields := room.parse(text, at)
		take(message, append(fields, wire.LogField{Name: "crowsnest_cut_bytes", Value: strconv.Itoa(whole - len(text))}))
		return
	}
	if len(text) <= wire.MaxLogLineBytes {
		take(room.parse(text, at))
		return
	}
	for _, part := range cutText(text, wire.MaxLogLineBytes) {
		take(room.parse(part, at))
	}
}

// span is what a rate is measured over.
const span = 10 * time.Second

// limiter counts the lines and bytes of one container within a span.
type limiter struct {
	lines, bytes int64 // allowed in a span; 0: any
	span         int64
	seen, size   int64
}

func newLimiter(o LimitOptions, pod *object.Pod) limiter {
	l := limiter{lines: o.Lines, bytes: o.Bytes}
	if pod != nil {
		for name, to := range map[string]*int64{object.AnnotationLinesPerSecond: &l.lines, object.AnnotationBytesPerSecond: &l.bytes} {
			if n, err := strconv.ParseInt(pod.Annotations[name], 10, 64); err == nil && n >= 0 {
				*to = min(n, 1<<40)
			}
		}
	}
	l.lines *= int64(span / time.Second)
	l.bytes *= int64(span / time.Second)
	return l
}

// takes counts a record, and says whether it is within the limits.
func (l *limiter) takes(nanos int64, lines, bytes int) bool {
	if l.lines == 0 && l.bytes == 0 {
		return true
	}
	if s := nanos / int64(span); s != l.span {
		l.span, l.seen, l.size = s, 0, 0
	}
	if l.lines > 0 && l.seen+int64(lines) > l.lines || l.bytes > 0 && l.size+int64(bytes) > l.bytes {
		return false
	}
	l.seen += int64(lines)
	l.size += int64(bytes)
	return true
}

// drop is lines of one stream that are not sent.
type drop struct {
	lines       int
	bytes       int64
	from, until int64 // times of the first and the last; 0 when unknown
}

type dropKey struct {
	stream  wire.LogStream
	reason  string
	counted bool // their number is known: with others it would be none
}

func (d *drop) add(lines, bytes int, from, until int64) {
	if d.from == 0 || from != 0 && from < d.from {
		d.from = from
	}
	d.until = max(d.until, until)
	d.lines += lines
	d.bytes += int64(bytes)
}

// line tells of a drop in the container's own stream.
func (d *drop) line(k dropKey) wire.LogLine {
	w := wire.Dropped{Reason: k.reason, Words: dropWords[k.reason], Lines: d.lines, Bytes: d.bytes, From: d.from, Until: d.until}
	return w.Line(k.stream, d.until)
}
