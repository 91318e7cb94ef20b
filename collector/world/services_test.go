package world

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/bubbletest"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

type fixed struct{ s *state.Snapshot }

func (f *fixed) Snapshot() *state.Snapshot { return f.s }

func service(namespace, name, app string) *object.Service {
	return &object.Service{Meta: object.Meta{Namespace: namespace, Name: name, UID: namespace + "/" + name}, Selector: map[string]string{"app": app}}
}

func podOf(namespace, name, app string) *object.Pod {
	return &object.Pod{Meta: object.Meta{Namespace: namespace, Name: name, Labels: map[string]string{"app": app}}}
}

func TestServicesThatAreWatched(t *testing.T) {
	named := &object.Service{Meta: object.Meta{Namespace: "shop", Name: "by-hand"}, Pods: []string{"cart-1", "cart-3"}}
	all := map[string]*object.Service{"1": service("shop", "cart", "cart"), "2": service("pay", "cart", "cart"), "3": named, "4": {Meta: object.Meta{Namespace: "shop", Name: "outside"}}}
	f := &fixed{&state.Snapshot{Services: all}}
	w := &watchedServices{state: f}
	if _, known := w.Of(podOf("shop", "cart-1", "cart")); known {
		t.Error("known before anything was listed")
	}
	f.s = &state.Snapshot{Services: all, Synced: true}
	for pod, want := range map[string][]string{"cart-1": {"by-hand", "cart"}, "cart-2": {"cart"}} {
		got, known := w.Of(podOf("shop", pod, "cart"))
		if slices.Sort(got); !known || !slices.Equal(got, want) {
			t.Errorf("%s is of %v, want %v", pod, got, want)
		}
	}
	f.s = &state.Snapshot{Synced: true}
	if got, known := w.Of(podOf("shop", "cart-1", "cart")); !known || len(got) > 0 {
		t.Errorf("of Services that are gone: %v", got)
	}
}

func TestServicesThatTheServerTells(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		asks := 0
		var answer []*object.Service
		refused := errors.New("away")
		told := newToldServices(func(context.Context, []string) ([]*object.Service, error) {
			mu.Lock()
			defer mu.Unlock()
			asks++
			return answer, refused
		}, slog.New(slog.DiscardHandler), time.Now)
		asked := func() int {
			mu.Lock()
			defer mu.Unlock()
			return asks
		}
		says := func(err error, services ...*object.Service) {
			mu.Lock()
			defer mu.Unlock()
			answer, refused = services, err
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); told.run(ctx) }()
		time.Sleep(time.Hour)
		if n := asked(); n != 0 {
			t.Errorf("asked %d times though nobody wants to know", n)
		}
		of := func(p *object.Pod, want []string, wantKnown bool) {
			t.Helper()
			if got, known := told.Of(p); known != wantKnown || !slices.Equal(got, want) {
				t.Errorf("%s is of %v (%v), want %v (%v)", p.Name, got, known, want, wantKnown)
			}
		}
		of(podOf("shop", "cart-1", "cart"), nil, false)
		time.Sleep(time.Second)
		of(podOf("shop", "cart-1", "cart"), nil, false)
		// While it is away it is asked ever less often.
		for range 5 * 60 * 5 {
			of(podOf("shop", "cart-1", "cart"), nil, false)
			time.Sleep(200 * time.Millisecond)
		}
		if n := asked(); n < 5 || n > 20 {
			t.Errorf("asked %d times in five minutes", n)
		}
		says(nil, service("shop", "cart", "cart"))
		for i := 0; ; i++ {
			if _, known := told.Of(podOf("shop", "cart-1", "cart")); known {
				break
			}
			if i > 400 {
				t.Fatal("not told within 40 s")
			}
			time.Sleep(100 * time.Millisecond)
		}
		of(podOf("shop", "cart-1", "cart"), []string{"cart"}, true)
		of(podOf("shop", "new", "cart"), []string{"cart"}, true) // at once
		of(podOf("pay", "pay-1", "pay"), nil, false)
		time.Sleep(time.Second)
		of(podOf("pay", "pay-1", "pay"), nil, true)
		says(nil, service("shop", "cart", "cart"), service("pay", "pay", "pay"))
		time.Sleep(tellAgain + time.Second)
		of(podOf("pay", "pay-1", "pay"), []string{"pay"}, true)
		n := asked()
		time.Sleep(time.Hour)
		if more := asked() - n; more > 5 {
			t.Errorf("asked %d times for what nobody wants to know", more)
		}
		of(podOf("pay", "pay-1", "pay"), nil, false) // forgotten: asked for anew
		cancel()
		<-done
	})
}
