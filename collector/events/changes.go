package events

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// Changer tells of objects' changes; a state.Source is one.
type Changer interface {
	// Changes hands every change after the call to fn, in order, until ctx ends.
	Changes(ctx context.Context, fn func(state.Change))
}

// Reasons of the events that are made of changes. Kubernetes tells of some of
// them in the words of a controller, of others not at all.
const (
	ReasonRolloutStarted  = "RolloutStarted"
	ReasonRolloutFinished = "RolloutFinished"
	ReasonImageChanged    = "ImageChanged"
	ReasonScaled          = "Scaled"
	ReasonCordoned        = "NodeCordoned"
	ReasonUncordoned      = "NodeUncordoned"
)

// changeSource is the field "source" of such an event.
const changeSource = "crowsnest"

// templated are the types of workload whose pods are replaced when their template
// changes; scalable those whose number of replicas somebody sets.
var (
	templated = []string{"deployment", "statefulset", "daemonset"}
	scalable  = []string{"deployment", "statefulset", "replicaset"}
)

// rollouts are the revisions that are being rolled out, by the workload's UID. The
// end of one whose start was not seen is not told: its states look like scaling's.
type rollouts map[string]string

// change makes events of one object's change.
func (w *Watcher) change(c state.Change) {
	switch now := c.Now.(type) {
	case *object.Workload:
		before, _ := c.Before.(*object.Workload)
		w.workload(c, before, now)
	case *object.Node:
		before, _ := c.Before.(*object.Node)
		if before == nil || before.Unschedulable == now.Unschedulable {
			return
		}
		if now.Unschedulable {
			w.tell(c, ReasonCordoned, fmt.Sprintf("Node %s was cordoned: no new pods are put on it", now.Name), nil)
		} else {
			w.tell(c, ReasonUncordoned, fmt.Sprintf("Node %s takes new pods again", now.Name), nil)
		}
	default:
		if gone, ok := c.Before.(*object.Workload); ok && c.Now == nil {
			delete(w.rolling, gone.UID)
		}
	}
}

func (w *Watcher) workload(c state.Change, before, now *object.Workload) {
	if before == nil {
		return // it is new, or was there before the collector was
	}
	name := fmt.Sprintf("%s %s/%s", kindOf(now.Ref.Type), now.Namespace, now.Name)
	rolls := slices.Contains(templated, now.Ref.Type)
	if rolls && len(before.Images) > 0 && !slices.Equal(before.Images, now.Images) {
		from, to := strings.Join(before.Images, ", "), strings.Join(now.Images, ", ")
		w.tell(c, ReasonImageChanged, fmt.Sprintf("%s: image changed from %s to %s", name, from, to), map[string]string{"from": from, "to": to})
	}
	if slices.Contains(scalable, now.Ref.Type) && before.Desired != now.Desired {
		from, to := strconv.Itoa(before.Desired), strconv.Itoa(now.Desired)
		w.tell(c, ReasonScaled, fmt.Sprintf("%s was scaled from %s to %s", name, from, to), map[string]string{"from": from, "to": to})
	}
	if !rolls {
		return
	}
	done := now.Updated >= now.Desired && now.Ready >= now.Desired && now.Reason == ""
	switch {
	case before.Revision != "" && now.Revision != "" && before.Revision != now.Revision:
		w.rolling[now.UID] = now.Revision
		w.tell(c, ReasonRolloutStarted, fmt.Sprintf("%s: rollout of revision %s started", name, now.Revision), map[string]string{"revision": now.Revision})
	case w.rolling[now.UID] != "" && done:
		delete(w.rolling, now.UID)
		w.tell(c, ReasonRolloutFinished, fmt.Sprintf("%s: rollout of revision %s finished, %d of %d ready", name, now.Revision, now.Ready, now.Desired), map[string]string{"revision": now.Revision})
	}
}

// kindOf writes a workload's type as Kubernetes writes its kind.
func kindOf(typ string) string {
	switch typ {
	case "deployment":
		return "Deployment"
	case "statefulset":
		return "StatefulSet"
	case "daemonset":
		return "DaemonSet"
	case "replicaset":
		return "ReplicaSet"
	}
	return typ
}

// tell queues an event of our own.
func (w *Watcher) tell(c state.Change, reason, message string, more map[string]string) {
	meta := c.Now.GetMeta()
	s := wire.LogStream{Namespace: meta.Namespace, Stream: wire.StreamEvents}
	kind := "Node"
	if o, ok := c.Now.(*object.Workload); ok {
		kind, s.WorkloadType, s.Workload = kindOf(o.Ref.Type), o.Ref.Type, o.Ref.Name
	} else {
		s.Node = meta.Name
	}
	at := max(c.At.UnixNano(), 1)
	uid := fmt.Sprintf("%s/%s/%d", meta.UID, reason, at)
	fields := map[string]string{
		"kind": kind, "name": meta.Name, "reason": reason, "type": "Normal", "count": "1", "uid": uid, "level": "info", "object_uid": meta.UID, "source": changeSource,
	}
	for k, v := range more {
		fields[k] = v
	}
	w.put(record{uid: types.UID(uid), count: 1, stream: s, line: wire.LogLine{Time: at, Message: message[:min(len(message), maxMessage)], Fields: wire.FieldsOf(fields)}}, mark{Count: 1, At: c.At.Unix()})
}
