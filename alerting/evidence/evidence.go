// Package evidence owns what is collected around an alert at the moment it
// begins: the last lines and events of its object, the last rollout of its
// workload, how its node stands. It must not know how an alert was judged, who
// is told of it, nor how long anybody waits for it.
package evidence

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/inventory"
	"github.com/crowsnest-dev/crowsnest/storage/logs"
)

// How far back is looked, and how much is kept.
const (
	linesWithin   = 15 * time.Minute
	eventsWithin  = time.Hour
	rolloutWithin = 24 * time.Hour
	maxLines      = 20
	maxEvents     = 20
	maxText       = 2 << 10 // bytes of a line or a message
	maxImages     = 10
)

// Lines gives log lines and events. It may be called concurrently.
type Lines interface {
	Query(ctx context.Context, q logs.Query, fn func(logs.Row) error) error
}

// Objects gives what exists, and what it was like before. It may be called
// concurrently.
type Objects interface {
	Get(cluster string, key object.Key) (object.Object, bool)
	Versions(ctx context.Context, cluster string, key object.Key, from, to time.Time) ([]inventory.Version, error)
}

var (
	_ Lines   = (*logs.Store)(nil)
	_ Objects = (*inventory.Store)(nil)
)

// Collector collects. It is safe for concurrent use.
type Collector struct {
	Lines   Lines   // nil: no lines and events
	Objects Objects // required
}

// Collect gives what is around an alert now. What could not be had is named, so
// that nobody takes it for nothing.
func (c *Collector) Collect(ctx context.Context, a *incident.Alert, now time.Time) *incident.Around {
	out := &incident.Around{At: now}
	note := func(what string, err error) {
		if err != nil {
			out.Missing = append(out.Missing, fmt.Sprintf("%s: %v", what, err))
		}
	}
	if c.Lines != nil {
		var err error
		if text := linesQuery(a); text != "" {
			out.Logs, err = c.lines(ctx, a.Object.Cluster, text, now)
			note("logs", err)
		}
		if text := eventsQuery(a); text != "" {
			out.Events, err = c.events(ctx, a.Object.Cluster, text, now)
			note("events", err)
		}
	}
	var err error
	out.Rollout, err = c.rollout(ctx, a.Object, now)
	note("rollout", err)
	out.Node = c.node(a.Object)
	return out
}

// stream selects what one object wrote; empty: lines of so much say nothing.
func stream(o incident.Object) string {
	var parts []string
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, name+"="+strconv.Quote(value))
		}
	}
	switch {
	case o.Pod != "":
		add(wire.FieldNamespace, o.Namespace)
		add(wire.FieldPod, o.Pod)
		add(wire.FieldContainer, o.Container)
	case o.Workload != "":
		add(wire.FieldNamespace, o.Namespace)
		add(wire.FieldWorkloadType, o.WorkloadType)
		add(wire.FieldWorkload, o.Workload)
	case o.Level == catalogue.Node:
		add(wire.FieldNode, o.Node)
	case o.Level == catalogue.Namespace:
		add(wire.FieldNamespace, o.Namespace)
	default:
		return ""
	}
	return strings.Join(append(parts, fmt.Sprintf("%s!=%q", wire.FieldStream, wire.StreamEvents)), ",")
}

// linesQuery asks for what the object wrote at warning and above; of an alert
// about lines, for those lines.
func linesQuery(a *incident.Alert) string {
	s := stream(a.Object)
	if s == "" {
		return ""
	}
	for _, c := range a.Conditions {
		if c.Query != "" && (c.Op == ">" || c.Op == ">=") {
			return fmt.Sprintf("{%s} (%s\n)", s, c.Query)
		}
	}
	return fmt.Sprintf("{%s} level:in(warn, error, fatal)", s)
}

// eventsQuery asks for the events about the object and what belongs to it.
func eventsQuery(a *incident.Alert) string {
	o := a.Object
	of := fmt.Sprintf("{%s=%q", wire.FieldStream, wire.StreamEvents)
	if o.Namespace != "" {
		of += fmt.Sprintf(",%s=%q", wire.FieldNamespace, o.Namespace)
	}
	of += "} "
	switch {
	case o.Pod != "":
		return of + fmt.Sprintf("kind:=%q name:=%q", "Pod", o.Pod)
	case o.Workload != "": // its pods, replica sets and jobs begin with its name
		return of + fmt.Sprintf("(name:=%q or name:=%q*)", o.Workload, o.Workload+"-")
	case o.Level == catalogue.Node:
		return of + fmt.Sprintf("kind:=%q name:=%q", "Node", o.Node)
	case o.Volume != "":
		return of + fmt.Sprintf("kind:=%q name:=%q", "PersistentVolumeClaim", o.Volume)
	case o.Service != "":
		return of + fmt.Sprintf("name:=%q", o.Service)
	case o.Level == catalogue.Namespace:
		return of + "type:=Warning"
	}
	return ""
}

func (c *Collector) lines(ctx context.Context, cluster, text string, now time.Time) ([]incident.Line, error) {
	var out []incident.Line
	err := c.Lines.Query(ctx, logs.Query{Text: text, Start: now.Add(-linesWithin), End: now.Add(time.Second), Clusters: []string{cluster}, Limit: maxLines}, func(r logs.Row) error {
		out = append(out, incident.Line{
			Time: timeOf(r), Level: strings.Clone(r.Get("level")), Pod: strings.Clone(r.Get(wire.FieldPod)), Container: strings.Clone(r.Get(wire.FieldContainer)), Line: cut(r.Get("_msg")),
		})
		return nil
	})
	slices.SortStableFunc(out, func(a, b incident.Line) int { return time.Time(a.Time).Compare(time.Time(b.Time)) })
	return out, plain(err)
}

func (c *Collector) events(ctx context.Context, cluster, text string, now time.Time) ([]incident.Event, error) {
	var out []incident.Event
	err := c.Lines.Query(ctx, logs.Query{Text: text, Start: now.Add(-eventsWithin), End: now.Add(time.Second), Clusters: []string{cluster}, Limit: maxEvents}, func(r logs.Row) error {
		count, _ := strconv.Atoi(r.Get("count"))
		out = append(out, incident.Event{
			Time: timeOf(r), Type: strings.Clone(r.Get("type")), Reason: strings.Clone(r.Get("reason")), Kind: strings.Clone(r.Get("kind")), Name: strings.Clone(r.Get("name")),
			Message: cut(r.Get("_msg")), Count: count,
		})
		return nil
	})
	slices.SortStableFunc(out, func(a, b incident.Event) int { return time.Time(a.Time).Compare(time.Time(b.Time)) })
	return out, plain(err)
}

// plain says an error without what only a log needs.
func plain(err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return errors.New("not answered in time")
	}
	return err
}

func timeOf(r logs.Row) incident.Time {
	t, _ := time.Parse(time.RFC3339Nano, r.Get("_time"))
	return incident.Time(t.UTC())
}

func cut(s string) string {
	if len(s) > maxText {
		return strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return strings.Clone(s)
}

// rollout finds when the template of the object's workload last changed.
func (c *Collector) rollout(ctx context.Context, o incident.Object, now time.Time) (*incident.Rollout, error) {
	if o.Workload == "" {
		return nil, nil
	}
	ref := object.WorkloadRef{Type: o.WorkloadType, Name: o.Workload}
	versions, err := c.Objects.Versions(ctx, o.Cluster, object.Key{Kind: object.KindWorkload, Namespace: o.Namespace, Name: ref.String()}, now.Add(-rolloutWithin), now.Add(time.Millisecond))
	if err != nil {
		return nil, plain(err)
	}
	var out *incident.Rollout
	var before *object.Workload
	for _, v := range versions {
		w, ok := v.Object.(*object.Workload)
		if !ok {
			continue
		}
		if before != nil && before.Revision != "" && w.Revision != before.Revision {
			out = &incident.Rollout{
				At: incident.Time(v.From), From: before.Revision, To: w.Revision,
				FromImages: before.Images[:min(len(before.Images), maxImages)], ToImages: w.Images[:min(len(w.Images), maxImages)],
			}
		}
		before = w
	}
	return out, nil
}

// node says how the object's node stands.
func (c *Collector) node(o incident.Object) *incident.NodeState {
	if o.Node == "" {
		return nil
	}
	found, ok := c.Objects.Get(o.Cluster, object.Key{Kind: object.KindNode, Name: o.Node})
	n, isNode := found.(*object.Node)
	if !ok || !isNode {
		return nil
	}
	out := &incident.NodeState{Name: n.Name, Ready: n.Ready, Unschedulable: n.Unschedulable}
	for _, cond := range n.Conditions {
		// Ready should be True, all others False.
		if (cond.Type == "Ready") == (cond.Status == "True") {
			continue
		}
		out.Conditions = append(out.Conditions, incident.NodeCondition{Type: cond.Type, Status: cond.Status, Reason: cond.Reason, Since: incident.Time(cond.Since)})
	}
	return out
}
