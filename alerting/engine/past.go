package engine

import (
	"context"
	"slices"
	"sort"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/evaluate"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/storage/inventory"
)

// Archive is what the engine asks of objects as they once were.
type Archive interface {
	// Versions lists the states that an object had within a time range, the
	// oldest first.
	Versions(ctx context.Context, cluster string, key object.Key, from, to time.Time) ([]inventory.Version, error)
	// VersionsOf calls fn with those of some objects of a kind, each named once.
	VersionsOf(ctx context.Context, cluster string, kind object.Kind, keys []object.Key, from, to time.Time, fn func(inventory.Version) error) error
	// History calls fn with the states that all objects of a kind had, object by
	// object, the oldest first.
	History(ctx context.Context, cluster string, kind object.Kind, from, to time.Time, fn func(inventory.Version) error) error
}

var _ Archive = (*inventory.Store)(nil)

// remembering is an archive that is asked the same by the replays of many policies,
// one after another, and reads it once. For one goroutine.
type remembering struct {
	Archive
	versions map[versionsOf][]inventory.Version
	history  map[historyOf][]inventory.Version
}

type versionsOf struct {
	cluster  string
	key      object.Key
	from, to int64
}

type historyOf struct {
	cluster  string
	from, to int64
}

// maxRemembered objects; with more, it begins anew.
const maxRemembered = 20_000

func remember(a Archive) *remembering {
	return &remembering{Archive: a, versions: map[versionsOf][]inventory.Version{}, history: map[historyOf][]inventory.Version{}}
}

func (r *remembering) VersionsOf(ctx context.Context, cluster string, kind object.Kind, keys []object.Key, from, to time.Time, fn func(inventory.Version) error) error {
	of := func(key object.Key) versionsOf { return versionsOf{cluster, key, from.UnixMilli(), to.UnixMilli()} }
	var unknown []object.Key
	for _, key := range keys {
		known, ok := r.versions[of(key)]
		if !ok {
			unknown = append(unknown, key)
		}
		for _, v := range known {
			if err := fn(v); err != nil {
				return err
			}
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	found := map[object.Key][]inventory.Version{}
	err := r.Archive.VersionsOf(ctx, cluster, kind, unknown, from, to, func(v inventory.Version) error {
		key := object.KeyOf(v.Object)
		found[key] = append(found[key], v)
		return fn(v)
	})
	if err != nil {
		return err
	}
	for _, key := range unknown {
		if len(r.versions) >= maxRemembered {
			clear(r.versions)
		}
		r.versions[of(key)] = found[key]
	}
	return nil
}

// History remembers namespaces, which every replay asks for and which are few.
func (r *remembering) History(ctx context.Context, cluster string, kind object.Kind, from, to time.Time, fn func(inventory.Version) error) error {
	if kind != object.KindNamespace {
		return r.Archive.History(ctx, cluster, kind, from, to, fn)
	}
	of := historyOf{cluster, from.UnixMilli(), to.UnixMilli()}
	all, ok := r.history[of]
	if !ok {
		err := r.Archive.History(ctx, cluster, kind, from, to, func(v inventory.Version) error { all = append(all, v); return nil })
		if err != nil {
			return err
		}
		r.history[of] = all
	}
	for _, v := range all {
		if err := fn(v); err != nil {
			return err
		}
	}
	return nil
}

// tombstoneFor is how long live evaluation remembers what is gone.
const tombstoneFor = 24 * time.Hour

// past shows one cluster's objects as they were at a time that can be moved. It
// knows those that were loaded. For one goroutine.
type past struct {
	now      Inventory
	archive  Archive
	cluster  string
	from, to time.Time
	at       time.Time
	began    time.Time // of the inventory; zero: what was before it is not asked
	versions map[object.Key][]inventory.Version
}

var _ Inventory = (*past)(nil)

func newPast(now Inventory, archive Archive, cluster string, from, to time.Time) *past {
	return &past{now: now, archive: archive, cluster: cluster, from: from.Add(-tombstoneFor), to: to, at: to, versions: map[object.Key][]inventory.Version{}}
}

// load reads what is to be known of subjects: their objects, and the workloads that
// these had.
func (p *past) load(ctx context.Context, subs ...subject) error {
	var keys, workloads []object.Key
	for _, sub := range subs {
		if key, _, ok := objectKey(sub.level, sub.object); ok {
			keys = append(keys, key)
		}
	}
	if err := p.fetch(ctx, keys); err != nil {
		return err
	}
	for _, key := range keys {
		for _, v := range p.versions[key] {
			if pod, ok := v.Object.(*object.Pod); ok {
				workloads = append(workloads, object.Key{Kind: object.KindWorkload, Namespace: pod.Namespace, Name: pod.Workload.String()})
			}
		}
	}
	return p.fetch(ctx, workloads)
}

// fetch reads the objects that are not known yet, all of a kind at once: a replay can be
// about 150,000.
func (p *past) fetch(ctx context.Context, keys []object.Key) error {
	unknown := map[object.Kind][]object.Key{}
	for _, key := range keys {
		if _, ok := p.versions[key]; !ok {
			p.versions[key] = nil
			unknown[key.Kind] = append(unknown[key.Kind], key)
		}
	}
	for kind, of := range unknown {
		err := p.archive.VersionsOf(ctx, p.cluster, kind, of, p.from, knownBy(p.to, p.began), func(v inventory.Version) error {
			key := object.KeyOf(v.Object)
			p.versions[key] = append(p.versions[key], v)
			return nil
		})
		if err != nil {
			for _, key := range of {
				delete(p.versions, key)
			}
			return err
		}
	}
	return nil
}

// version gives the newest state that began by the present time.
func (p *past) version(key object.Key) (inventory.Version, bool) {
	versions := p.versions[key]
	i := sort.Search(len(versions), func(i int) bool { return versions[i].From.After(p.at) })
	if i > 0 {
		return versions[i-1], true
	}
	if len(versions) > 0 && !since(versions[0], p.began).After(p.at) {
		return versions[0], true
	}
	return inventory.Version{}, false
}

// firstSnapshot is how long the first one of a cluster may take.
const firstSnapshot = time.Minute

// since says from when on an object is taken to have been as a version says. What
// was there when the inventory began is taken to have been so since it was
// created: samples can be older, of an import or a simulated history.
func since(v inventory.Version, began time.Time) time.Time {
	if created := v.Object.GetMeta().CreatedAt; !v.From.After(began.Add(firstSnapshot)) && created.Before(v.From) {
		return created
	}
	return v.From
}

// knownBy is the end of what to ask the archive for, to know what there was up to
// a time.
func knownBy(to, began time.Time) time.Time {
	return later(to.Add(time.Millisecond), began.Add(firstSnapshot))
}

// inventoryBegan gives when the first objects of a cluster were told of. Every
// cluster has namespaces, and they are few.
func inventoryBegan(ctx context.Context, archive Archive, cluster string, from, now time.Time) (began time.Time, err error) {
	err = archive.History(ctx, cluster, object.KindNamespace, from, now.Add(time.Millisecond), func(v inventory.Version) error {
		if began.IsZero() || v.From.Before(began) {
			began = v.From
		}
		return nil
	})
	return began, err
}

func (p *past) Clusters() []string { return []string{p.cluster} }

func (p *past) Info(cluster string) (inventory.Info, bool) { return p.now.Info(cluster) }

// List gives nothing: only objects that were loaded are known.
func (p *past) List(string, object.Kind) []object.Object { return nil }

func (p *past) Get(_ string, key object.Key) (object.Object, bool) {
	v, ok := p.version(key)
	if !ok || (!v.To.IsZero() && !v.To.After(p.at)) {
		return nil, false
	}
	return v.Object, true
}

func (p *past) Gone(_ string, key object.Key) (inventory.Tombstone, bool) {
	v, ok := p.version(key)
	if !ok || v.To.IsZero() || v.To.After(p.at) || p.at.Sub(v.To) > tombstoneFor {
		return inventory.Tombstone{}, false
	}
	return inventory.Tombstone{At: v.To, Last: v.Object}, true
}

// upTo shows readings as they were at a time: nothing later is there.
func (d readings) upTo(at time.Time, sub subject, c *compiled) readings {
	out := readings{metrics: map[string]*values{}, past: map[pastKey]*values{}, low: d.low, exprs: d.exprs, lines: d.lines}
	cut := func(samples []evaluate.Sample, end time.Time) []evaluate.Sample {
		t := end.UnixMilli()
		return samples[:sort.Search(len(samples), func(i int) bool { return samples[i].T > t })]
	}
	for _, cond := range c.conditions {
		if cond.Expr != "" || cond.Query != "" {
			continue
		}
		s := sub
		if len(cond.metric.Dimensions) == 0 {
			s.dimensions = ""
		}
		out.metrics[cond.Metric] = valuesOf(s, cut(d.metrics[cond.Metric].get(s), at))
		if cond.Change != nil {
			k := pastKey{cond.Metric, cond.Change.Against.D()}
			if old := d.past[k].get(s); len(old) > 0 {
				out.past[k] = valuesOf(s, cut(old, at.Add(-k.ago)))
			}
		}
	}
	return out
}

// places of a policy's conditions, once each.
func (c *compiled) places() []catalogue.Place {
	var out []catalogue.Place
	for _, cond := range c.conditions {
		if !slices.Contains(out, cond.metric.Place) {
			out = append(out, cond.metric.Place)
		}
	}
	return out
}
