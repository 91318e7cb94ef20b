package custom

import (
	"testing"
	"time"
)

// What an expression surely lacks is found without reading the rest, and PromQL
// agrees: it gives nothing.
func TestHollow(t *testing.T) {
	b := newBench(t)
	at := t0.Add(time.Hour)
	b.put(at, 1, "__name__", "here", "cluster", "c1", "pod", "p")
	b.put(at, 1, "__name__", "also", "cluster", "c1", "pod", "p")
	b.put(at, 1, "__name__", "elsewhere", "cluster", "c2", "pod", "p")
	b.put(at.Add(-10*time.Minute), 1, "__name__", "before", "cluster", "c3", "pod", "p")
	for expr, want := range map[string]bool{
		`here`:                               false,
		`gone`:                               true,
		`elsewhere`:                          true,
		`here * on (pod) group_left () gone`: true,
		`gone * on (pod) group_left () here`: true,
		`sum by (pod) (-(gone * here))`:      true,
		`here and also`:                      false,
		`here unless gone`:                   false,
		`gone unless here`:                   true,
		`gone or here`:                       false,
		`here or gone`:                       false,
		`gone or elsewhere`:                  true,
		`100 * gone`:                         true,
		`here > bool 2`:                      false,
		`gone offset 1h`:                     false, // not looked at
		`absent(gone)`:                       false,
		`here * 0 + on (pod) sum by (pod) (gone / 100 or label_replace(gone, "a", "b", "c", "d"))`: false, // nor are functions
	} {
		e, err := selective(expr, "c1")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := b.m.hollow(t.Context(), e, at, at); err != nil || got != want {
			t.Errorf("%s: %v, %v, want %v", expr, got, err, want)
		}
		if !want {
			continue
		}
		q, err := b.m.engine.NewInstantQuery(t.Context(), b.db, nil, e.String(), at)
		if err != nil {
			t.Fatal(err)
		}
		if res := q.Exec(t.Context()); res.Err != nil || res.String() != "" {
			t.Errorf("%s gives %v", expr, res)
		}
		q.Close()
	}
	if e, err := selective("before", "c3"); err != nil {
		t.Fatal(err)
	} else if got, err := b.m.hollow(t.Context(), e, at, at); err != nil || !got {
		t.Errorf("a series that ended ten minutes ago: %v, %v", got, err)
	}
}
