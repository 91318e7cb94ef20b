package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Result is one measured figure. Ratio and Holds are computed from the others
// and never typed.
type Result struct {
	Name        string   `json:"name"`
	Unit        string   `json:"unit"`
	Ours        float64  `json:"ours"`
	Peer        *float64 `json:"peer"` // the same of the peer; null when there is none
	PeerVersion string   `json:"peer_version"`
	Ratio       *float64 `json:"ratio"` // ours ÷ peer
	// Bar is what the figure must hold: "<= 0.05" of ours, or "ratio <= 1";
	// empty when it is only reported.
	Bar     string `json:"bar"`
	Holds   *bool  `json:"holds"` // null without a bar
	Command string `json:"command"`
	Date    string `json:"date"`
	Note    string `json:"note"`
}

// compute fills what follows from the rest.
func (r *Result) compute() error {
	r.Ratio, r.Holds = nil, nil
	if r.Peer != nil && *r.Peer != 0 {
		ratio := round(r.Ours / *r.Peer)
		r.Ratio = &ratio
	}
	if r.Bar == "" {
		return nil
	}
	figure, rest := r.Ours, r.Bar
	if after, ok := strings.CutPrefix(r.Bar, "ratio "); ok {
		if r.Ratio == nil {
			return fmt.Errorf("%s: its bar is a ratio, and there is no peer", r.Name)
		}
		figure, rest = *r.Ratio, after
	}
	op, text, _ := strings.Cut(rest, " ")
	bar, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return fmt.Errorf("%s: bar %q is no number: %w", r.Name, r.Bar, err)
	}
	var holds bool
	switch op {
	case "<=":
		holds = figure <= bar
	case ">=":
		holds = figure >= bar
	default:
		return fmt.Errorf("%s: bar %q must begin with <= or >=", r.Name, r.Bar)
	}
	r.Holds = &holds
	return nil
}

// round keeps four digits that count.
func round(v float64) float64 {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return v
	}
	scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(v))))
	return math.Round(v*scale) / scale
}

// load reads what was measured so far; none is no error.
func load(path string) ([]Result, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var results []Result
	if err := json.Unmarshal(raw, &results); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return results, nil
}

// merge puts the new results in the place of older ones of the same name.
func merge(old, measured []Result) []Result {
	out := slices.Clone(old)
	for _, r := range measured {
		if i := slices.IndexFunc(out, func(o Result) bool { return o.Name == r.Name }); i >= 0 {
			out[i] = r
		} else {
			out = append(out, r)
		}
	}
	slices.SortStableFunc(out, func(a, b Result) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// save writes the data and the page made of it.
func save(dir string, results []Result) error {
	for i := range results {
		if err := results[i].compute(); err != nil {
			return err
		}
	}
	raw, err := marshal(results)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "benchmarks.json"), raw, 0o644),
		os.WriteFile(filepath.Join(dir, "benchmarks.md"), []byte(render(results)), 0o644),
	)
}

func marshal(results []Result) ([]byte, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // bars hold < and >
	enc.SetIndent("", "  ")
	err := enc.Encode(results)
	return []byte(b.String()), err
}

// render makes docs/benchmarks.md.
func render(results []Result) string {
	var b strings.Builder
	b.WriteString(`# Benchmarks

<!-- Made from benchmarks.json by test/bench: make bench measures, make generate renders. Do not edit. -->

Figures as they were measured; "holds" is computed from the figure and its bar.

| | figure | unit | peer | ratio | bar | holds | measured |
|---|---:|---|---:|---:|---|---|---|
`)
	for _, r := range results {
		peer := ""
		if r.Peer != nil {
			peer = fmt.Sprintf("%s (%s)", number(*r.Peer), r.PeerVersion)
		}
		ratio := ""
		if r.Ratio != nil {
			ratio = number(*r.Ratio)
		}
		holds := ""
		if r.Holds != nil {
			holds = map[bool]string{true: "yes", false: "**no**"}[*r.Holds]
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %s |\n", r.Name, number(r.Ours), r.Unit, peer, ratio, bars.Replace(r.Bar), holds, r.Date)
	}
	b.WriteString(belowBar(results))
	b.WriteString("\n## How\n")
	for _, r := range results {
		fmt.Fprintf(&b, "\n**%s**: `%s`. %s\n", r.Name, r.Command, r.Note)
	}
	return b.String()
}

// bars writes a bar for people.
var bars = strings.NewReplacer("<=", "≤", ">=", "≥")

func number(v float64) string { return strconv.FormatFloat(round(v), 'f', -1, 64) }
