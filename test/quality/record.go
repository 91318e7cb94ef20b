package quality

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Report is all that was measured, the newest of each fault.
type Report struct {
	IntervalSeconds  float64 `json:"interval_seconds"`
	PeriodsDividedBy int     `json:"periods_divided_by"`
	Readings         string  `json:"readings"`
	Rows             []Row   `json:"rows"`
}

// Paths of the report, from the project's root.
const (
	reportJSON = "docs/alert-quality.json"
	reportText = "docs/alert-quality.md"
)

// Load reads what was measured so far; none is no error.
func Load(root string) (Report, error) {
	setup := FromFiles()
	out := Report{IntervalSeconds: setup.Interval.Seconds(), PeriodsDividedBy: setup.Divisor, Readings: setup.Readings()}
	raw, err := os.ReadFile(filepath.Join(root, reportJSON))
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return out, fmt.Errorf("read %s: %w", reportJSON, err)
	}
	return out, nil
}

// Names of all faults and pairs, in their order.
func Names() []string {
	var out []string
	for _, f := range Faults() {
		out = append(out, f.Name)
	}
	for _, p := range Pairs() {
		out = append(out, p.Name())
	}
	return append(out, Usages()...)
}

// Record puts a row in the place of what was measured of the same fault before,
// and writes both files.
func Record(root string, row Row) error {
	report, err := Load(root)
	if err != nil {
		return err
	}
	names := Names()
	if row.IntervalSeconds == report.IntervalSeconds {
		row.IntervalSeconds = 0
	}
	report.Rows = slices.DeleteFunc(report.Rows, func(r Row) bool { return r.Name == row.Name || !slices.Contains(names, r.Name) })
	report.Rows = append(report.Rows, row)
	slices.SortFunc(report.Rows, func(a, b Row) int { return slices.Index(names, a.Name) - slices.Index(names, b.Name) })
	return save(root, report)
}

// Render writes the page anew, of what was measured so far.
func Render(root string) error {
	report, err := Load(root)
	if err != nil {
		return err
	}
	return save(root, report)
}

func save(root string, report Report) error {
	raw, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	if err := replace(filepath.Join(root, reportJSON), append(raw, '\n')); err != nil {
		return err
	}
	return replace(filepath.Join(root, reportText), []byte(report.Text()))
}

func replace(path string, raw []byte) error {
	if err := os.WriteFile(path+".new", raw, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Text is the report for people.
func (r Report) Text() string {
	var b strings.Builder
	other := FromCadvisor()
	missing, broken, alarms := []string{}, 0, 0
	for _, name := range Names() {
		if !slices.ContainsFunc(r.Rows, func(row Row) bool { return row.Name == name }) {
			missing = append(missing, name)
		}
	}
	for _, row := range r.Rows {
		alarms += len(row.False)
		if !row.Holds {
			broken++
		}
	}
	fmt.Fprintf(&b, `# What is found when something breaks, and how soon

<!-- Made from docs/alert-quality.json by make faults. Do not edit. -->

A real cluster (test/e2e/cluster) is broken on purpose, one fault after the other and in pairs, and mended again. The policies are those that come with
the server, at an interval of %.0f s with readings from %s, every period divided by %d; the code is the same. Time counts from when the API, the
kubelet or the kernel first shows the fault. The bar is what the policy needs by itself (bad periods × period) + one interval + 2 s; any other policy that
fires is a false alert. Those that end with %s are measured once more at %.0f s, by one collector that reads the kubelets' %s, every period divided by %d.
%d of %d rows are measured, %d hold; %d false alerts.

`, r.IntervalSeconds, r.Readings, r.PeriodsDividedBy, outside, other.Interval.Seconds(), other.Readings(), other.Divisor, len(r.Rows), len(Names()), len(r.Rows)-broken, alarms)
	if len(missing) > 0 {
		fmt.Fprintf(&b, "Not measured yet: %s.\n\n", strings.Join(missing, ", "))
	}
	b.WriteString("| fault | found by | Kubernetes' delay | found after | bar | told after | ended after, with | fired too | holds |\n|---|---|---|---|---|---|---|---|---|\n")
	seconds := func(v *float64) string {
		if v == nil {
			return ""
		}
		return fmt.Sprintf("%.1f s", *v)
	}
	for _, row := range r.Rows {
		holds := "yes"
		if !row.Holds {
			holds = "**no**: " + strings.Join(row.Wrong, "; ")
		}
		also := strings.Join(row.Also, ", ")
		if len(row.Findings) == 0 {
			quiet := "quiet"
			if len(row.Ended) > 0 {
				quiet += "; " + strings.Join(row.Ended, ", ")
			}
			fmt.Fprintf(&b, "| %s | nothing | | | | | %s | %s | %s |\n", row.Name, quiet, also, holds)
		}
		for i, f := range row.Findings {
			name := row.Name
			if i > 0 {
				name, also, holds = "", "", ""
			}
			if f.Object == "" {
				fmt.Fprintf(&b, "| %s | `%s` | | not | %.0f s | | | %s | %s |\n", name, f.Policy, f.BarSeconds, also, holds)
				continue
			}
			told := seconds(f.ToldSeconds)
			if told == "" && row.Note != "" {
				told = "with the incident's next news"
			} else if told == "" {
				told = "muted " + strings.Join(f.MutedBy, ", ")
			}
			fmt.Fprintf(&b, "| %s | `%s` | %.1f s | %.1f s | %.0f s | %s | %s %s | %s | %s |\n", name, f.Policy, f.DelaySeconds, f.FoundSeconds, f.BarSeconds, told, seconds(f.EndedSeconds), f.Cause, also, holds)
		}
	}
	b.WriteString("\n## How each is done\n\n")
	for _, row := range r.Rows {
		fmt.Fprintf(&b, "- **%s**: %s.", row.Name, row.How)
		if len(row.May) > 0 {
			fmt.Fprintf(&b, " May fire too: %s.", strings.Join(slices.Compact(slices.Sorted(slices.Values(row.May))), ", "))
		}
		fmt.Fprintf(&b, " Measured %s, load average %.1f", row.Date, row.LoadAverage)
		if len(row.Ambient) > 0 {
			fmt.Fprintf(&b, "; %s", strings.Join(slices.Compact(row.Ambient), ", "))
		}
		b.WriteString(".\n")
	}
	return b.String()
}
