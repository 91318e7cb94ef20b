package events

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

func cart(change func(w *object.Workload)) *object.Workload {
	w := &object.Workload{Meta: object.Meta{UID: "w1", Namespace: "shop", Name: "cart"}, Ref: object.WorkloadRef{Type: "deployment", Name: "cart"},
		Desired: 3, Ready: 3, Updated: 3, Images: []string{"cart:1"}, Revision: "1"}
	if change != nil {
		change(w)
	}
	return w
}

// told plays a workload's states and gives what was told of them.
func told(t *testing.T, states ...object.Object) []string {
	t.Helper()
	w, s := watcher(t, ""), newSink()
	for i, now := range states[1:] {
		w.change(state.Change{At: t0.Add(time.Duration(i) * time.Second), Before: states[i], Now: now})
	}
	deliverAll(t, w, s)
	var out []string
	for _, b := range s.got {
		for _, g := range b.Groups {
			if g.Stream.Stream != wire.StreamEvents {
				t.Errorf("stream is %+v", g.Stream)
			}
			for _, l := range g.Lines {
				out = append(out, fmt.Sprintf("%s: %s", l.Fields.Get("reason"), l.Message))
			}
		}
	}
	slices.Sort(out)
	return out
}

func TestChangesOfWorkloads(t *testing.T) {
	rolling := func(updated, ready int) func(*object.Workload) {
		return func(w *object.Workload) {
			w.Revision, w.Images, w.Updated, w.Ready, w.Reason = "2", []string{"cart:2"}, updated, ready, "rolling out"
		}
	}
	finished := cart(func(w *object.Workload) { w.Revision, w.Images = "2", []string{"cart:2"} })
	for name, c := range map[string]struct {
		states []object.Object
		want   []string
	}{
		"nothing": {[]object.Object{cart(nil), cart(func(w *object.Workload) { w.Ready = 2 }), cart(nil)}, nil},
		"rollout": {[]object.Object{cart(nil), cart(rolling(0, 3)), cart(rolling(1, 3)), cart(rolling(3, 2)), finished, finished}, []string{
			"ImageChanged: Deployment shop/cart: image changed from cart:1 to cart:2",
			"RolloutFinished: Deployment shop/cart: rollout of revision 2 finished, 3 of 3 ready",
			"RolloutStarted: Deployment shop/cart: rollout of revision 2 started",
		}},
		"rollout that was under way": {[]object.Object{cart(rolling(0, 3)), cart(rolling(1, 3)), finished}, nil},
		"the next before the end": {[]object.Object{cart(nil), cart(rolling(1, 3)), cart(func(w *object.Workload) { w.Revision, w.Images, w.Reason = "3", []string{"cart:2"}, "rolling out" }), cart(func(w *object.Workload) { w.Revision, w.Images = "3", []string{"cart:2"} })}, []string{
			"ImageChanged: Deployment shop/cart: image changed from cart:1 to cart:2",
			"RolloutFinished: Deployment shop/cart: rollout of revision 3 finished, 3 of 3 ready",
			"RolloutStarted: Deployment shop/cart: rollout of revision 2 started",
			"RolloutStarted: Deployment shop/cart: rollout of revision 3 started",
		}},
		"scaled": {[]object.Object{cart(nil), cart(func(w *object.Workload) { w.Desired, w.Reason = 5, "rolling out" }), cart(func(w *object.Workload) { w.Desired, w.Ready, w.Reason = 5, 4, "rolling out" }), cart(func(w *object.Workload) { w.Desired, w.Ready, w.Updated = 5, 5, 5 }), cart(func(w *object.Workload) { w.Desired = 0 })}, []string{
			"Scaled: Deployment shop/cart was scaled from 3 to 5",
			"Scaled: Deployment shop/cart was scaled from 5 to 0",
		}},
		"a daemon set follows its nodes": {[]object.Object{
			cart(func(w *object.Workload) { w.Ref.Type = "daemonset" }), cart(func(w *object.Workload) { w.Ref.Type, w.Desired = "daemonset", 4 }),
		}, nil},
		"cordoned": {[]object.Object{&object.Node{Meta: object.Meta{Name: "n1"}}, &object.Node{Meta: object.Meta{Name: "n1"}, Unschedulable: true}, &object.Node{Meta: object.Meta{Name: "n1"}}}, []string{
			"NodeCordoned: Node n1 was cordoned: no new pods are put on it",
			"NodeUncordoned: Node n1 takes new pods again",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := told(t, c.states...); !slices.Equal(got, c.want) {
				t.Errorf("told %q, want %q", got, c.want)
			}
		})
	}
}

func TestNewAndGoneObjectsAreNoChange(t *testing.T) {
	w, s := watcher(t, ""), newSink()
	w.change(state.Change{At: t0, Now: cart(nil)})
	w.change(state.Change{At: t0, Before: cart(nil), Now: cart(func(w *object.Workload) { w.Revision = "2" })})
	w.change(state.Change{At: t0, Before: cart(nil)})
	if len(w.rolling) != 0 {
		t.Error("a workload that is gone is remembered")
	}
	deliverAll(t, w, s)
	if got := s.lines(); len(got) != 1 {
		t.Errorf("told %q, want the rollout's start", got)
	}
	if st := s.got[0].Groups[0].Stream; st.Namespace != "shop" || st.Workload != "cart" || st.WorkloadType != "deployment" {
		t.Errorf("stream is %+v", st)
	}
}
