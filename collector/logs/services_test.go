package logs

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// fixedServices are the Services of pods by UID; of those that are left out nothing is
// known.
type fixedServices struct {
	mu sync.Mutex
	by map[string][]string
}

var _ Services = (*fixedServices)(nil)

func (f *fixedServices) Of(pod *object.Pod) (names []string, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	names, known = f.by[pod.UID]
	return names, known
}

func (f *fixedServices) set(uid string, names ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.by[uid] = names
}

func TestSelectionByService(t *testing.T) {
	pod := &object.Pod{Meta: object.Meta{UID: "u", Namespace: "shop", Name: "cart-1"}}
	for name, tc := range map[string]struct {
		patterns, services []string
		want               verdict
	}{
		"by name":                         {[]string{"cart"}, []string{"cart"}, taken},
		"one of its Services":             {[]string{"cart"}, []string{"cart-headless", "cart"}, taken},
		"another":                         {[]string{"pay"}, []string{"cart"}, elsewhere},
		"pattern":                         {[]string{"ca*"}, []string{"cart"}, taken},
		"with its namespace":              {[]string{"shop/*"}, []string{"cart"}, taken},
		"of another namespace":            {[]string{"pay/cart"}, []string{"cart"}, elsewhere},
		"left out":                        {[]string{"!cart"}, []string{"cart"}, elsewhere},
		"one of several is left out":      {[]string{"*", "!*-canary"}, []string{"cart", "cart-canary"}, elsewhere},
		"others are left out":             {[]string{"!pay"}, []string{"cart"}, taken},
		"of none, and some are meant":     {[]string{"*"}, []string{}, elsewhere},
		"of none, and some are left out":  {[]string{"!*"}, []string{}, taken},
		"left out with its namespace":     {[]string{"!shop/ca*"}, []string{"cart"}, elsewhere},
		"left out in another's namespace": {[]string{"!pay/ca*"}, []string{"cart"}, taken},
		"not told yet":                    {[]string{"cart"}, nil, undecided},
		"not told, and nobody asks":       {nil, nil, taken},
	} {
		s, err := newSelection(SelectOptions{Services: tc.patterns})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		f := &fixedServices{by: map[string][]string{}}
		if tc.services != nil {
			f.by["u"] = tc.services
		}
		id := Container{Namespace: "shop", Container: "app"}
		if got := s.judge(id, pod, f); got != tc.want {
			t.Errorf("%s: got %v, want %v", name, got, tc.want)
		}
		if s.namespaces = []string{"other"}; s.judge(id, pod, f) != refused {
			t.Errorf("%s: what else is asked for does not count", name)
		}
	}
	for _, p := range []string{"a/b/c", "[", "!", ""} {
		if _, err := newSelection(SelectOptions{Services: []string{p}}); err == nil {
			t.Errorf("%q is taken", p)
		}
	}
	if _, err := NewFiles(FilesOptions{Dir: t.TempDir(), Sender: "node/n1", Rules: Rules{Select: SelectOptions{Services: []string{"cart"}}}}); err == nil {
		t.Error("Services are asked for of nobody")
	}
}

// A pod's lines wait in their files until its Services are told. One that comes to be
// of a Service later is followed from its first line, one that leaves it still is.
func TestFilesByService(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	o := tr.options()
	services := &fixedServices{by: map[string][]string{"uid-2": {"front"}}}
	o.Services, o.Rules.Select.Services = services, []string{"cart"}
	other := filepath.Join(tr.root, "shop_front-1_uid-2", "app")
	if err := os.MkdirAll(other, 0o755); err != nil {
		t.Fatal(err)
	}
	o.State = podState(&object.Pod{Meta: object.Meta{UID: "uid-1", Namespace: "shop", Name: "cart-1"}},
		&object.Pod{Meta: object.Meta{UID: "uid-2", Namespace: "shop", Name: "front-1"}})
	tr.write("0.log", 100)
	f, stop := tr.runWith(o, s)
	cart := tr.dir
	tr.dir, tr.next = other, 0
	tr.write("0.log", 100)
	waitFor(t, func() bool { return len(f.Counts()) == 2 })
	if h := f.Health(); h.Read != 0 {
		t.Errorf("%d lines of pods were read whose Services are not told, or others", h.Read)
	}
	services.set("uid-1", "cart")
	numbered(t, s.await(key, 100), 100)
	services.set("uid-2", "front", "cart")
	numbered(t, s.await("front-1/app/stdout", 100), 100)
	services.set("uid-1")
	services.set("uid-2", "front")
	tr.write("0.log", 100)
	numbered(t, s.await("front-1/app/stdout", 200), 200)
	tr.dir, tr.next = cart, 100
	tr.write("0.log", 100)
	numbered(t, s.await(key, 200), 200)
	stop()
}

func TestAPIByService(t *testing.T) {
	c, s := newCluster(t), newServer(t)
	o := c.options(s)
	services := &fixedServices{by: map[string][]string{"uid-cart-1": {"pay"}}}
	o.Services, o.Rules.Select.Services = services, []string{"shop/cart"}
	c.set(func() { c.pods = 2 })
	c.write(100)
	a, stop := c.run(o, s)
	services.set("uid-cart-2", "cart", "cart-headless")
	numbered(t, s.await("cart-2/app/stdout", 100), 100)
	if got := s.got(key); len(got) > 0 || len(a.Counts()) != 1 {
		t.Errorf("%d lines of a pod of another Service", len(got))
	}
	services.set("uid-cart-1", "pay", "cart")
	numbered(t, s.await(key, 100), 100)
	stop()
}
