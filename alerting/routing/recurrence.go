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
	next  func() (time.Time, bool)
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
	next := r.occurrences()
	for range maxSteps {
		v, ok := next()
		if !ok || len(out) == n {
			break
		}
		if v.After(t) {
			out = append(out, v.UTC())
		}
	}
	return out
}

// occurrences gives one after the other. The rule is walked through by the
// clock on the wall: where that is set forward, two of its times can be the same
// moment, which comes once; where it is set back, what happens every hour happens
// in both hours that show alike, all else in the first, as RFC 5545 means it.
func (r *recurring) occurrences() func() (time.Time, bool) {
	next := r.rule.Iterator()
	hourly := r.rule.OrigOptions.Freq == rrule.HOURLY && r.rule.OrigOptions.Interval <= 1
	ahead, ok := next()
	var again []time.Time // the second times of what was given
	var newest time.Time
	return func() (time.Time, bool) {
		for range maxSteps {
			var t time.Time
			switch {
			case len(again) > 0 && (!ok || again[0].Before(alike(ahead, -1))):
				t, again = again[0], again[1:]
			case !ok:
				return t, false
			default:
				t = alike(ahead, -1)
				if second := alike(t, 1); hourly && second.After(t) {
					again = append(again, second)
				}
				ahead, ok = next()
			}
			if t.After(newest) {
				newest = t
				return t, true
			}
		}
		return time.Time{}, false
	}
}

// alike is the other time before (-1) or after (1) one that a clock shows alike,
// as where it is set back; t itself when there is none.
func alike(t time.Time, direction time.Duration) time.Time {
	_, offset := t.Zone()
	for _, by := range []time.Duration{time.Hour, 30 * time.Minute} {
		other := t.Add(direction * by)
		if _, o := other.Zone(); direction*by == time.Duration(offset-o)*time.Second {
			return other
		}
	}
	return t
}

func (r *recurring) seekLocked(t time.Time) {
	if r.next == nil || t.Before(r.asked) {
		r.next, r.start = r.occurrences(), time.Time{}
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
	t, _ := r.next() // zero at the end
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

// Last gives when the newest window of a maintenance began, at or before a time;
// false: none did.
func Last(s MaintenanceSpec, before time.Time) (began time.Time, ok bool) {
	if s.Starts == nil {
		return time.Time{}, false
	}
	r, err := newRecurring(s.RRule, s.Timezone, *s.Starts, s.Duration.D())
	if err != nil {
		return time.Time{}, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seekLocked(before)
	return r.start.UTC(), !r.start.IsZero()
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
