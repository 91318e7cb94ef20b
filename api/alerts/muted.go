package alerts

import (
	"slices"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/routing"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// activeMutes are the silences and maintenance windows as they are stored. What the
// engine noted with an incident is as old as its last change or message: a silence
// that was made, taken back or ran out since is not in it.
type activeMutes struct {
	set    *routing.Set
	now    time.Time
	active bool
}

func mutesAt(tx *meta.Tx, now time.Time) (*activeMutes, error) {
	var rows []meta.Resource
	for _, kind := range []string{meta.KindSilence, meta.KindMaintenance} {
		of, err := tx.Resources(kind)
		if err != nil {
			return nil, err
		}
		rows = append(rows, of...)
	}
	set, _ := routing.Compile(rows) // one that cannot be read mutes nothing; the engine tells of it
	return &activeMutes{set, now, set.Mutes(now)}, nil
}

// of gives what mutes all of an incident that fires; nothing while an alert of it
// is told. What inhibits is taken from the engine's note, which follows what fires.
func (m *activeMutes) of(tx *meta.Tx, row meta.Incident, st incident.State) ([]routing.Muting, error) {
	if row.State != meta.IncidentOpen {
		return nil, nil
	}
	var live []routing.Muting
	all := false
	if m.active {
		alerts, err := tx.AlertsOf(row.ID)
		if err != nil {
			return nil, err
		}
		none := m.set.Sources(nil)
		all = true
		for _, r := range alerts {
			a, err := incident.FromRow(r)
			if err != nil {
				return nil, err
			}
			if !a.Firing {
				continue
			}
			by := m.set.MutedAmong(a.Facts(), none, m.now)
			all = all && len(by) > 0
			for _, x := range by {
				if !slices.Contains(live, x) {
					live = append(live, x)
				}
			}
		}
	}
	inhibited, holds := false, true
	for _, x := range st.Muted {
		if x.Kind == meta.KindInhibition {
			inhibited = true
			if all {
				live = append(live, x)
			}
		} else {
			holds = holds && slices.ContainsFunc(live, func(y routing.Muting) bool { return y.Kind == x.Kind && y.Name == x.Name })
		}
	}
	switch {
	case all:
		return live, nil
	case inhibited && holds: // an alert that nothing else mutes is inhibited
		return st.Muted, nil
	}
	return nil, nil
}
