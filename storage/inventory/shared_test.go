package inventory

import (
	"fmt"
	"path/filepath"
	"reflect"
	"testing"
	"unsafe"

	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// ofEachKind gives objects of each kind with all fields that others of a cluster may share.
func ofEachKind(n int) []object.Object {
	meta := object.Meta{UID: fmt.Sprint("uid-", n), Namespace: "shop", Name: fmt.Sprint("o", n), Labels: map[string]string{"app": "cart", "tier": "web"}, CreatedAt: t0}
	p := pod(meta.Name, meta.UID, "o1", object.PhaseRunning)
	p.Meta, p.Reason, p.Containers = meta, "Evicted", nil
	for i := range 3 {
		p.Containers = append(p.Containers, object.Container{
			Name: "app", ID: fmt.Sprint(n, i), Image: "cart:1", State: "waiting", Reason: "CrashLoopBackOff", Last: &object.Termination{Reason: "Error", FinishedAt: t0},
		})
	}
	bare := pod(fmt.Sprint("bare", n), meta.UID, "", object.PhasePending)
	bare.Labels, bare.Containers = nil, nil
	cluster := meta
	cluster.Namespace = ""
	return []object.Object{
		&object.Namespace{Meta: cluster},
		&object.Node{
			Meta: cluster, Kubelet: "v1.30.0", Runtime: "containerd", OS: "Linux", Roles: []string{"worker"},
			Conditions: []object.Condition{{Type: "Ready", Status: "True", Reason: "KubeletReady", Since: t0}},
		},
		&object.Workload{Meta: meta, Ref: object.WorkloadRef{Type: "deployment", Name: meta.Name}, Reason: "late", Images: []string{"cart:1"}, Revision: "7"},
		&object.Service{Meta: meta, Type: "ClusterIP", Selector: map[string]string{"app": "cart"}},
		p, bare,
	}
}

// What objects have in common is in memory once, whether they came together, later or
// from the file, and they are what they were.
func TestSharedTextsAndLabels(t *testing.T) {
	path, c := filepath.Join(t.TempDir(), "inventory.db"), &clock{now: t0}
	s := open(t, path, c)
	x := &session{t: t, s: s, cluster: "prod", id: "s1", at: t0}
	want := map[object.Key]object.Object{}
	check := func(when string) {
		t.Helper()
		texts, sets, found := map[string]*byte{}, map[string]uintptr{}, 0
		for key, e := range s.get("prod").present {
			found++
			if !reflect.DeepEqual(e.o, want[key]) {
				t.Errorf("%s: got %+v, want %+v", when, e.o, want[key])
			}
			one := func(text *string) {
				at := unsafe.StringData(*text)
				if had, ok := texts[*text]; ok && had != at {
					t.Errorf("%s: %s has %q of its own", when, key, *text)
				}
				texts[*text] = at
			}
			eachShared(e.o, one, func(set *map[string]string) {
				at := reflect.ValueOf(*set).Pointer()
				if had, ok := sets[fmt.Sprint(*set)]; ok && had != at {
					t.Errorf("%s: %s has labels %v of its own", when, key, *set)
				}
				sets[fmt.Sprint(*set)] = at
				for k, v := range *set {
					one(&k)
					one(&v)
				}
			})
			one(&key.Namespace)
			if p, ok := e.o.(*object.Pod); ok && cap(p.Containers) > len(p.Containers) {
				t.Errorf("%s: room for %d containers, there are %d", when, cap(p.Containers), len(p.Containers))
			}
		}
		if found != len(want) {
			t.Errorf("%s: %d objects, want %d", when, found, len(want))
		}
	}
	// put adds objects as a collector's are, each of its own memory.
	put := func(b *wire.InventoryBatch, n int) *wire.InventoryBatch {
		for _, o := range ofEachKind(n) {
			b.Put(o)
			want[object.KeyOf(o)] = o
		}
		b.Session, b.Sequence, b.Time = "s1", 1, t0
		return decoded(t, b)
	}
	x.apply(put(put(snapshot(), 1), 2))
	check("after the snapshot")
	x.apply(put(changed(), 3))
	x.apply(put(changed(), 3)) // the same again
	check("after a change")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path, c)
	x.s = s
	check("after a restart")
	x.apply(put(changed(), 4))
	check("after a restart and a change")
	s.get("prod").doubtful = true
	x.apply(put(changed(), 5))
	check("after it was read back")

	// Texts come and go, and what still is in use stays shared.
	for n := range 20 {
		b := changed()
		for i := range 500 {
			p := pod("pod", fmt.Sprint(n, i), fmt.Sprint("n", n, i), object.PhaseRunning)
			p.Name, p.Labels = fmt.Sprint("p", i), map[string]string{"of": fmt.Sprint(n, i)}
			b.Put(p)
			want[object.KeyOf(p)] = p
		}
		x.apply(b)
		shared := s.get("prod").shared
		if held := len(shared.texts) + len(shared.sets); held > 2*minShared {
			t.Fatalf("%d texts and sets are held, of %d objects", held, len(want))
		}
	}
	x.apply(put(changed(), 6))
	check("after many others came and went")
	if newShared().set(nil) != nil || newShared().set(map[string]string{}) == nil {
		t.Error("no labels and none at all are taken for the same")
	}
}
