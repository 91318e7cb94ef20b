package notify

import (
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // zones also where the system has none, as in our image

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// Calendar says when a target may be told of something new. Outside of it a
// firing waits for the opening, or goes to another target.
type Calendar struct {
	Timezone string   `json:"timezone" doc:"IANA zone, as Europe/Berlin."`
	Within   []Within `json:"within" doc:"The target is open in any of these."`
	Outside  string   `json:"outside,omitempty" doc:"Name of a target that is told instead. Left out: the message waits."`
}

// Within is a part of some days of the week.
type Within struct {
	Days []string `json:"days,omitempty" doc:"Of mon, tue, wed, thu, fri, sat, sun. Left out: all."`
	From string   `json:"from" doc:"As 08:00."`
	To   string   `json:"to" doc:"As 18:00, or 24:00. Before from: on the next day."`
}

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

const maxWithin = 50

func loadZone(name string) (*time.Location, error) {
	// LoadLocation takes "" and "Local", which mean something else on each machine.
	if name == "" || name == "Local" {
		return nil, fmt.Errorf("must be an IANA zone, as Europe/Berlin")
	}
	l, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("there is no time zone of this name; must be an IANA zone, as Europe/Berlin")
	}
	return l, nil
}

// clockTime reads 08:00 as minutes of the day; 24:00 is the day's end.
func clockTime(s string) (minutes int, ok bool) {
	if s == "24:00" {
		return 24 * 60, true
	}
	t, err := time.Parse("15:04", s)
	if err != nil || len(s) != 5 {
		return 0, false
	}
	return t.Hour()*60 + t.Minute(), true
}

func (v *targetCheck) calendar(c *Calendar, name string) {
	if c == nil {
		return
	}
	if _, err := loadZone(c.Timezone); err != nil {
		v.add("spec.calendar.timezone", fault.Say(fault.Zone), orNil(c.Timezone))
	}
	if len(c.Within) == 0 || len(c.Within) > maxWithin {
		v.add("spec.calendar.within", fault.Say(fault.EntriesBetween, 1, maxWithin), len(c.Within))
	}
	for i, w := range c.Within {
		at := fmt.Sprintf("spec.calendar.within[%d]", i)
		for j, d := range w.Days {
			if !slices.Contains(weekdays, d) {
				v.add(fmt.Sprintf("%s.days[%d]", at, j), fault.Say(fault.WeekDay), d)
			}
		}
		from, okFrom := clockTime(w.From)
		to, okTo := clockTime(w.To)
		switch {
		case !okFrom || from == 24*60:
			v.add(at+".from", fault.Say(fault.DayTime, "08:00"), orNil(w.From))
		case !okTo:
			v.add(at+".to", fault.Say(fault.DayTime, "18:00, 24:00"), orNil(w.To))
		case from == to:
			v.add(at+".to", fault.Say(fault.DayTimeSame), w.To)
		}
	}
	if c.Outside != "" && c.Outside == name {
		v.add("spec.calendar.outside", fault.Say(fault.TargetOther), c.Outside)
	}
}

// State says whether the calendar is open at a time, and if not, when it opens.
// Of the two times that a clock shows twice in autumn both count; a time that
// spring leaves out is the moment after the gap.
func (c *Calendar) State(now time.Time) (open bool, opens time.Time) {
	if c == nil {
		return true, time.Time{}
	}
	zone, err := loadZone(c.Timezone)
	if err != nil {
		return true, time.Time{} // it was valid when it was written; being told too early is the lesser harm
	}
	local := now.In(zone)
	for _, w := range c.Within {
		from, _ := clockTime(w.From)
		to, _ := clockTime(w.To)
		minute := local.Hour()*60 + local.Minute()
		today, yesterday := local.Weekday(), (local.Weekday()+6)%7
		switch {
		case from < to && w.on(today) && minute >= from && minute < to:
			return true, time.Time{}
		case from > to && w.on(today) && minute >= from, from > to && w.on(yesterday) && minute < to:
			return true, time.Time{}
		}
		for ahead := range 8 {
			day := time.Date(local.Year(), local.Month(), local.Day()+ahead, from/60, from%60, 0, 0, zone)
			if day.After(now) && w.on(day.Weekday()) {
				if opens.IsZero() || day.Before(opens) {
					opens = day
				}
				break
			}
		}
	}
	return false, opens.UTC()
}

func (w Within) on(d time.Weekday) bool {
	return len(w.Days) == 0 || slices.Contains(w.Days, strings.ToLower(d.String()[:3]))
}
