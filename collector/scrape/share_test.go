package scrape

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery/targetgroup"
)

// halves gives the first process what is in its set, the second the rest.
type halves struct {
	mu    sync.Mutex
	first map[string]bool
	gen   int
}

func (h *halves) move(to map[string]bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.first = to
	h.gen++
}

type half struct {
	*halves
	second bool
}

var _ Share = half{}

func (h half) Owns(family, key string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if family != "static" {
		return false
	}
	address := strings.Split(key, "\x00")[1]
	return h.first[address] != h.second
}

func (h half) State() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return fmt.Sprint(h.gen)
}

// A target that moves from one process to another is read by one of them at a
// time, and its series go on: no stale marker comes after what the other read.
func TestATargetMovesWithoutEndingItsSeries(t *testing.T) {
	var addresses []string
	for range 4 {
		addresses = append(addresses, serve(t, text("seen 1\n")))
	}
	j := job("shared", addresses[0], nil)
	j.Groups[0].Targets = nil
	for _, a := range addresses {
		j.Groups[0].Targets = append(j.Groups[0].Targets, model.LabelSet{model.AddressLabel: model.LabelValue(a)})
	}
	h := &halves{first: map[string]bool{addresses[0]: true, addresses[1]: true, addresses[2]: true}}
	a, gotA, stopA := run(t, Options{Share: half{h, false}}, j)
	b, gotB, stopB := run(t, Options{Share: half{h, true}}, j)
	targets := func(s *Scraper) int {
		c := s.targets()["static"]
		return c.up
	}
	until(t, "each reads its own", func() bool { return targets(a) == 3 && targets(b) == 1 })
	h.move(map[string]bool{addresses[0]: true})
	until(t, "two targets have moved", func() bool { return targets(a) == 1 && targets(b) == 3 })
	// Prometheus ends the series of a target that went after two intervals and a bit.
	before, _ := gotB.count("seen", "shared")
	until(t, "the other goes on", func() bool { n, _ := gotB.count("seen", "shared"); return n > before+15 })
	stopA()
	stopB()
	for name, g := range map[string]*got{"the first": gotA, "the second": gotB} {
		failed := map[string]bool{} // by a machine that was too slow for a scrape
		for _, s := range g.samples {
			if s.Metric == "up" && s.V == 0 {
				failed[s.Labels.Get("instance")+s.At.String()] = true
			}
		}
		for _, s := range g.samples {
			if s.Stale() && !failed[s.Labels.Get("instance")+s.At.String()] {
				t.Errorf("%s ended %s%s at %s", name, s.Metric, s.Labels, s.At)
			}
		}
	}
}

// What goes for good ends, though others share the targets.
func TestATargetThatGoesEndsItsSeries(t *testing.T) {
	j := job("shared", serve(t, text("seen 1\n")), nil)
	source := &fixed{jobs: []Job{j}}
	h := &halves{}
	_, g, _ := run(t, Options{Share: half{h, true}, Sources: []Source{source}})
	until(t, "it is read", func() bool { n, _ := g.count("seen", "shared"); return n > 0 })
	gone := j
	gone.Groups = []*targetgroup.Group{{Source: "shared"}}
	source.mu.Lock()
	source.jobs = []Job{gone}
	source.mu.Unlock()
	until(t, "it has ended", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, s := range g.samples {
			if s.Metric == "seen" && s.Stale() {
				return true
			}
		}
		return false
	})
}

func TestAShareIsMadeAnewOnlyWhereSomethingChanged(t *testing.T) {
	j := job("shared", "10.0.0.1:80", nil)
	j.Groups[0].Labels = model.LabelSet{paramTarget: "https://shop.example", model.MetricsPathLabel: "/probe"}
	h := &halves{}
	s, err := New(Options{Sources: []Source{&fixed{}}, Families: []string{"static"}, Share: half{h, true}})
	if err != nil {
		t.Fatal(err)
	}
	first := s.share([]Job{j})[0].Groups
	if again := s.share([]Job{j})[0].Groups; &again[0].Targets[0] != &first[0].Targets[0] {
		t.Error("the same is divided again")
	}
	h.move(map[string]bool{"10.0.0.1:80": true})
	if now := s.share([]Job{j}); len(now) != 1 || len(now[0].Groups[0].Targets) != 0 {
		t.Errorf("after it moved: %+v", now)
	}
	if key := targetKey("shared", "10.0.0.1:80", "/probe", "https://shop.example"); !s.shared[j.Config].others[key] {
		t.Errorf("others have %v", s.shared[j.Config].others)
	}
	if len(j.Groups[0].Targets) != 1 {
		t.Error("the source's own targets were changed")
	}
}
