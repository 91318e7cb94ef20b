package main

import (
	"os"
	"testing"
)

func TestComputed(t *testing.T) {
	peer := 4.0
	for name, tc := range map[string]struct {
		in    Result
		holds string // yes, no, none
		fails bool
	}{
		"under its bar":         {in: Result{Ours: 0.04, Bar: "<= 0.05"}, holds: "yes"},
		"on its bar":            {in: Result{Ours: 0.05, Bar: "<= 0.05"}, holds: "yes"},
		"over its bar":          {in: Result{Ours: 0.051, Bar: "<= 0.05"}, holds: "no"},
		"at least":              {in: Result{Ours: 3, Bar: ">= 2"}, holds: "yes"},
		"ratio holds":           {in: Result{Ours: 4, Peer: &peer, Bar: "ratio <= 1"}, holds: "yes"},
		"ratio does not hold":   {in: Result{Ours: 5, Peer: &peer, Bar: "ratio <= 1"}, holds: "no"},
		"only reported":         {in: Result{Ours: 5}, holds: "none"},
		"a ratio without peer":  {in: Result{Ours: 5, Bar: "ratio <= 1"}, fails: true},
		"a bar without number":  {in: Result{Ours: 5, Bar: "<= little"}, fails: true},
		"a bar without operand": {in: Result{Ours: 5, Bar: "5"}, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			typed := tc.holds != "yes" // what was typed must not survive
			tc.in.Holds = &typed
			err := tc.in.compute()
			if (err != nil) != tc.fails {
				t.Fatalf("error is %v", err)
			}
			if tc.fails {
				return
			}
			got := "none"
			if tc.in.Holds != nil {
				got = map[bool]string{true: "yes", false: "no"}[*tc.in.Holds]
			}
			if got != tc.holds {
				t.Errorf("holds is %s, want %s", got, tc.holds)
			}
		})
	}
}

// What is recorded was computed, and the page shows what is recorded.
func TestRecordedResultsAreComputed(t *testing.T) {
	const dir = "../../docs/"
	results, err := load(dir + "benchmarks.json")
	if err != nil {
		t.Fatal(err)
	}
	for i := range results {
		if err := results[i].compute(); err != nil {
			t.Error(err)
		}
	}
	want, err := marshal(results)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"benchmarks.json": string(want), "benchmarks.md": render(results)} {
		got, err := os.ReadFile(dir + name)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("docs/%s is not what follows from the figures: make generate", name)
		}
	}
}

// What falls short says why, and what holds does not.
func TestShortfallsAreExplained(t *testing.T) {
	results, err := load("../../docs/benchmarks.json")
	if err != nil {
		t.Fatal(err)
	}
	short := map[string]bool{}
	for _, r := range results {
		if r.Holds != nil && !*r.Holds {
			if short[r.Name] = true; shortfalls[r.Name] == "" {
				t.Errorf("%s does not hold its bar, and shortfalls does not say why", r.Name)
			}
		}
	}
	for name := range shortfalls {
		if !short[name] {
			t.Errorf("%s holds its bar, or is not measured: it needs no word in shortfalls", name)
		}
	}
}

func TestMergeReplacesByName(t *testing.T) {
	got := merge([]Result{{Name: "b", Ours: 1}, {Name: "c", Ours: 2}}, []Result{{Name: "b", Ours: 3}, {Name: "a", Ours: 4}})
	if len(got) != 3 || got[0].Name != "a" || got[1].Ours != 3 || got[2].Ours != 2 {
		t.Errorf("got %+v", got)
	}
}
