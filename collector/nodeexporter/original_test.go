package nodeexporter

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors/version"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/node_exporter/collector"
)

// notOurs are the families of the original that we do not make, by the beginning
// of their names, with the reason. docs/kube-prometheus-stack.md has the same.
var notOurs = map[string]string{
	"node_btrfs_": "its collector asks the disks themselves",
}

// asWhat tells a process that the test starts of itself what to show and where:
// a process has one configuration of node_exporter's collectors.
const asWhat = "CROWSNEST_TEST_SHOW"

// All families that the original shows of this machine by default we show, with
// type, help and labels, and no others.
func TestAllThatTheOriginalShows(t *testing.T) {
	if what, to, ok := strings.Cut(os.Getenv(asWhat), " "); ok {
		show(t, what, to)
		return
	}
	// What a kernel shows may come and go between two looks, as its ARP entries: what
	// is wrong is so each time.
	var wrong []string
	for range 5 {
		theirs, ours := shown(t, "original"), shown(t, "ours")
		if len(theirs) < 100 {
			t.Fatalf("the original shows only %d families", len(theirs))
		}
		t.Logf("%d families of the original", len(theirs))
		if wrong = differ(theirs, ours); len(wrong) == 0 {
			return
		}
	}
	t.Error(strings.Join(wrong, "\n"))
}

func differ(theirs, ours map[string]*dto.MetricFamily) (out []string) {
	wrong := func(format string, a ...any) { out = append(out, fmt.Sprintf(format, a...)) }
	for _, name := range slices.Sorted(maps.Keys(theirs)) {
		left := false
		for prefix := range notOurs {
			left = left || strings.HasPrefix(name, prefix)
		}
		switch f := ours[name]; {
		case f == nil && (left || notHere(name)):
		case f == nil:
			wrong("%s is not there", name)
		case left:
			wrong("%s is there, and told to be left out", name)
		case f.GetType() != theirs[name].GetType():
			wrong("%s is of type %s, the original's of %s", name, f.GetType(), theirs[name].GetType())
		case f.GetHelp() != theirs[name].GetHelp():
			wrong("%s has the help %q, the original's %q", name, f.GetHelp(), theirs[name].GetHelp())
		case !slices.Equal(labelNames(f), labelNames(theirs[name])):
			wrong("%s has the labels %q, the original's %q", name, labelNames(f), labelNames(theirs[name]))
		}
	}
	for name := range ours {
		if theirs[name] == nil {
			wrong("the original has no %s", name)
		}
	}
	return out
}

// notHere says whether this machine lacks the file that we have a family of, and
// that the original asks the kernel for instead.
func notHere(name string) bool {
	file := ""
	switch {
	case strings.HasPrefix(name, "node_nf_conntrack_"):
		file = "/proc/self/net/stat/nf_conntrack"
	case name == "node_network_receive_nohandler_total":
		file = "/sys/class/net/lo/statistics/rx_nohandler"
	default:
		return false
	}
	_, err := os.ReadFile(file)
	return err != nil
}

// labelNames are all that the family's series have.
func labelNames(f *dto.MetricFamily) []string {
	all := map[string]bool{}
	for _, m := range f.Metric {
		for _, l := range m.Label {
			all[l.GetName()] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// shown runs a process of its own that shows this machine.
func shown(t *testing.T, what string) map[string]*dto.MetricFamily {
	t.Helper()
	to := filepath.Join(t.TempDir(), what)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAllThatTheOriginalShows$", "-test.count=1")
	cmd.Env = append(os.Environ(), asWhat+"="+what+" "+to)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", what, err, out)
	}
	raw, err := os.Open(to)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(raw)
	if err != nil {
		t.Fatal(err)
	}
	return families
}

func show(t *testing.T, what, to string) {
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	// Process 1 is the one that looks: only root may look at the real one's mounts.
	proc := t.TempDir()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	links := map[string]string{"1": "self"}
	for _, e := range entries {
		if strings.Trim(e.Name(), "0123456789") != "" {
			links[e.Name()] = e.Name()
		}
	}
	for name, link := range links {
		if err := os.Symlink(filepath.Join("/proc", link), filepath.Join(proc, name)); err != nil {
			t.Fatal(err)
		}
	}
	if what == "ours" {
		e, err := New(Options{Node: "n1", Proc: proc, Dir: t.TempDir()})
		if err == nil {
			err = e.Write(t.Context(), out)
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	// As the original's own program has it, but for the mounts and devices of pods:
	// on a machine that runs some, a family may have series of theirs alone.
	if _, err := kingpin.CommandLine.Parse(append([]string{"--path.procfs=" + proc}, withoutPods...)); err != nil {
		t.Fatal(err)
	}
	nodes, err := collector.NewNodeCollector(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(nodes, version.NewCollector("node_exporter"))
	families, err := reg.Gather()
	if len(families) == 0 {
		t.Fatal(err)
	}
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(out, f); err != nil {
			t.Fatal(err)
		}
	}
}
