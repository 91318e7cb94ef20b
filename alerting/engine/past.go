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

func (r *remembering) Versions(ctx context.Context, cluster string, key object.Key, from, to time.Time) ([]inventory.Version, error) {
	of := versionsOf{cluster, key, from.UnixMilli(), to.UnixMilli()}
	if v, ok := r.versions[of]; ok {
		return v, nil
	}
	v, err := r.Archive.Versions(ctx, cluster, key, from, to)
	if err != nil {
		return nil, err
	}
	if len(r.versions) >= maxRemembered {
		clear(r.versions)
	}
	r.versions[of] = v
	return v, nil
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

// load reads what is to be known of a subject: its object, and the workloads
// that this had.
func (p *past) load(ctx context.Context, sub subject) error {
	key, _, ok := objectKey(sub.level, sub.object)
	if !ok {
		return nil
	}
	versions, err := p.fetch(ctx, key)
	if err != nil {
		return err
	}
	seen := map[object.WorkloadRef]bool{}
	for _, v := range versions {
		pod, ok := v.Object.(*object.Pod)
		if !ok || seen[pod.Workload] {
			continue
		}
		seen[pod.Workload] = true
		if _, err := p.fetch(ctx, object.Key{Kind: object.KindWorkload, Namespace: pod.Namespace, Name: pod.Workload.String()}); err != nil {
			return err
		}
	}
	return nil
}

func (p *past) fetch(ctx context.Context, key object.Key) ([]inventory.Version, error) {
	if v, ok := p.versions[key]; ok {
		return v, nil
	}
	v, err := p.archive.Versions(ctx, p.cluster, key, p.from, knownBy(p.to, p.began))
	if err == nil {
		p.versions[key] = v
	}
	return v, err
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
	out := readings{metrics: map[string]values{}, past: map[pastKey]values{}, low: d.low, exprs: d.exprs, lines: d.lines}
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
		out.metrics[cond.Metric] = values{s: cut(d.metrics[cond.Metric][s], at)}
		if cond.Change != nil {
			k := pastKey{cond.Metric, cond.Change.Against.D()}
			if old := d.past[k][s]; len(old) > 0 {
				out.past[k] = values{s: cut(old, at.Add(-k.ago))}
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
