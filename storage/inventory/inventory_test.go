package inventory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// t0 is when the tests' world begins.
var t0 = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

type clock struct{ now time.Time }

func open(t testing.TB, path string, c *clock) *Store {
	t.Helper()
	s, err := Open(Options{Path: path, Now: func() time.Time { return c.now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func pod(name, uid, node, phase string) *object.Pod {
	return &object.Pod{
		Meta: object.Meta{UID: uid, Namespace: "shop", Name: name, Labels: map[string]string{"app": "cart"}, CreatedAt: t0.Add(-time.Hour)},
		Node: node, Phase: phase, Workload: object.WorkloadRef{Type: "deployment", Name: "cart"},
		Containers: []object.Container{{Name: "app", State: "running", StartedAt: t0.Add(-time.Hour)}},
	}
}

func node(name string, virtual bool) *object.Node {
	return &object.Node{Meta: object.Meta{UID: "uid-" + name, Name: name}, Ready: true, Virtual: virtual}
}

// session writes batches with rising numbers.
type session struct {
	t       testing.TB
	s       *Store
	cluster string
	id      string
	seq     uint64
	at      time.Time
}

func (x *session) next(b *wire.InventoryBatch) *wire.InventoryBatch {
	x.seq++
	x.at = x.at.Add(time.Second)
	b.Session, b.Sequence, b.Time = x.id, x.seq, x.at
	return b
}

func (x *session) apply(b *wire.InventoryBatch) {
	x.t.Helper()
	if err := x.s.Apply(x.t.Context(), x.cluster, x.next(b)); err != nil {
		x.t.Fatal(err)
	}
}

func snapshot(objects ...object.Object) *wire.InventoryBatch {
	b := &wire.InventoryBatch{Snapshot: true, Last: true, ClusterKind: "managed", ClusterVersion: "v1.30.0"}
	for _, o := range objects {
		b.Put(o)
	}
	return b
}

func changed(objects ...object.Object) *wire.InventoryBatch {
	b := &wire.InventoryBatch{}
	for _, o := range objects {
		b.Put(o)
	}
	return b
}

func names(objects []object.Object) []string {
	var out []string
	for _, o := range objects {
		out = append(out, object.KeyOf(o).Name)
	}
	return out
}

func key(name string) object.Key {
	return object.Key{Kind: object.KindPod, Namespace: "shop", Name: name}
}

// Behind a Service are the pods that its selector or, without one, its addresses name;
// those that went are as long as they are known.
func TestPodsBehindAService(t *testing.T) {
	c := &clock{now: t0}
	s := open(t, filepath.Join(t.TempDir(), "inventory.db"), c)
	x := &session{t: t, s: s, cluster: "prod", id: "s1", at: t0}
	elsewhere, batch := pod("a", "4", "n-1", "Running"), pod("batch", "5", "n-1", "Running")
	elsewhere.Namespace, batch.Labels = "other", map[string]string{"app": "batch"}
	x.apply(snapshot(pod("c", "3", "n-1", "Running"), pod("b", "2", "n-1", "Running"), pod("a", "1", "n-1", "Running"), elsewhere, batch,
		&object.Service{Meta: object.Meta{UID: "v", Namespace: "shop", Name: "cart"}, Selector: map[string]string{"app": "cart"}},
		&object.Service{Meta: object.Meta{UID: "w", Namespace: "shop", Name: "named"}, Pods: []string{"b", "batch"}}))
	b := changed()
	b.Deleted = []wire.Deleted{{Key: key("b"), UID: "2"}}
	x.apply(b)
	for _, tc := range []struct {
		service string
		after   time.Duration
		want    []string
	}{
		{"cart", 0, []string{"a", "b", "c"}},
		{"named", 0, []string{"b", "batch"}},
		{"cart", 25 * time.Hour, []string{"a", "c"}},
	} {
		c.now = t0.Add(tc.after)
		if got, err := s.PodsBehind("prod", "shop", tc.service); err != nil || !slices.Equal(got, tc.want) {
			t.Errorf("behind %s after %s: %v, %v, want %v", tc.service, tc.after, got, err, tc.want)
		}
	}
	for _, where := range [][3]string{{"prod", "shop", "web"}, {"prod", "other", "cart"}, {"edge", "shop", "cart"}} {
		if _, err := s.PodsBehind(where[0], where[1], where[2]); !errors.Is(err, fault.ErrNotFound) {
			t.Errorf("behind %v: %v", where, err)
		}
	}
}

func TestSnapshotThenChangesThenRestart(t *testing.T) {
	c := &clock{now: t0}
	path := filepath.Join(t.TempDir(), "inventory.db")
	s := open(t, path, c)
	x := &session{t: t, s: s, cluster: "prod", id: "s1", at: t0}
	x.apply(snapshot(node("n-1", false), node("v-1", true), pod("b", "1", "n-1", "Running"), pod("a", "2", "", "Pending"),
		&object.Workload{Meta: object.Meta{UID: "w", Namespace: "shop", Name: "cart"}, Ref: object.WorkloadRef{Type: "deployment", Name: "cart"}, Desired: 2},
		&object.Service{Meta: object.Meta{UID: "v", Namespace: "shop", Name: "cart"}, Pods: []string{"a"}}))
	x.apply(changed(pod("a", "2", "n-1", "Running"), pod("c", "3", "n-1", "Running")))
	b := changed()
	b.Deleted = []wire.Deleted{{Key: key("b"), UID: "1"}, {Key: key("c"), UID: "not its uid"}, {Key: key("unknown"), UID: "9"}}
	x.apply(b)

	check := func(s *Store) {
		t.Helper()
		if got := names(s.List("prod", object.KindPod)); !slices.Equal(got, []string{"a", "c"}) {
			t.Errorf("pods: %v", got)
		}
		if got := s.Nodes("prod"); !slices.Equal(got, []string{"n-1"}) {
			t.Errorf("real nodes: %v", got)
		}
		if got, known := s.ServicesIn("prod", []string{"shop", "other"}); !known || len(got) != 1 || got[0].Name != "cart" || !slices.Equal(got[0].Pods, []string{"a"}) {
			t.Errorf("services: %v, %v", got, known)
		}
		if got, known := s.ServicesIn("prod", []string{"other"}); !known || len(got) != 0 {
			t.Errorf("services of a namespace without any: %v, %v", got, known)
		}
		if _, known := s.ServicesIn("unknown", []string{"shop"}); known {
			t.Error("the services of an unknown cluster are known")
		}
		if got := s.PodsOn("prod", "n-1"); len(got) != 2 || got[0].Name != "a" {
			t.Errorf("pods on n-1: %v", got)
		}
		if _, ok := s.Get("prod", object.Key{Kind: object.KindWorkload, Namespace: "shop", Name: "deployment/cart"}); !ok {
			t.Error("the workload is not found by its key")
		}
		tomb, ok := s.Gone("prod", key("b"))
		if !ok || !tomb.At.Equal(t0.Add(3*time.Second)) || tomb.Last.(*object.Pod).UID != "1" {
			t.Errorf("tombstone of b: %+v, %v", tomb, ok)
		}
		if _, ok := s.Gone("prod", key("a")); ok {
			t.Error("a is said to be gone")
		}
		info, ok := s.Info("prod")
		if !ok || !info.Synced || info.Kind != "managed" || info.Version != "v1.30.0" || info.Counts[object.KindPod] != 2 || !info.LastSeen.Equal(t0) {
			t.Errorf("info: %+v, %v", info, ok)
		}
		if got := s.Clusters(); !slices.Equal(got, []string{"prod"}) {
			t.Errorf("clusters: %v", got)
		}
	}
	check(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path, c)
	check(s)

	// The session goes on over the restart, and a batch that came twice counts once.
	x.s = s
	last := x.next(changed(pod("d", "4", "n-1", "Running")))
	for range 2 {
		if err := s.Apply(t.Context(), "prod", last); err != nil {
			t.Fatal(err)
		}
	}
	if got := names(s.List("prod", object.KindPod)); !slices.Equal(got, []string{"a", "c", "d"}) {
		t.Errorf("after the restart: %v", got)
	}
	states, err := s.Versions(t.Context(), "prod", key("a"), t0, t0.Add(time.Hour))
	if err != nil || len(states) != 2 || !states[0].To.Equal(states[1].From) || !states[1].To.IsZero() || states[0].Object.(*object.Pod).Phase != "Pending" {
		t.Errorf("versions of a: %+v, %v", states, err)
	}
	for at, want := range map[time.Duration][]string{0: nil, 1500 * time.Millisecond: {"a", "b"}, 2500 * time.Millisecond: {"a", "b", "c"}, 3500 * time.Millisecond: {"a", "c"}} {
		got, err := s.At(t.Context(), "prod", object.KindPod, t0.Add(at))
		if err != nil || !slices.Equal(names(got), want) {
			t.Errorf("pods at +%s: %v, %v, want %v", at, names(got), err, want)
		}
	}
}

func TestANewSnapshotEndsWhatItDoesNotName(t *testing.T) {
	c := &clock{now: t0}
	s := open(t, filepath.Join(t.TempDir(), "inventory.db"), c)
	x := &session{t: t, s: s, cluster: "prod", id: "s1", at: t0}
	x.apply(snapshot(pod("a", "1", "n", "Running"), pod("b", "2", "n", "Running")))
	x = &session{t: t, s: s, cluster: "prod", id: "s2", at: x.at}
	first := snapshot(pod("b", "2", "n", "Running"))
	first.Last = false
	x.apply(first)
	if got := names(s.List("prod", object.KindPod)); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("in the middle of a snapshot: %v", got)
	}
	x.apply(snapshot(pod("c", "3", "n", "Running")))
	if got := names(s.List("prod", object.KindPod)); !slices.Equal(got, []string{"b", "c"}) {
		t.Errorf("after the snapshot: %v", got)
	}
	if _, ok := s.Gone("prod", key("a")); !ok {
		t.Error("a is not said to be gone")
	}
	states, err := s.Versions(t.Context(), "prod", key("b"), t0, t0.Add(time.Hour))
	if err != nil || len(states) != 1 {
		t.Errorf("b did not change, but has versions %+v, %v", states, err)
	}
}

func TestWhatDoesNotFollowIsAConflict(t *testing.T) {
	c := &clock{now: t0}
	path := filepath.Join(t.TempDir(), "inventory.db")
	s := open(t, path, c)
	batch := func(session string, seq uint64, snapshot, last bool) *wire.InventoryBatch {
		return &wire.InventoryBatch{Session: session, Sequence: seq, Time: t0, Snapshot: snapshot, Last: last}
	}
	for i, tc := range []struct {
		b    *wire.InventoryBatch
		want error
	}{
		{batch("s1", 2, false, false), fault.ErrConflict}, // an unknown session
		{batch("s1", 1, false, false), fault.ErrInvalid},  // begins without a snapshot
		{batch("s1", 1, true, false), nil},
		{batch("s1", 3, true, true), fault.ErrConflict}, // 2 is missing
		{batch("s1", 2, true, true), nil},
		{batch("s1", 3, true, true), fault.ErrInvalid}, // a second snapshot
		{batch("s1", 3, false, false), nil},
		{batch("s0", 9, false, false), fault.ErrConflict},
		{batch("", 1, true, true), fault.ErrInvalid},
		{batch("s2", 1, true, false), nil},
	} {
		if err := s.Apply(t.Context(), "prod", tc.b); !errors.Is(err, tc.want) {
			t.Errorf("%d: got %v, want %v", i, err, tc.want)
		}
	}
	// A restart in the middle of a snapshot forgets what it named.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path, c)
	if err := s.Apply(t.Context(), "prod", batch("s2", 2, true, true)); !errors.Is(err, fault.ErrConflict) {
		t.Errorf("after a restart in a snapshot: %v", err)
	}
	if info, _ := s.Info("prod"); !info.Synced {
		t.Error("the snapshot of s1 was complete")
	}
}

// TestAGapIsSaid lets a session go on where batches of it were given up, and only
// when the sender says so.
func TestAGapIsSaid(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "inventory.db"), &clock{now: t0.Add(time.Hour)})
	batch := func(seq uint64, gap, snapshot, last bool, objects ...object.Object) *wire.InventoryBatch {
		b := &wire.InventoryBatch{Session: "s1", Sequence: seq, Time: t0.Add(time.Duration(seq) * time.Minute), Gap: gap, Snapshot: snapshot, Last: last}
		for _, o := range objects {
			b.Put(o)
		}
		return b
	}
	for i, tc := range []struct {
		b    *wire.InventoryBatch
		want error
	}{
		{batch(1, false, true, false, pod("a", "u1", "n1", "Pending")), nil},
		{batch(3, true, true, true), fault.ErrConflict}, // a snapshot has no gaps, or what it lacks would be gone
		{batch(2, false, true, true), nil},
		{batch(5, false, false, false), fault.ErrConflict},
		{batch(5, true, false, false, pod("a", "u1", "n1", "Running")), nil},
		{batch(5, true, false, false, pod("a", "u1", "n1", "Failed")), nil}, // a repetition
		{batch(6, false, false, false), nil},
	} {
		if err := s.Apply(t.Context(), "prod", tc.b); !errors.Is(err, tc.want) {
			t.Errorf("%d: got %v, want %v", i, err, tc.want)
		}
	}
	got, err := s.Versions(t.Context(), "prod", key("a"), t0, t0.Add(time.Hour))
	if err != nil || len(got) != 2 || got[1].Object.(*object.Pod).Phase != "Running" || !got[1].From.Equal(t0.Add(5*time.Minute)) {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestAnOldSnapshotIsRefused: a collector that did not lead for a while may have
// kept one, and the present must not go back to it.
func TestAnOldSnapshotIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inventory.db")
	c := &clock{now: t0.Add(time.Hour)}
	s := open(t, path, c)
	x := &session{t: t, s: s, cluster: "prod", id: "leader", at: t0.Add(30 * time.Minute)}
	x.apply(snapshot(pod("a", "u1", "n1", "Running")))
	if err := s.Close(); err != nil { // it is known after a restart, too
		t.Fatal(err)
	}
	s = open(t, path, c)
	old := &session{t: t, s: s, cluster: "prod", id: "before", at: t0}
	if err := s.Apply(t.Context(), "prod", old.next(snapshot())); !errors.Is(err, fault.ErrConflict) {
		t.Errorf("got %v", err)
	}
	if _, there := s.Get("prod", key("a")); !there {
		t.Error("the old snapshot took away what it did not know")
	}
	near := &session{t: t, s: s, cluster: "prod", id: "after", at: t0.Add(28 * time.Minute)} // clocks differ
	near.apply(snapshot(pod("a", "u1", "n1", "Failed")))
}

func TestABatchThatFailsIsNotHalfThere(t *testing.T) {
	c := &clock{now: t0}
	s := open(t, filepath.Join(t.TempDir(), "inventory.db"), c)
	x := &session{t: t, s: s, cluster: "prod", id: "s1", at: t0}
	x.apply(snapshot(pod("a", "1", "n", "Running")))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Apply(ctx, "prod", x.next(changed(pod("b", "2", "n", "Running")))); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if got := names(s.List("prod", object.KindPod)); !slices.Equal(got, []string{"a"}) {
		t.Errorf("pods: %v", got)
	}
	if got, err := s.At(t.Context(), "prod", object.KindPod, t0.Add(time.Hour)); err != nil || len(got) != 1 {
		t.Errorf("in the file: %v, %v", names(got), err)
	}
	// The same batch again is taken, one that skips it is not.
	x.seq--
	x.apply(changed(pod("b", "2", "n", "Running")))
	if got := names(s.List("prod", object.KindPod)); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("after it came again: %v", got)
	}
	x.seq++
	if err := s.Apply(t.Context(), "prod", x.next(changed())); !errors.Is(err, fault.ErrConflict) {
		t.Errorf("a batch that skips one: %v", err)
	}
}

// A commit may succeed although the writer is told that it did not.
func TestADoubtfulCommitIsReadBack(t *testing.T) {
	c := &clock{now: t0}
	path := filepath.Join(t.TempDir(), "inventory.db")
	s := open(t, path, c)
	x := &session{t: t, s: s, cluster: "prod", id: "s1", at: t0}
	x.apply(snapshot(pod("a", "1", "n", "Pending")))
	other := open(t, path, c) // writes the next batch behind s's back, as an unseen commit does
	b := x.next(changed(pod("a", "1", "n", "Running")))
	if err := other.Apply(t.Context(), "prod", b); err != nil {
		t.Fatal(err)
	}
	s.get("prod").doubtful = true
	if err := s.Apply(t.Context(), "prod", b); err != nil {
		t.Fatal(err)
	}
	states, err := s.Versions(t.Context(), "prod", key("a"), t0, t0.Add(time.Hour))
	if err != nil || len(states) != 2 || s.List("prod", object.KindPod)[0].(*object.Pod).Phase != "Running" {
		t.Errorf("%+v, %v", states, err)
	}
}

func TestReplacementInOneBatch(t *testing.T) {
	c := &clock{now: t0}
	s := open(t, filepath.Join(t.TempDir(), "inventory.db"), c)
	x := &session{t: t, s: s, cluster: "prod", id: "s1", at: t0}
	x.apply(snapshot(pod("db-0", "old", "n-1", "Running")))
	b := changed(pod("db-0", "new", "n-2", "Pending"), pod("blink", "b", "n-1", "Pending"))
	b.Deleted = []wire.Deleted{{Key: key("db-0"), UID: "old"}, {Key: key("blink"), UID: "b"}}
	x.apply(b)
	o, ok := s.Get("prod", key("db-0"))
	if !ok || o.GetMeta().UID != "new" {
		t.Errorf("db-0: %+v", o)
	}
	if _, ok := s.Get("prod", key("blink")); ok {
		t.Error("blink came and went, but is there")
	}
	if got := s.PodsOn("prod", "n-1"); len(got) != 0 {
		t.Errorf("n-1 still has %v", got)
	}
}

func TestRetentionAndDeletion(t *testing.T) {
	c := &clock{now: t0}
	path := filepath.Join(t.TempDir(), "inventory.db")
	s := open(t, path, c)
	x := &session{t: t, s: s, cluster: "prod", id: "s1", at: t0}
	x.apply(snapshot(pod("a", "1", "n", "Pending"), pod("b", "2", "n", "Running")))
	x.apply(changed(pod("a", "1", "n", "Running")))
	b := changed()
	b.Deleted = []wire.Deleted{{Key: key("b"), UID: "2"}}
	x.apply(b)
	if n, err := s.Clean(t.Context()); err != nil || n != 0 {
		t.Errorf("cleaned %d, %v too early", n, err)
	}
	c.now = t0.Add(25 * time.Hour)
	if _, ok := s.Gone("prod", key("b")); ok {
		t.Error("the tombstone is older than a day")
	}
	c.now = t0.Add(91 * 24 * time.Hour)
	if n, err := s.Clean(t.Context()); err != nil || n != 2 {
		t.Errorf("cleaned %d, %v, want the two past states", n, err)
	}
	if got := names(s.List("prod", object.KindPod)); !slices.Equal(got, []string{"a"}) {
		t.Errorf("the present is %v", got)
	}
	watch := s.Changed()
	if err := s.DeleteCluster(t.Context(), "prod"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-watch:
	default:
		t.Error("the deletion was not announced")
	}
	if err := s.DeleteCluster(t.Context(), "prod"); !errors.Is(err, fault.ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	if len(s.Clusters()) != 0 {
		t.Errorf("clusters: %v", s.Clusters())
	}
	(&session{t: t, s: s, cluster: "prod", id: "s2", at: c.now}).apply(snapshot(pod("z", "9", "n", "Running")))
	if got := names(s.List("prod", object.KindPod)); !slices.Equal(got, []string{"z"}) {
		t.Errorf("after it came back: %v", got)
	}
}

func TestAClockThatIsAheadIsNotBelieved(t *testing.T) {
	c := &clock{now: t0}
	s := open(t, filepath.Join(t.TempDir(), "inventory.db"), c)
	(&session{t: t, s: s, cluster: "prod", id: "s1", at: t0.Add(time.Hour)}).apply(snapshot(pod("a", "1", "n", "Running")))
	got, err := s.Versions(t.Context(), "prod", key("a"), t0.Add(-time.Hour), t0.Add(2*time.Hour))
	if err != nil || len(got) != 1 || !got[0].From.Equal(t0) {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestBodiesArePacked keeps the file small, and reads bodies that are not packed.
func TestBodiesArePacked(t *testing.T) {
	p, err := newPacker()
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	body := []byte(`{"uid":"9f1c6a52-0c3f-4b83-8e0e-5d1f5f0f3c11","namespace":"shop","name":"cart-7c9d8f6b5-x2v4q","phase":"Running","ready":true}`)
	packed := p.pack(body)
	if got, err := p.unpack(packed); err != nil || string(got) != string(body) {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := p.unpack(body); err != nil || string(got) != string(body) {
		t.Errorf("as an earlier version wrote it: %q, %v", got, err)
	}
	if _, err := p.unpack(packed[:len(packed)-3]); err == nil {
		t.Error("half a body was read")
	}
	path := filepath.Join(t.TempDir(), "inventory.db")
	s := open(t, path, &clock{now: t0})
	x := &session{t: t, s: s, cluster: "prod", id: "s", at: t0}
	x.apply(snapshot(pod("a", "u1", "n1", "Running")))
	var stored []byte
	if err := s.db.QueryRow(`SELECT body FROM versions`).Scan(&stored); err != nil {
		t.Fatal(err)
	}
	plain, err := p.unpack(stored)
	if err != nil || len(stored) > len(plain)/3 {
		t.Errorf("%d bytes of %d, %v", len(stored), len(plain), err)
	}
}

func TestMetricsLint(t *testing.T) {
	reg := prometheus.NewRegistry()
	s, err := Open(Options{Path: filepath.Join(t.TempDir(), "inventory.db"), Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

func manyPods(n int) []object.Object {
	out := make([]object.Object, n)
	for i := range out {
		out[i] = pod(fmt.Sprintf("pod-%05d", (i*7919)%n), fmt.Sprint(i), fmt.Sprintf("n-%d", i%100), "Running")
	}
	return out
}

// bodies are objects as the inventory holds them: pods of a Deployment each, and other kinds between them.
func bodies(t testing.TB, n int) [][]byte {
	t.Helper()
	out := make([][]byte, n)
	for i := range out {
		name := fmt.Sprintf("cart-%d", i%100)
		m := object.Meta{
			UID: fmt.Sprintf("9f1c6a52-%04x-4b83-8e0e-%012x", i, i*7919), Namespace: fmt.Sprintf("team-%d", i%40), Name: name, CreatedAt: t0.Add(time.Duration(i) * time.Second),
			Labels: map[string]string{"app": name, "pod-template-hash": fmt.Sprintf("%x", i*104729), "tier": "web"},
		}
		var o object.Object
		switch i % 10 {
		case 0:
			o = &object.Workload{Meta: m, Ref: object.WorkloadRef{Type: "deployment", Name: name}, Desired: 3, Revision: "7"}
		case 1:
			o = &object.Service{Meta: m}
		case 2:
			o = &object.Node{Meta: m}
		default:
			m.Name += fmt.Sprintf("-7c9d8f6b5-x%dv4q", i)
			o = &object.Pod{
				Meta: m, Node: fmt.Sprintf("node-%04d", i), Workload: object.WorkloadRef{Type: "deployment", Name: name}, Phase: object.PhaseRunning,
				Limits: object.Resources{HasCPU: true, HasMemory: true}, Containers: []object.Container{{Name: "app", State: "running"}, {Name: "proxy", State: "running"}},
			}
		}
		body, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		out[i] = body
	}
	return out
}

// What was packed with another effort is read, and less of it makes rows hardly longer.
func TestPackingLevels(t *testing.T) {
	now, err := newPacker()
	if err != nil {
		t.Fatal(err)
	}
	defer now.close()
	more, err := newPackerAt(zstd.SpeedDefault)
	if err != nil {
		t.Fatal(err)
	}
	defer more.close()
	a, b := 0, 0
	for _, body := range bodies(t, 500) {
		fast, slow := now.pack(body), more.pack(body)
		a, b = a+len(fast), b+len(slow)
		for _, packed := range [][]byte{fast, slow} {
			for _, p := range []*packer{now, more} {
				if got, err := p.unpack(packed); err != nil || string(got) != string(body) {
					t.Fatalf("%q, %v; want %q", got, err, body)
				}
			}
		}
	}
	if a*100 > b*103 {
		t.Errorf("%d bytes, with more effort %d", a, b)
	}
}

func BenchmarkPack(b *testing.B) {
	for _, level := range []zstd.EncoderLevel{packLevel, zstd.SpeedDefault} {
		b.Run(level.String(), func(b *testing.B) {
			p, err := newPackerAt(level)
			if err != nil {
				b.Fatal(err)
			}
			defer p.close()
			all, packed, n := bodies(b, 500), 0, 0
			for b.Loop() {
				packed += len(p.pack(all[n%len(all)]))
				n++
			}
			b.ReportMetric(float64(packed)/float64(n), "packed_B/op")
		})
	}
}

func BenchmarkSnapshot10kPods(b *testing.B) {
	pods := manyPods(10_000)
	for b.Loop() {
		s := open(b, filepath.Join(b.TempDir(), "inventory.db"), &clock{now: t0})
		(&session{t: b, s: s, cluster: "prod", id: "s1", at: t0}).apply(snapshot(pods...))
	}
}

func BenchmarkSameSnapshotAgain10kPods(b *testing.B) {
	pods := manyPods(10_000)
	s := open(b, filepath.Join(b.TempDir(), "inventory.db"), &clock{now: t0})
	n := 0
	for b.Loop() {
		n++
		(&session{t: b, s: s, cluster: "prod", id: fmt.Sprint(n), at: t0}).apply(snapshot(pods...))
	}
}

func BenchmarkOneChangeAmong10kPods(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "inventory.db"), &clock{now: t0})
	x := &session{t: b, s: s, cluster: "prod", id: "s1", at: t0}
	x.apply(snapshot(manyPods(10_000)...))
	phases := []string{"Pending", "Running"}
	n := 0
	for b.Loop() {
		n++
		x.apply(changed(pod("pod-00042", "42", "n-1", phases[n%2])))
	}
}

// A list with changes put in is as one that is made anew.
func TestMergedLists(t *testing.T) {
	pod := func(n int, node string) *object.Pod {
		return &object.Pod{Meta: object.Meta{Namespace: fmt.Sprint("n", n%3), Name: fmt.Sprint("p", n)}, Node: node}
	}
	r := rand.New(rand.NewPCG(1, 2))
	want := map[object.Key]object.Object{}
	var list []object.Object
	for round := range 200 {
		changes := map[object.Key]object.Object{}
		for range r.IntN(5) {
			p := pod(r.IntN(40), fmt.Sprint(round))
			changes[object.KeyOf(p)] = p
			want[object.KeyOf(p)] = p
			if r.IntN(3) == 0 {
				changes[object.KeyOf(p)] = nil
				delete(want, object.KeyOf(p))
			}
		}
		before := slices.Clone(list)
		merged := merge(list, changes)
		if !slices.Equal(list, before) {
			t.Fatalf("round %d: readers' list was changed", round)
		}
		if list = merged; !slices.Equal(list, slices.SortedFunc(maps.Values(want), byName)) {
			t.Fatalf("round %d: %d objects, want %d in order", round, len(list), len(want))
		}
	}
}

// Lists, counts and nodes are what the objects are, whether somebody asked in between or
// not, lists that were handed out stay as they were, and what waits is bounded.
func TestListsFollowTheChanges(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "inventory.db"), &clock{now: t0})
	x := &session{t: t, s: s, cluster: "prod", id: "s1", at: t0}
	x.apply(snapshot())
	r := rand.New(rand.NewPCG(1, 2))
	some := func(round int) object.Object {
		if r.IntN(4) == 0 {
			return node(fmt.Sprint("n", r.IntN(20)), r.IntN(2) == 0)
		}
		return pod(fmt.Sprint("p", r.IntN(3_000)), fmt.Sprint("u", round), "n", fmt.Sprint(round))
	}
	want := map[object.Key]object.Object{}
	var had, copied []object.Object
	for round := range 60 {
		b := changed()
		for range r.IntN(100) {
			k := object.KeyOf(some(round))
			if before, there := want[k]; there && r.IntN(2) == 0 {
				b.Deleted = append(b.Deleted, wire.Deleted{Key: k, UID: before.GetMeta().UID})
				delete(want, k)
			}
		}
		for range r.IntN(800) {
			o := some(round)
			if k := object.KeyOf(o); !slices.ContainsFunc(b.Deleted, func(d wire.Deleted) bool { return d.Key == k }) {
				b.Put(o)
				want[k] = o
			}
		}
		x.apply(b)
		if n := len(s.get("prod").unlisted[object.KindPod]); n > maxUnlisted+len(want)/8 {
			t.Fatalf("round %d: %d changes wait", round, n)
		}
		if r.IntN(10) > 0 {
			continue
		}
		var realNodes []string
		info, _ := s.Info("prod")
		for _, kind := range []object.Kind{object.KindPod, object.KindNode} {
			var objects []object.Object
			for k, o := range want {
				if k.Kind == kind {
					objects = append(objects, o)
				}
				if n, ok := o.(*object.Node); ok && k.Kind == kind && !n.Virtual {
					realNodes = append(realNodes, n.Name)
				}
			}
			slices.SortFunc(objects, byName)
			got := s.List("prod", kind)
			if !slices.EqualFunc(got, objects, func(a, b object.Object) bool { return reflect.DeepEqual(a, b) }) {
				t.Fatalf("round %d: %d objects %s, want %d", round, len(got), kind, len(objects))
			}
			if info.Counts[kind] != len(objects) {
				t.Errorf("round %d: %d objects %s are counted, there are %d", round, info.Counts[kind], kind, len(objects))
			}
			if kind == object.KindPod {
				if !slices.Equal(had, copied) {
					t.Fatalf("round %d: a list that was handed out has changed", round)
				}
				had, copied = got, slices.Clone(got)
			}
		}
		slices.Sort(realNodes)
		if got := s.Nodes("prod"); !slices.Equal(got, realNodes) {
			t.Errorf("round %d: nodes %v, want %v", round, got, realNodes)
		}
	}
}

// Whoever follows the changes of a cluster is told each, or that some were missed.
func TestChangedSince(t *testing.T) {
	c := &clock{now: t0}
	s := open(t, filepath.Join(t.TempDir(), "inventory.db"), c)
	x := &session{t: t, s: s, cluster: "prod", id: "a", at: t0}
	if _, _, whole := s.ChangedSince("prod", Position{}); !whole {
		t.Error("it knows of a cluster that it has not heard of")
	}
	x.apply(snapshot(pod("a", "1", "n", object.PhaseRunning), pod("b", "2", "n", object.PhaseRunning)))
	_, at, whole := s.ChangedSince("prod", Position{})
	if !whole {
		t.Error("who has followed nothing is told what came since")
	}
	x.apply(changed(pod("a", "1", "n", object.PhaseRunning))) // as it was
	if keys, now, whole := s.ChangedSince("prod", at); whole || len(keys) > 0 || now != at {
		t.Errorf("nothing changed: %v, %v", keys, whole)
	}
	x.apply(changed(pod("b", "2", "other", object.PhaseRunning), pod("c", "3", "n", object.PhaseRunning)))
	x.apply(&wire.InventoryBatch{Deleted: []wire.Deleted{{Key: key("a"), UID: "1"}}})
	keys, now, whole := s.ChangedSince("prod", at)
	if want := []object.Key{key("b"), key("c"), key("a")}; whole || !slices.Equal(keys, want) {
		t.Errorf("got %v, %v, want %v", keys, whole, want)
	}
	if keys, _, whole := s.ChangedSince("prod", now); whole || len(keys) > 0 {
		t.Errorf("told twice: %v, %v", keys, whole)
	}
	for n := range 2*maxRecent/500 + 1 {
		var many []object.Object
		for i := range 500 {
			many = append(many, pod(fmt.Sprint("d", n, "-", i), "u", "n", object.PhaseRunning))
		}
		x.apply(changed(many...))
	}
	if keys, _, whole := s.ChangedSince("prod", now); !whole {
		t.Errorf("%d changes are all since long ago", len(keys))
	}
	_, now, _ = s.ChangedSince("prod", Position{})
	if err := s.DeleteCluster(t.Context(), "prod"); err != nil {
		t.Fatal(err)
	}
	x.id, x.seq = "b", 0
	x.apply(snapshot(pod("a", "1", "n", object.PhaseRunning)))
	if _, _, whole := s.ChangedSince("prod", now); !whole {
		t.Error("a cluster that was deleted goes on")
	}
}
