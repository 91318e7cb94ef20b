package inventory

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// asked is what a store answers about the past, as text.
func asked(t *testing.T, s *Store, times []time.Time, names []string) (out []string) {
	t.Helper()
	text := func(v any) string {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	for i, at := range times {
		all, err := s.At(t.Context(), "prod", object.KindPod, at)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("at %s: %s", at, text(all)))
		var keys []object.Key
		var apart []Version
		for _, name := range names {
			vs, err := s.Versions(t.Context(), "prod", key(name), times[i/2], at)
			if err != nil {
				t.Fatal(err)
			}
			keys, apart = append(keys, key(name)), append(apart, vs...)
			out = append(out, fmt.Sprintf("%s from %s to %s: %s", name, times[i/2], at, text(vs)))
		}
		keys = append(keys, key("never there"))
		var together []Version
		if err := s.VersionsOf(t.Context(), "prod", object.KindPod, keys, times[i/2], at, func(v Version) error { together = append(together, v); return nil }); err != nil {
			t.Fatal(err)
		}
		slices.SortStableFunc(apart, func(a, b Version) int { return cmp.Compare(a.Object.GetMeta().Name, b.Object.GetMeta().Name) })
		if got, want := text(together), text(apart); got != want {
			t.Errorf("of many at once from %s to %s: %s, want %s", times[i/2], at, got, want)
		}
		one := fmt.Sprintf("history from %s to %s:", times[i/2], at)
		if err := s.History(t.Context(), "prod", object.KindPod, times[i/2], at, func(v Version) error { one += text(v); return nil }); err != nil {
			t.Fatal(err)
		}
		out = append(out, one)
	}
	return out
}

// What is asked about the past is answered the same before and after it is packed:
// of objects that came and went, that came back under their name, and that changed
// more often than one row holds.
func TestThePastIsTheSamePacked(t *testing.T) {
	c := &clock{now: t0}
	path := filepath.Join(t.TempDir(), "inventory.db")
	s := open(t, path, c)
	x := &session{t: t, s: s, cluster: "prod", id: "s", at: t0}
	x.apply(snapshot(node("n", false)))
	names := []string{"a", "b", "c", "flaps", "stays"}
	random := rand.New(rand.NewPCG(1, 2))
	there := map[string]int{} // generation of those that are there
	times := []time.Time{t0}
	for i := range 120 {
		b := changed()
		for j, name := range names {
			switch {
			case name == "stays" && i > 0:
			case name == "flaps" || name == "stays" || random.IntN(4) == 0:
				if there[name] == 0 {
					there[name] = i + 1
				}
				b.Put(pod(name, fmt.Sprintf("%s-%d", name, there[name]), "n", []string{"Pending", "Running"}[(i+j)%2]))
			case there[name] != 0 && name != "stays" && random.IntN(10) == 0:
				b.Deleted = append(b.Deleted, wire.Deleted{Key: key(name), UID: fmt.Sprintf("%s-%d", name, there[name])})
				delete(there, name)
			}
		}
		x.apply(b)
		c.now = x.at
		if i%30 == 0 {
			times = append(times, x.at.Add(-500*time.Millisecond), x.at)
		}
	}
	times = append(times, x.at.Add(time.Hour))
	rows := func(table string) (n int) {
		if err := s.db.QueryRow(`SELECT count(*) FROM ` + table).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	c.now = x.at.Add(time.Hour)
	if n, err := s.Pack(t.Context()); err != nil || n != 0 {
		t.Errorf("%d states are packed though Gone may still be asked for them, %v", n, err)
	}
	want, before := asked(t, s, times, names), rows("versions")
	c.now = x.at.Add(25 * time.Hour)
	n, err := s.Pack(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	versions, lives := rows("versions"), rows("lives")
	if int(n) != before-versions || versions > packFrom || lives > before/8 {
		t.Errorf("%d of %d states were packed into %d rows, %d are left", n, before, lives, versions)
	}
	compare := func(when string) {
		t.Helper()
		for i, got := range asked(t, s, times, names) {
			if got != want[i] {
				t.Fatalf("%s:\n%.2000s\nbefore:\n%.2000s", when, got, want[i])
			}
		}
	}
	compare("packed")
	if again, err := s.Pack(t.Context()); err != nil || again != 0 {
		t.Errorf("packed again %d, %v", again, err)
	}
	// The session goes on after a restart, and what comes now is unpacked again.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path, c)
	x.s, x.at = s, c.now
	compare("after a restart")
	x.apply(changed(pod("stays", "stays-1", "n", "Failed")))
	if vs, err := s.Versions(t.Context(), "prod", key("stays"), t0, c.now.Add(time.Hour)); err != nil || len(vs) < 2 || !vs[len(vs)-1].To.IsZero() || vs[len(vs)-1].Object.(*object.Pod).Phase != "Failed" || !vs[len(vs)-2].To.Equal(vs[len(vs)-1].From) {
		t.Errorf("%+v, %v", vs, err)
	}
	// They go when the last of them is past the retention.
	c.now = c.now.Add(91 * 24 * time.Hour)
	if _, err := s.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := rows("lives"); n != 0 {
		t.Errorf("%d packed rows outlive the retention", n)
	}
	x.at = c.now
	if err := s.DeleteCluster(t.Context(), "prod"); err != nil || rows("versions") != 0 {
		t.Errorf("%d states outlive the cluster, %v", rows("versions"), err)
	}
}

// However many objects a moment has, each is told once and in order, from rows of all
// three sorts: packed ones, past ones and present ones.
func TestAMomentOfManyObjects(t *testing.T) {
	c := &clock{now: t0}
	s := open(t, filepath.Join(t.TempDir(), "inventory.db"), c)
	x := &session{t: t, s: s, cluster: "prod", id: "s", at: t0}
	const many = 2*statesAtOnce + 17
	name := func(i int) string { return fmt.Sprintf("p-%04d", i) }
	x.apply(snapshot(node("n", false)))
	put := func(phase string, which func(i int) bool) {
		b := changed()
		for i := range many {
			if which(i) {
				b.Put(pod(name(i), name(i), "n", phase))
			}
		}
		x.apply(b)
	}
	put("Pending", func(int) bool { return true })
	then := x.at
	put("Running", func(i int) bool { return i%3 != 0 })
	b := changed()
	for i := range many {
		if i%3 == 1 {
			b.Deleted = append(b.Deleted, wire.Deleted{Key: key(name(i)), UID: name(i)})
		}
	}
	x.apply(b)
	c.now = x.at.Add(48 * time.Hour)
	if n, err := s.Pack(t.Context()); err != nil || n == 0 {
		t.Fatalf("%d states are packed, %v", n, err)
	}
	got, err := s.At(t.Context(), "prod", object.KindPod, then)
	if err != nil || len(got) != many {
		t.Fatalf("%d pods were there, %v, want %d", len(got), err, many)
	}
	for i, o := range got {
		if p := o.(*object.Pod); p.Name != name(i) || p.Phase != "Pending" {
			t.Errorf("pod %d was %s %s", i, p.Name, p.Phase)
		}
	}
	// An error of who asks ends it, and is given back.
	enough, calls := errors.New("enough"), 0
	err = s.History(t.Context(), "prod", object.KindPod, t0, c.now, func(Version) error {
		if calls++; calls == statesAtOnce+1 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || calls != statesAtOnce+1 {
		t.Errorf("after %d states: %v", calls, err)
	}
}
