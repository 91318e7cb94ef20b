package catalogue

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestThereAre32CoreMetrics(t *testing.T) {
	n := 0
	for _, m := range All() {
		if m.Core {
			n++
		}
	}
	if n != 32 {
		t.Errorf("%d core metrics are declared, the contract has 32", n)
	}
}

func TestEntriesAreComplete(t *testing.T) {
	name := regexp.MustCompile(`^k8s_[a-z]+_[a-z0-9_]*[a-z0-9]$`)
	for _, m := range All() {
		switch {
		case !name.MatchString(m.Name) || !strings.HasPrefix(m.Name, PrefixOf(m.Level)):
			t.Errorf("%s: the name must start with %s", m.Name, PrefixOf(m.Level))
		case m.Title == "" || !strings.HasSuffix(m.Help, "."):
			t.Errorf("%s: needs a title and a help that is a sentence", m.Name)
		case m.Unit == "" || m.Kind == "" || m.Place == "" || len(m.From) == 0 || m.Chart.Group == "":
			t.Errorf("%s: unit, kind, place, sources and chart group must be set", m.Name)
		case !slices.Contains(Levels, m.Level) || !slices.Contains(Statistics, m.Statistic):
			t.Errorf("%s: unknown level %q or statistic %q", m.Name, m.Level, m.Statistic)
		case (m.Kind == Counter) != (m.Statistic == Increase):
			t.Errorf("%s: a counter's statistic is increase, and only a counter's", m.Name)
		case (m.Place == ByServer) != (m.Sum != nil || m.Expr != "") || m.Sum != nil && m.Expr != "":
			t.Errorf("%s: what the server computes declares a sum or an expression, and nothing else does", m.Name)
		}
		if a := m.Alert; a != nil && (a.Need < 1 || a.Need > a.Of || a.Period <= 0 || a.Severity.Rank() == 0) {
			t.Errorf("%s: default alert does not make sense: %+v", m.Name, *a)
		}
	}
}

func TestSumsReferToDeclaredMetrics(t *testing.T) {
	for _, m := range All() {
		if m.Sum == nil {
			continue
		}
		of, ok := Get(m.Sum.Of)
		if !ok || of.Kind != Gauge {
			t.Errorf("%s sums %q, which is no declared gauge", m.Name, m.Sum.Of)
		}
		for _, l := range m.Level.SeriesLabels() {
			if !slices.Contains(of.Labels(), l) {
				t.Errorf("%s sums %s, whose series lack the label %s", m.Name, of.Name, l)
			}
		}
		if m.Sum.Per != "" {
			if per, ok := Get(m.Sum.Per); !ok || per.Level != m.Level {
				t.Errorf("%s is per %q, which is no metric of its level", m.Name, m.Sum.Per)
			}
		}
	}
}

func TestNearestHelpsWithTypos(t *testing.T) {
	for given, want := range map[string]string{
		"k8s_pod_cpu_cores_used": PodCPU,
		"k8s_node_cpu_usag":      NodeCPUPercent,
		"something_else":         "",
	} {
		if got := Nearest(given); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", given, got, want)
		}
	}
}
