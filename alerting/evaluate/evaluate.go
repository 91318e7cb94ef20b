// Package evaluate owns whether an object is bad: how samples become windows,
// when a condition holds, and how an alert's latches move. All of it is pure;
// time comes in. It must not know where samples come from, what a policy looks
// like on the wire, nor who is told.
package evaluate

import (
	"iter"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

// Cause says why an alert ended.
type Cause string

// The causes of an end.
const (
	ValueNormal      Cause = "value_normal"
	ObjectDeleted    Cause = "object_deleted"
	ObjectFinished   Cause = "object_finished"
	ScaledDown       Cause = "scaled_down"
	WorkloadReplaced Cause = "workload_replaced"
	NotSelected      Cause = "not_selected"
	NotApplicable    Cause = "not_applicable"
	NoData           Cause = "no_data"
	ClusterRemoved   Cause = "cluster_removed"
	PolicyChanged    Cause = "policy_changed"
	PolicyDisabled   Cause = "policy_disabled"
	PolicyDeleted    Cause = "policy_deleted"
	Manual           Cause = "manual"
)

// NoDataLimit ends an alert whose object has had no value for so long.
const NoDataLimit = 24 * time.Hour

// An alert that changed between firing and ok more than FlapChanges times
// within FlapWithin stays open until it was good for FlapQuiet.
const (
	FlapChanges = 4
	FlapWithin  = time.Hour
	FlapQuiet   = 15 * time.Minute
)

// Severities is how many severities there are.
const Severities = 3

// Levels are values by severity, the least severe first; nil: not named.
type Levels [Severities]*float64

// Condition is one comparison on windows.
type Condition struct {
	Op         string // > >= < <= == !=
	Thresholds Levels
	Recovery   Levels // nil: the threshold
	Need, Of   int
}

// Rule is what a policy asks, as Step needs it.
type Rule struct {
	Conditions   []Condition
	Any          bool // else all
	RecoverAfter int
	NoData       string // keep | resolve | alert
	NoDataAfter  time.Duration
	NoDataRank   int // 1 to 3: severity of the alert of missing data
}

// Reach is how many windows of a condition Step looks at.
func (r *Rule) Reach(i int) int { return max(r.Conditions[i].reach(), 2*r.RecoverAfter) }

// reach: missing windows are skipped, but not without end.
func (c Condition) reach() int { return c.Of + (c.Of+1)/2 }

// Latch is closed while its severity is bad.
type Latch struct {
	Closed bool      `json:"closed"`
	Since  time.Time `json:"since,omitzero"` // of the newest change
}

// State is what is kept of an object that fires. Of one that does not, only
// its Changes within FlapWithin count.
type State struct {
	Latches [Severities]Latch `json:"latches"` // the least severe first
	Silent  Latch             `json:"silent"`  // the alert of missing data
	Newest  time.Time         `json:"newest"`  // time of the newest sample
	At      time.Time         `json:"at"`      // of the newest step; it never goes back
	// Changes are the times within FlapWithin at which it began to fire or ended.
	Changes   []time.Time `json:"changes,omitempty"`
	Flapping  bool        `json:"flapping,omitempty"`
	GoodSince time.Time   `json:"good_since,omitzero"` // while flapping: since when it would have ended
}

// Rank is that of the most severe closed latch, 0 when none is. silentRank is
// the severity of missing data.
func (s State) Rank(silentRank int) int {
	rank := 0
	for i, l := range s.Latches {
		if l.Closed {
			rank = i + 1
		}
	}
	if s.Silent.Closed {
		rank = max(rank, silentRank)
	}
	return rank
}

// Input is what Step judges.
type Input struct {
	At      time.Time
	Gone    Cause      // not empty: the object is not judged any more, and why
	Windows [][]Window // of each condition, the newest first
	// Newest sample that the conditions have: of the metric that lags most when
	// all must hold, of the freshest one otherwise. Zero: none was found.
	Newest   time.Time
	Interval time.Duration // of the sender
}

// Step gives the state after the judgement at in.At, and the cause when an
// alert ended by it. Pure: live evaluation and backtest call this same
// function. An input older than the state changes nothing.
func (s State) Step(r *Rule, in Input) (State, Cause) {
	if in.At.Before(s.At) {
		return s, ""
	}
	firing := s.Rank(r.NoDataRank) > 0
	next := s
	next.At = in.At
	if in.Newest.After(next.Newest) {
		next.Newest = in.Newest
	}
	ended := func(c Cause) (State, Cause) {
		if !firing {
			c = ""
		}
		return State{At: in.At, Newest: next.Newest}, c
	}
	if in.Gone != "" {
		return ended(in.Gone)
	}
	silent := false
	if !next.Newest.IsZero() {
		age := in.At.Sub(next.Newest)
		if age > NoDataLimit {
			return ended(NoData)
		}
		silent = age-in.Interval >= r.NoDataAfter
	}
	if silent && r.NoData == "resolve" {
		return ended(NoData)
	}
	next.Silent = next.Silent.set(silent && r.NoData == "alert", in.At)
	next.latches(r, in)
	return next.flap(s, firing, next.Rank(r.NoDataRank) > 0, in.At)
}

// flap holds open what would end too often. s is the state after the latches
// moved, before the one that it came from.
func (s State) flap(before State, was, is bool, at time.Time) (State, Cause) {
	s.Changes = nil
	for _, t := range before.Changes {
		if at.Sub(t) < FlapWithin {
			s.Changes = append(s.Changes, t)
		}
	}
	if was != is && (is || !before.Flapping) {
		s.Changes = append(s.Changes, at)
	}
	switch {
	case !was && !is:
		return s, ""
	case is:
		s.Flapping = before.Flapping || len(s.Changes) > FlapChanges
		s.GoodSince = time.Time{}
		return s, ""
	case !before.Flapping && len(s.Changes) <= FlapChanges:
		return s, ValueNormal
	}
	if s.Flapping = true; s.GoodSince.IsZero() {
		s.GoodSince = at
	}
	if at.Sub(s.GoodSince) >= FlapQuiet {
		s.Flapping, s.GoodSince, s.Changes = false, time.Time{}, append(s.Changes, at)
		return s, ValueNormal
	}
	s.Latches, s.Silent = before.Latches, before.Silent
	return s, ""
}

func (l Latch) set(closed bool, at time.Time) Latch {
	if l.Closed == closed {
		return l
	}
	return Latch{Closed: closed, Since: at}
}

func (s *State) latches(r *Rule, in Input) {
	worseHolds := false
	for i := Severities - 1; i >= 0; i-- {
		if !r.Names(i) {
			// An edit took the severity away: what was closed for it is judged by
			// what is left.
			s.Latches[i] = s.Latches[i].set(false, in.At)
			continue
		}
		switch {
		case worseHolds || r.holds(i, in.Windows):
			s.Latches[i] = s.Latches[i].set(true, in.At)
			worseHolds = true
		case s.Latches[i].Closed && r.recovered(i, in.Windows):
			s.Latches[i] = s.Latches[i].set(false, in.At)
		}
	}
}

// Names tells whether some condition has a threshold of the severity.
func (r *Rule) Names(severity int) bool {
	for _, c := range r.Conditions {
		if c.Thresholds[severity] != nil {
			return true
		}
	}
	return false
}

// judgedBy is the severity by which a condition that lacks one is judged when
// all must hold: the nearest that it has, the less severe first; −1: none.
func (c Condition) judgedBy(severity int) int {
	for d := range Severities {
		for _, i := range []int{severity - d, severity + d} {
			if i >= 0 && i < Severities && c.Thresholds[i] != nil {
				return i
			}
		}
	}
	return -1
}

func (r *Rule) holds(severity int, windows [][]Window) bool {
	if r.Any {
		for i, c := range r.Conditions {
			for worse := severity; worse < Severities; worse++ {
				if c.Thresholds[worse] != nil && c.holds(worse, windows[i]) {
					return true
				}
			}
		}
		return false
	}
	for i, c := range r.Conditions {
		by := c.judgedBy(severity)
		if by < 0 || !c.holds(by, windows[i]) {
			return false
		}
	}
	return len(r.Conditions) > 0
}

func (r *Rule) recovered(severity int, windows [][]Window) bool {
	if r.Any {
		for i, c := range r.Conditions {
			if c.Thresholds[severity] != nil && !c.recovered(severity, windows[i], r.RecoverAfter) {
				return false
			}
		}
		return true
	}
	for i, c := range r.Conditions {
		if by := c.judgedBy(severity); by >= 0 && c.recovered(by, windows[i], r.RecoverAfter) {
			return true
		}
	}
	return false
}

// present gives the newest n windows that have a value, of the first reach.
func present(windows []Window, n, reach int) iter.Seq[Window] {
	return func(yield func(Window) bool) {
		for _, w := range windows[:min(reach, len(windows))] {
			if n == 0 {
				return
			}
			if w.Missing {
				continue // it delays a change, it never makes or undoes one
			}
			if n--; !yield(w) {
				return
			}
		}
	}
}

// holds at a severity when the newest window is bad at it, and at least Need
// of the newest Of are.
func (c Condition) holds(severity int, windows []Window) bool {
	seen, bad := 0, 0
	for w := range present(windows, c.Of, c.reach()) {
		if seen++; compare(w.Value, c.Op, *c.Thresholds[severity]) {
			bad++
		} else if seen == 1 {
			return false
		}
	}
	return seen > 0 && bad >= c.Need
}

// recovered from a severity when the newest n windows are good: not even on
// the bad side of the recovery threshold.
func (c Condition) recovered(severity int, windows []Window, n int) bool {
	limit := c.Thresholds[severity]
	if c.Recovery[severity] != nil {
		limit = c.Recovery[severity]
	}
	seen := 0
	for w := range present(windows, n, 2*n) {
		if seen++; compare(w.Value, c.Op, *limit) {
			return false
		}
	}
	return seen == n
}

// Holds tells for people whether a condition holds at a severity now.
func (c Condition) Holds(rank int, windows []Window) bool {
	by := c.judgedBy(rank - 1)
	return by >= 0 && c.holds(by, windows)
}

// Threshold that a condition is judged by at a severity, from 1 to 3.
func (c Condition) Threshold(rank int) (v float64, by catalogue.Severity, ok bool) {
	i := c.judgedBy(rank - 1)
	if i < 0 {
		return 0, "", false
	}
	return *c.Thresholds[i], catalogue.Severities[i], true
}

// Least gives the threshold of the least severity that is named.
func (c Condition) Least() (v float64, ok bool) {
	for _, t := range c.Thresholds {
		if t != nil {
			return *t, true
		}
	}
	return 0, false
}

// Bad tells whether a value is bad at the threshold.
func (c Condition) Bad(v, threshold float64) bool { return compare(v, c.Op, threshold) }

func compare(v float64, op string, threshold float64) bool {
	switch op {
	case ">":
		return v > threshold
	case ">=":
		return v >= threshold
	case "<":
		return v < threshold
	case "<=":
		return v <= threshold
	case "==":
		return v == threshold
	case "!=":
		return v != threshold
	}
	return false
}
