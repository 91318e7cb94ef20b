package routing

import (
	"errors"
	"fmt"
	"sync"
	"time"
	_ "time/tzdata" // an image may hold nothing but the program

	"github.com/teambition/rrule-go"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// previewed is how many coming occurrences are shown.
const previewed = 5

// maxSteps bounds how many occurrences are walked through in one go.
const maxSteps = 100_000

// maxStartYears is how long ago a rule may have begun: an hourly one is walked
// through in maxSteps.
const maxStartYears = 10

var errFrequency = errors.New("FREQ must be HOURLY, DAILY, WEEKLY, MONTHLY or YEARLY")

// recurring is a rule that is walked through forwards, so that asking for one
// time after the other costs nothing.
type recurring struct {
	rule     *rrule.RRule
	duration time.Duration

	mu    sync.Mutex
	next  rrule.Next
	start time.Time // of the newest occurrence that began at or before asked
	then  time.Time // of the one after; zero: there is none
	asked time.Time
}

func newRecurring(text, timezone string, starts time.Time, duration time.Duration) (*recurring, error) {
	zone := time.UTC
	if timezone != "" {
		var err error
		if zone, err = time.LoadLocation(timezone); err != nil || timezone == "Local" {
			return nil, fmt.Errorf("time zone %q is not known", timezone)
		}
	}
	o, err := rrule.StrToROptionInLocation(text, zone)
	if err != nil {
		return nil, err
	}
	if o.Freq > rrule.HOURLY {
		return nil, errFrequency
	}
	if o.Dtstart.IsZero() {
		o.Dtstart = starts.In(zone).Truncate(time.Second)
	}
	r, err := rrule.NewRRule(*o)
	if err != nil {
		return nil, err
	}
	return &recurring{rule: r, duration: duration}, nil
}

// at tells whether an occurrence goes on, and when it ends.
func (r *recurring) at(t time.Time) (until time.Time, active bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seekLocked(t)
	if r.start.IsZero() || !t.Before(r.start.Add(r.duration)) {
		return time.Time{}, false
	}
	return r.start.Add(r.duration).UTC(), true
}

// coming gives the next occurrences that begin after t.
func (r *recurring) coming(t time.Time, n int) []time.Time {
	var out []time.Time
	next := r.rule.Iterator()
	for range maxSteps {
		v, ok := next()
		if !ok || len(out) == n {
			break
		}
		if v = first(v); v.After(t) {
			out = append(out, v.UTC())
		}
	}
	return out
}

func (r *recurring) seekLocked(t time.Time) {
	if r.next == nil || t.Before(r.asked) {
		r.next, r.start = r.rule.Iterator(), time.Time{}
		r.then = r.nextLocked()
	}
	r.asked = t
	for range maxSteps {
		if r.then.IsZero() || r.then.After(t) {
			return
		}
		r.start = r.then
		r.then = r.nextLocked()
	}
}

// nextLocked gives the occurrence after the newest; zero: there is none.
func (r *recurring) nextLocked() time.Time {
	t, ok := r.next()
	if !ok {
		return time.Time{}
	}
	return first(t)
}

// first of two times that a clock shows alike, as when it is set back: RFC 5545
// means that one.
func first(t time.Time) time.Time {
	const clock = "2006-01-02 15:04:05"
	if earlier := t.Add(-time.Hour); earlier.Format(clock) == t.Format(clock) {
		return earlier
	}
	return t
}

// recurrence validates a maintenance's rule and zone.
func (c *check) recurrence(s *MaintenanceSpec) {
	if s.Timezone != "" {
		if _, err := time.LoadLocation(s.Timezone); err != nil || s.Timezone == "Local" {
			c.add("spec.timezone", fault.Say(fault.Zone), s.Timezone)
			return
		}
	}
	if s.RRule == "" {
		c.add("spec.rrule", fault.Say(fault.RuleNeeded), nil)
		return
	}
	r, err := newRecurring(s.RRule, s.Timezone, *s.Starts, s.Duration.D())
	if err != nil {
		c.add("spec.rrule", fault.Say(fault.RuleWrong, err.Error()), s.RRule)
		return
	}
	if first := r.coming(time.Time{}, 2); len(first) == 0 {
		c.add("spec.rrule", fault.Say(fault.RuleNever), s.RRule)
	} else if len(first) == 2 && first[1].Sub(first[0]) < s.Duration.D() {
		c.add("spec.duration", fault.Say(fault.DurationOverlaps, first[1].Sub(first[0])), s.Duration.String())
	}
}

// Preview gives when the next five windows of a maintenance begin.
func Preview(s MaintenanceSpec, after time.Time) ([]time.Time, error) {
	starts := after
	if s.Starts != nil {
		starts = *s.Starts
	}
	r, err := newRecurring(s.RRule, s.Timezone, starts, s.Duration.D())
	if err != nil {
		return nil, err
	}
	return r.coming(after, previewed), nil
}

// Active tells whether a window of a maintenance goes on, and when it ends.
func Active(s MaintenanceSpec, now time.Time) (until time.Time, active bool) {
	if s.Starts == nil {
		return time.Time{}, false
	}
	r, err := newRecurring(s.RRule, s.Timezone, *s.Starts, s.Duration.D())
	if err != nil {
		return time.Time{}, false
	}
	return r.at(now)
}
