package logs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/object"
)

func TestSelection(t *testing.T) {
	pod := &object.Pod{
		Meta:        object.Meta{Namespace: "shop", Name: "cart-1", Labels: map[string]string{"tier": "web"}},
		Workload:    object.WorkloadRef{Type: "deployment", Name: "cart"},
		Annotations: map[string]string{object.AnnotationLogs + "team": "a", object.AnnotationCollect + ".sidecar": "false"},
	}
	for name, tc := range map[string]struct {
		o    SelectOptions
		want bool
	}{
		"all":                     {SelectOptions{}, true},
		"namespace":               {SelectOptions{Namespaces: []string{"shop"}}, true},
		"another":                 {SelectOptions{Namespaces: []string{"team-*"}}, false},
		"one of several":          {SelectOptions{Namespaces: []string{"x", "sh*"}}, true},
		"left out":                {SelectOptions{Namespaces: []string{"!sh*"}}, false},
		"others left out":         {SelectOptions{Namespaces: []string{"!kube-*"}}, true},
		"taken, but left out":     {SelectOptions{Namespaces: []string{"*", "!shop"}}, false},
		"workload":                {SelectOptions{Workloads: []string{"deployment/*"}}, true},
		"another workload":        {SelectOptions{Workloads: []string{"statefulset/*"}}, false},
		"workload left out":       {SelectOptions{Workloads: []string{"!*/cart"}}, false},
		"labels":                  {SelectOptions{Labels: "tier in (web,api)"}, true},
		"other labels":            {SelectOptions{Labels: "tier=db"}, false},
		"annotations":             {SelectOptions{Annotations: "logs.crowsnest.dev/team=a"}, true},
		"other annotations":       {SelectOptions{Annotations: "logs.crowsnest.dev/team notin (a)"}, false},
		"every part has to match": {SelectOptions{Namespaces: []string{"shop"}, Labels: "tier=db"}, false},
		"by a namespace left out": {SelectOptions{Namespaces: []string{"x"}, Labels: "tier=web"}, false},
	} {
		s, err := newSelection(tc.o)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := s.takes(Container{Namespace: "shop", Container: "app"}, pod); got != tc.want {
			t.Errorf("%s: got %v", name, got)
		}
		if s.takes(Container{Namespace: "shop", Container: "sidecar"}, pod) {
			t.Errorf("%s: the container that is left out by annotation is taken", name)
		}
	}
	for _, o := range []SelectOptions{{Namespaces: []string{"["}}, {Workloads: []string{"cart"}}, {Labels: "a b c"}, {Annotations: "=="}, {Namespaces: []string{"!"}}} {
		if _, err := newSelection(o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

func TestFilesNotSelected(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	o := tr.options()
	o.Rules.Select.Workloads = []string{"!deployment/cart"}
	tr.write("0.log", 50)
	wanted := filepath.Join(tr.root, "shop_front-1_uid-2", "app")
	if err := os.MkdirAll(wanted, 0o755); err != nil {
		t.Fatal(err)
	}
	o.State = podState(&object.Pod{Meta: object.Meta{UID: "uid-1"}, Workload: object.WorkloadRef{Type: "deployment", Name: "cart"}},
		&object.Pod{Meta: object.Meta{UID: "uid-2"}, Workload: object.WorkloadRef{Type: "deployment", Name: "front"}})
	_, stop := tr.runWith(o, s)
	tr.write("0.log", 50)
	tr.dir, tr.next = wanted, 0
	tr.write("0.log", 100)
	numbered(t, s.await("front-1/app/stdout", 100), 100)
	stop()
	if got := s.got(key); len(got) > 0 {
		t.Errorf("%d lines of a workload that is left out", len(got))
	}
}

// Rules that leave a container out say nothing of its lines, though a batch with some
// was on its way: these are not lost but unwanted.
func TestFilesLeaveOutWhatWasOnItsWay(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	s.frozen = true
	tr.write("0.log", 50)
	_, stop := tr.run(s)
	waitFor(t, func() bool {
		raw, err := os.ReadFile(tr.positions())
		return err == nil && strings.Contains(string(raw), `"in_flight"`)
	})
	stop()
	s.set(func() { s.frozen = false })
	o := tr.options()
	o.Rules.Select.Namespaces = []string{"!shop"}
	tr.dir, tr.next = filepath.Join(tr.root, "pay_pay-1_uid-2", "app"), 0
	if err := os.MkdirAll(tr.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	tr.write("0.log", 100)
	f, stop := tr.runWith(o, s)
	numbered(t, s.await("pay-1/app/stdout", 100), 100)
	stop()
	if h := f.Health(); len(s.got(key)) > 0 || len(h.Dropped) > 0 || told(s) > 0 {
		t.Errorf("got %q, health %+v, %d lines said to be missing", s.got(key), h, told(s))
	}
}

// What is over the limit is dropped, counted to the line, and told where it was.
func TestFilesRateLimit(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	o := tr.options()
	o.Rules.Limit.Lines = 10 // 100 in ten seconds
	for i := range 1000 {
		tr.raw("0.log", cri(i*30, "stdout", "F", fmt.Sprintf("line %d", i))) // 30 s, three spans
	}
	f, stop := tr.runWith(o, s)
	waitFor(t, func() bool { return f.Health().Sent+f.Health().Dropped[DropRate] == 1000 })
	waitFor(t, func() bool { return told(s) == 1000-int(f.Health().Sent) })
	stop()
	h := f.Health()
	if h.Read != 1000 || h.Sent != 300 && h.Sent != 400 {
		t.Errorf("health is %+v", h)
	}
	var text string
	for i, l := range s.got(key) {
		if strings.Contains(l, "dropped here") {
			text = l
			fields := s.fields[i]
			from, err := time.Parse(time.RFC3339Nano, fields["crowsnest_dropped_from"])
			until, err2 := time.Parse(time.RFC3339Nano, fields["crowsnest_dropped_until"])
			if err != nil || err2 != nil || from.After(until) || fields["crowsnest_dropped_reason"] != DropRate || fields["level"] != "warn" || fields["crowsnest_dropped_bytes"] == "0" {
				t.Errorf("fields are %v", fields)
			}
		}
	}
	if !strings.Contains(text, " of shop/cart-1 (app) dropped here: over the container's rate limit") {
		t.Errorf("told %q", text)
	}
}

// told is how many lines were said to be missing.
func told(s *server) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.fields {
		k, _ := strconv.Atoi(f["crowsnest_dropped_lines"])
		n += k
	}
	return n
}

func TestFilesLimitsByAnnotationAndSize(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	o := tr.options()
	o.Rules.Limit.LineBytes = 20
	o.State = podState(&object.Pod{Meta: object.Meta{UID: "uid-1"}, Annotations: map[string]string{object.AnnotationBytesPerSecond: "10"}})
	tr.raw("0.log", cri(0, "stdout", "F", strings.Repeat("x", 60))+cri(1, "stdout", "F", "fits")+cri(2, "stdout", "F", strings.Repeat("y", 60))+cri(3, "stdout", "F", "fits, too"))
	_, stop := tr.runWith(o, s)
	got := s.await(key, 4)
	stop()
	cut := s.fields[0]["crowsnest_cut_bytes"]
	slices.Sort(got) // what was dropped is told at the end of its batch
	if cut != "40" || !strings.HasPrefix(got[0], "1 line of shop/cart-1") || got[1] != "fits" || got[2] != "fits, too" || got[3] != strings.Repeat("x", 20) {
		t.Errorf("got %q, fields %v", got, s.fields)
	}
}

func TestAPISelectsAndLimits(t *testing.T) {
	c, s := newCluster(t), newServer(t)
	o := c.options(s)
	o.Rules.Limit.Lines = 10
	c.write(1000) // three lines in 100 ms
	a, stop := c.run(o, s)
	waitFor(t, func() bool {
		h := a.Health()
		return h.Sent+h.Dropped[DropRate] == 1000 && told(s) == int(h.Dropped[DropRate])
	})
	stop()
	if h := a.Health(); h.Read != 1000 || h.Dropped[DropRate] == 0 {
		t.Errorf("health is %+v", h)
	}
}

// While the server is away, deleted files are held open up to a bound. What is
// given up is counted to the line, and told where it was.
func TestFilesTellWhatRotationTook(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	s.away = true
	f, stop := tr.run(s)
	tr.write("0.log", 3*batchLines) // more than is held in memory
	waitFor(t, func() bool { return f.Health().Read == 2*batchLines })
	for i := range maxDeleted + 3 {
		tr.rename("0.log", fmt.Sprintf("0.log.20261123-10%04d", i))
		tr.write("0.log", 100)
		waitFor(t, func() bool { return isOpen(t, filepath.Join(tr.dir, "0.log")) })
		if err := os.Remove(filepath.Join(tr.dir, fmt.Sprintf("0.log.20261123-10%04d", i))); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, func() bool { return f.Health().Dropped[DropRotated] > 0 })
	s.set(func() { s.away = false })
	waitFor(t, func() bool { h := f.Health(); return h.Sent+h.Dropped[DropRotated] == int64(tr.next) })
	waitFor(t, func() bool { return told(s) == int(f.Health().Dropped[DropRotated]) })
	stop()
	seen := map[string]int{}
	for _, l := range s.got(key) {
		seen[l]++
	}
	have := 0
	for i := range tr.next {
		if n := seen[fmt.Sprintf("line %d", i)]; n > 1 {
			t.Errorf("line %d was seen %d times", i, n)
		} else {
			have += n
		}
	}
	if lost := tr.next - have; lost != int(f.Health().Dropped[DropRotated]) || lost == 0 {
		t.Errorf("%d lines are missing, %d are counted", lost, f.Health().Dropped[DropRotated])
	}
}
