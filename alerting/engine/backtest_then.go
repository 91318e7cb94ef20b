package engine

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/routing"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// then are routes and mutes as they were, version by version.
type then struct {
	coming  []meta.Version // of after the present time, the oldest first
	current map[string]meta.Resource
	first   []meta.Resource // routes that came first, for a time before there were any
	made    bool            // the set is that of current
}

// thenKinds are what is replayed as it was. Targets are those of now: it is they
// who would be told.
var thenKinds = []string{meta.KindRoute, meta.KindSilence, meta.KindMaintenance, meta.KindInhibition}

// loadThen reads the versions of routes and mutes up to the end of the replay.
func (b *replay) loadThen(ctx context.Context) error {
	b.then = then{current: map[string]meta.Resource{}}
	return b.live.opts.Meta.View(ctx, func(tx *meta.Tx) error {
		for _, kind := range thenKinds {
			of, err := tx.VersionsOf(kind)
			if err != nil {
				return err
			}
			b.then.coming = append(b.then.coming, of...)
		}
		slices.SortStableFunc(b.then.coming, func(x, y meta.Version) int { return x.UpdatedAt.Compare(y.UpdatedAt) })
		// Whoever had no route yet wants to know who would be told by those that came
		// with the first one.
		var began time.Time
		for _, v := range b.then.coming {
			if v.Kind != meta.KindRoute || v.Deleted || (!began.IsZero() && v.UpdatedAt.Sub(began) > firstRoutes) {
				continue
			}
			if began.IsZero() {
				began = v.UpdatedAt
			}
			b.then.first = slices.DeleteFunc(b.then.first, func(r meta.Resource) bool { return r.ID == v.ID })
			b.then.first = append(b.then.first, v.Resource)
		}
		return nil
	})
}

// firstRoutes is how long somebody who begins takes to write their routes.
const firstRoutes = time.Hour

// asThen has the shadow route and mute as the live engine did at a time, which
// never goes back.
func (b *replay) asThen(t time.Time) {
	th := &b.then
	for len(th.coming) > 0 && !th.coming[0].UpdatedAt.After(t) {
		v := th.coming[0]
		th.coming, th.made = th.coming[1:], false
		if v.Deleted {
			delete(th.current, v.ID)
		} else {
			th.current[v.ID] = v.Resource
		}
	}
	if th.made {
		return
	}
	rows, routes := make([]meta.Resource, 0, len(th.current)), false
	for _, r := range th.current {
		rows = append(rows, r)
		routes = routes || r.Kind == meta.KindRoute
	}
	if !routes {
		rows = append(rows, th.first...)
	}
	slices.SortFunc(rows, func(x, y meta.Resource) int { return cmp.Compare(x.ID, y.ID) })
	set, _ := routing.Compile(rows) // what could not be read then did nothing then
	b.shadow.routing = set
	th.made = true
}
