package kubelet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var at = time.Date(2026, 11, 23, 20, 25, 0, 0, time.UTC)

func recorded(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// roomy has room for all that is recorded.
func roomy() room { return room{maxEntries, nil, map[string]int{}} }

// bare is what the same kubelet tells when it does not know its containerd's
// socket: paths only, and no traffic but the node's.
func bare(labelled []byte) []byte {
	var out []string
	label := regexp.MustCompile(`(container|image|name|namespace|pod)="[^"]*"`)
	for _, line := range strings.Split(string(labelled), "\n") {
		if strings.Contains(line, "container_network") && !strings.Contains(line, `id="/",`) {
			continue
		}
		out = append(out, label.ReplaceAllString(line, `$1=""`))
	}
	return []byte(strings.Join(out, "\n"))
}

func told(t testing.TB, body []byte) reading.Set {
	t.Helper()
	r := newCadvisor(DefaultNICs)
	return again(t, r, body)
}

// again gives a reader that has read before another answer.
func again(t testing.TB, r *cadvisor, body []byte) reading.Set {
	t.Helper()
	r.begin(at)
	if !bytes.HasSuffix(body, []byte("\n")) {
		body = append(bytes.Clone(body), '\n')
	}
	if _, err := r.Write(body); err != nil {
		t.Fatal(err)
	}
	r.end(false)
	return r.set("n")
}

func TestCadvisorOfARealKubelet(t *testing.T) {
	set := told(t, recorded(t, "cadvisor_v1_cgroupfs.txt"))
	if set.Source != catalogue.CadvisorLabels {
		t.Errorf("source %s", set.Source)
	}
	names := map[string]reading.Container{}
	for _, c := range set.Containers {
		if c.Name == "" || c.Pod == "" || c.Namespace == "" || len(c.PodUID) != 36 || len(c.ID) != 64 {
			t.Errorf("a container lacks names: %+v", c)
		}
		if !c.CPUSeconds.OK() || !c.WorkingSetBytes.OK() || c.StartedAt.IsZero() || c.CPUSeconds.At.Equal(at) {
			t.Errorf("%s/%s lacks readings, or their own times: %+v", c.Pod, c.Name, c)
		}
		names[c.Pod+"/"+c.Name] = c
	}
	if len(names) != len(set.Containers) || len(names) < 10 {
		t.Errorf("%d containers of %d names; the sandboxes must not be among them", len(set.Containers), len(names))
	}
	network := 0
	for _, p := range set.Pods {
		if p.ReceiveBytes.OK() {
			network++
		}
	}
	if network < 10 {
		t.Errorf("%d pods have traffic", network)
	}
	if h := set.Host; h == nil || h.CPUBusySeconds.V < 1000 || h.MemUsedBytes.V < 1e9 || h.ReceiveBytes.V < 1e6 {
		t.Errorf("the node itself: %+v", h)
	}
	// cgroup v1 on the kernel that was recorded has no block device figures.
	if set.Lacking[catalogue.ContainerFSRead] == "" || set.Lacking[catalogue.NodeNetworkReceive] != "" {
		t.Errorf("lacking: %v", set.Lacking)
	}
}

func TestCadvisorWithoutLabels(t *testing.T) {
	labelled := told(t, recorded(t, "cadvisor_v1_cgroupfs.txt"))
	set := told(t, bare(recorded(t, "cadvisor_v1_cgroupfs.txt")))
	if set.Source != catalogue.CadvisorPaths {
		t.Errorf("source %s", set.Source)
	}
	byID := map[string]reading.Container{}
	for _, c := range set.Containers {
		byID[c.ID] = c
	}
	for _, want := range labelled.Containers {
		got := byID[want.ID]
		if got.PodUID != want.PodUID || got.CPUSeconds != want.CPUSeconds || got.WorkingSetBytes != want.WorkingSetBytes {
			t.Errorf("by path %+v, by label %+v", got, want)
		}
	}
	for _, p := range set.Pods {
		if !p.CPUSeconds.OK() || p.ReceiveBytes.OK() {
			t.Errorf("pod %+v", p)
		}
	}
}

func TestCadvisorOddities(t *testing.T) {
	const (
		uid = "0a1b2c3d-0000-4000-8000-000000000001"
		box = "1111111111111111111111111111111111111111111111111111111111111111"
		id  = "2222222222222222222222222222222222222222222222222222222222222222"
		neu = "3333333333333333333333333333333333333333333333333333333333333333"
	)
	series := func(metric, path, labels string, v float64) string {
		return fmt.Sprintf("%s{id=%q,%s} %v 1795465000000\n", metric, path, labels, v)
	}
	slice := "/kubepods.slice/kubepods-pod" + strings.ReplaceAll(uid, "-", "_") + ".slice"
	ctr := `container="c",name="` + id + `",namespace="ns",pod="p"`
	sandbox := `container="",name="` + box + `",namespace="ns",pod="p"`
	t.Run("dockershim calls the sandbox POD", func(t *testing.T) {
		set := told(t, []byte(series("container_network_receive_bytes_total", slice+"/docker-"+box+".scope", `container="POD",name="k8s_POD_p",namespace="ns",pod="p",interface="eth0"`, 7)+
			series("container_memory_working_set_bytes", slice+"/docker-"+box+".scope", `container="POD",name="k8s_POD_p",namespace="ns",pod="p"`, 9)))
		if len(set.Containers) != 0 || len(set.Pods) != 1 || set.Pods[0].ReceiveBytes.V != 7 {
			t.Errorf("got %+v", set)
		}
	})
	t.Run("interfaces are summed, lo is not", func(t *testing.T) {
		var body string
		for nic, v := range map[string]float64{"eth0": 1, "net1": 2, "lo": 100} {
			body += series("container_network_transmit_bytes_total", slice+"/cri-containerd-"+box+".scope", sandbox+`,interface="`+nic+`"`, v)
		}
		if set := told(t, []byte(body)); len(set.Pods) != 1 || set.Pods[0].TransmitBytes.V != 3 {
			t.Errorf("got %+v", set.Pods)
		}
	})
	t.Run("of two sandboxes the newer one counts", func(t *testing.T) {
		var body string
		for path, start := range map[string]float64{slice + "/cri-containerd-" + box + ".scope": 100, slice + "/cri-containerd-" + neu + ".scope": 200} {
			body += series("container_network_receive_bytes_total", path, sandbox+`,interface="eth0"`, start) + series("container_start_time_seconds", path, sandbox, start)
		}
		if set := told(t, []byte(body)); len(set.Pods) != 1 || set.Pods[0].ReceiveBytes.V != 200 {
			t.Errorf("got %+v", set.Pods)
		}
	})
	t.Run("devices are summed, processors too where there is no total", func(t *testing.T) {
		path := slice + "/cri-containerd-" + id + ".scope"
		body := series("container_fs_reads_bytes_total", path, ctr+`,device="/dev/sda"`, 5) + series("container_fs_reads_bytes_total", path, ctr+`,device="/dev/sdb"`, 6) +
			series("container_cpu_usage_seconds_total", path, ctr+`,cpu="cpu00"`, 2) + series("container_cpu_usage_seconds_total", path, ctr+`,cpu="cpu01"`, 3)
		set := told(t, []byte(body))
		if len(set.Containers) != 1 || set.Containers[0].FSReadBytes.V != 11 || set.Containers[0].CPUSeconds.V != 5 || len(set.Lacking) != 0 {
			t.Errorf("got %+v", set)
		}
	})
	t.Run("a series without a time of its own is of now", func(t *testing.T) {
		set := told(t, []byte(`container_memory_working_set_bytes{id="`+slice+"/cri-containerd-"+id+`.scope",`+ctr+"} 5\n"))
		if len(set.Containers) != 1 || !set.Containers[0].WorkingSetBytes.At.Equal(at) {
			t.Errorf("got %+v", set.Containers)
		}
	})
	t.Run("a limit's periods, kills and processes", func(t *testing.T) {
		path := slice + "/cri-containerd-" + id + ".scope"
		set := told(t, []byte(series("container_cpu_cfs_periods_total", path, ctr, 100)+series("container_cpu_cfs_throttled_periods_total", path, ctr, 25)+
			series("container_oom_events_total", path, ctr, 2)+series("container_processes", path, ctr, 3)+series("container_memory_usage_bytes", path, ctr, 99)))
		if c := set.Containers; len(c) != 1 || c[0].Periods.V != 100 || c[0].Throttled.V != 25 || c[0].OOMKills.V != 2 || c[0].PIDs.V != 3 || c[0].UsageBytes.V != 99 {
			t.Errorf("got %+v", c)
		}
	})
	t.Run("two containers that claim one cgroup are one", func(t *testing.T) {
		path := slice + "/cri-containerd-" + id + ".scope"
		other := strings.Replace(ctr, `container="c"`, `container="d"`, 1)
		body := []byte(series("container_memory_working_set_bytes", path, ctr, 1) + series("container_memory_working_set_bytes", path, other, 2))
		r := newCadvisor(DefaultNICs)
		for range 3 {
			if set := again(t, r, body); len(set.Containers) != 1 || set.Containers[0].WorkingSetBytes.V == 3 {
				t.Errorf("got %+v", set.Containers)
			}
		}
	})
}

func TestLinesThatMakeNoSenseAreCounted(t *testing.T) {
	const ok = `container_memory_working_set_bytes{container="c",id="/kubepods/x",namespace="ns",pod="p",name="k"} `
	for name, tc := range map[string]struct {
		line, reason string
	}{
		"not a number":     {ok + "NaN 1795465000000", refusedNumber},
		"infinite":         {ok + "+Inf 1795465000000", refusedNumber},
		"negative":         {ok + "-5 1795465000000", refusedNegative},
		"no value":         {ok, refusedMalformed},
		"a word":           {ok + "many", refusedMalformed},
		"a time from afar": {ok + "1 99999999999999999", refusedMalformed},
		"no end of labels": {`container_memory_working_set_bytes{id="/x" 7`, refusedMalformed},
		"no UTF-8":         {"container_memory_working_set_bytes{id=\"/\xff\"} 7", refusedMalformed},
		"endless":          {ok + strings.Repeat("1", maxLine), refusedLong},
		"half a label":     {`container_memory_working_set_bytes{id=/x"} 7`, refusedMalformed},
	} {
		r := newCadvisor(DefaultNICs)
		set := again(t, r, []byte(ok+"4 1795465000000\n"+tc.line+"\n"+strings.Replace(ok, `pod="p"`, `pod="q"`, 1)+"5\n"))
		if r.refused[tc.reason] != 1 || len(r.refused) != 1 {
			t.Errorf("%s: refused %v, want one as %s", name, r.refused, tc.reason)
		}
		if len(set.Containers) != 1 || set.Containers[0].Pod != "q" || set.Containers[0].WorkingSetBytes.V != 5 {
			t.Errorf("%s: the lines around it gave %+v", name, set.Containers)
		}
	}
}

func TestSeriesAreBounded(t *testing.T) {
	r := newCadvisor(DefaultNICs)
	var body bytes.Buffer
	for i := range maxSeries + 100 {
		fmt.Fprintf(&body, "container_processes{id=\"/%d\"} 1\n", i)
	}
	again(t, r, body.Bytes())
	if len(r.series) != maxSeries || r.refused[refusedMany] != 100 {
		t.Errorf("%d series are remembered, %v refused", len(r.series), r.refused)
	}
	// What is not told any more is forgotten.
	for range 2 * forgetAfter {
		again(t, r, nil)
	}
	if len(r.series) != 0 || len(r.groups) != 0 {
		t.Errorf("%d series and %d cgroups stay", len(r.series), len(r.groups))
	}
}

func TestAnswersAreReadHoweverTheyAreCutUp(t *testing.T) {
	body := append([]byte("# HELP container_x y\ncontainer_tasks_state{id=\"/\"} 1\nmachine_cpu_cores 2\n"), recorded(t, "cadvisor_v1_cgroupfs.txt")...)
	want := told(t, recorded(t, "cadvisor_v1_cgroupfs.txt"))
	r := newCadvisor(DefaultNICs)
	for _, step := range []int{1, 7, 1000, len(body)} {
		r.begin(at)
		for rest := body; len(rest) > 0; rest = rest[min(step, len(rest)):] {
			if _, err := r.Write(rest[:min(step, len(rest))]); err != nil {
				t.Fatal(err)
			}
		}
		r.end(false)
		got := r.set("n")
		if len(got.Containers) != len(want.Containers) || len(got.Pods) != len(want.Pods) || got.Host.CPUBusySeconds != want.Host.CPUBusySeconds {
			t.Errorf("in steps of %d: %d containers and %d pods, want %d and %d", step, len(got.Containers), len(got.Pods), len(want.Containers), len(want.Pods))
		}
	}
}

func TestSummaryOfARealKubelet(t *testing.T) {
	set, err := summarySet("n", recorded(t, "summary_v1.json"), DefaultNICs, roomy())
	if err != nil {
		t.Fatal(err)
	}
	running, network := 0, 0
	for _, c := range set.Containers {
		if c.CPUSeconds.OK() && c.WorkingSetBytes.OK() && c.PodUID != "" && c.Name != "" {
			running++
		}
	}
	for _, p := range set.Pods {
		if p.ReceiveBytes.OK() {
			network++
		}
	}
	if running < 10 || network < 10 {
		t.Errorf("%d containers and %d pods with traffic", running, network)
	}
	h := set.Host
	if h == nil || h.CPUBusySeconds.V < 1000 || h.MemUsedBytes.V < 1e9 || h.ReceiveBytes.V < 1e6 {
		t.Fatalf("the node itself: %+v", h)
	}
	// Images are on the same device, which is not told twice.
	if len(h.Filesystems) != 1 || h.Filesystems[0].Mountpoint != "nodefs" || h.Filesystems[0].UsedBytes.V < 1e9 {
		t.Errorf("file systems: %+v", h.Filesystems)
	}
}

func TestSummaryWithImagesOnTheirOwnDevice(t *testing.T) {
	const fs = `{"time":"2026-11-23T20:00:00Z","availableBytes":%d,"capacityBytes":%d,"usedBytes":%d}`
	body := fmt.Sprintf(`{"node":{"fs":`+fs+`,"runtime":{"imageFs":`+fs+`}}}`, 60, 100, 30, 150, 200, 5)
	set, err := summarySet("n", []byte(body), DefaultNICs, roomy())
	if err != nil {
		t.Fatal(err)
	}
	got := set.Host.Filesystems
	if len(got) != 2 || got[0].UsedBytes.V != 30 || got[1].Mountpoint != "imagefs" || got[1].UsedBytes.V != 50 || got[1].AvailableBytes.V != 150 {
		t.Errorf("got %+v", got)
	}
	if _, err := summarySet("n", []byte("{"), DefaultNICs, roomy()); !errors.Is(err, fault.ErrMalformed) {
		t.Errorf("got %v", err)
	}
}

// fake answers for kubelets by path.
type fake struct {
	mu     sync.Mutex
	bodies map[string][]byte // by path
	errs   map[string]error  // by node or path
	asked  map[string]int
	date   time.Time
	cut    int // bytes after which cAdvisor's answer breaks off
}

func (f *fake) Fetch(_ context.Context, n *object.Node, path string, into io.Writer) (time.Time, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked[path]++
	for _, k := range []string{n.Name, path} {
		if err := f.errs[k]; err != nil {
			return time.Time{}, err
		}
	}
	body := f.bodies[path]
	if f.cut > 0 && path == pathCadvisor {
		_, _ = into.Write(body[:f.cut])
		return f.date, io.ErrUnexpectedEOF
	}
	_, err := into.Write(body)
	return f.date, err
}

func source(t *testing.T, f *fake, host bool) *Source {
	t.Helper()
	s, err := New(Options{Fetcher: f, Host: host, Now: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newFake(t *testing.T, body []byte) *fake {
	return &fake{bodies: map[string][]byte{pathCadvisor: body, pathSummary: recorded(t, "summary_v1.json"), pathResource: recorded(t, "resource.txt")}, errs: map[string]error{}, asked: map[string]int{}}
}

// running makes the state that fits the recorded answers.
func running(t *testing.T) *state.Snapshot {
	now := &state.Snapshot{Synced: true, Nodes: map[string]*object.Node{"n": {Meta: object.Meta{Name: "n"}}}, Pods: map[string]*object.Pod{}}
	for _, c := range told(t, recorded(t, "cadvisor_v1_cgroupfs.txt")).Containers {
		now.Pods[c.PodUID] = &object.Pod{
			Meta: object.Meta{UID: c.PodUID, Namespace: c.Namespace, Name: c.Pod}, Node: "n", Phase: object.PhaseRunning,
			HostNetwork: strings.HasPrefix(c.Pod, "hostnet"), Containers: []object.Container{{Name: c.Name, ID: c.ID, State: "running"}},
		}
	}
	return now
}

func sources(sets []reading.Set) string {
	var names []string
	for _, s := range sets {
		name := string(s.Source)
		if s.Err != nil {
			name += "!"
		}
		if s.Partial {
			name += "(partial)"
		}
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

func TestSourceIsChosenByWhatIsDelivered(t *testing.T) {
	labelled := recorded(t, "cadvisor_v1_cgroupfs.txt")
	for name, tc := range map[string]struct {
		body []byte
		host bool
		want []string // the sets of each read
	}{
		"labels, on the node; the summary once a minute for disk space": {labelled, false, []string{"cadvisor stats_summary(partial)", "cadvisor"}},
		"labels, from outside":  {labelled, true, []string{"cadvisor stats_summary(partial)", "cadvisor stats_summary(partial)"}},
		"paths have no traffic": {bare(labelled), false, []string{"cadvisor_paths stats_summary", "cadvisor_paths stats_summary"}},
		// What it does not tell others do, in the same interval.
		"labels of some containers alone": {regexp.MustCompile(`(?m)^.*\{container="app".*pod="(web|burn)-.*\n`).ReplaceAll(labelled, nil), false, []string{
			"cadvisor resource stats_summary", "cadvisor resource stats_summary"}},
		"nothing at all": {[]byte("up 1\n"), false, []string{
			"cadvisor_paths! resource stats_summary", "cadvisor_paths! resource stats_summary", "cadvisor_paths! resource stats_summary"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := source(t, newFake(t, tc.body), tc.host)
			for i, want := range tc.want {
				if got := sources(s.Read(t.Context(), at, running(t))); got != want {
					t.Errorf("read %d: %s, want %s", i, got, want)
				}
			}
		})
	}
}

// A source that goes blind is left within two intervals, said once, shown as
// blind all the while, and taken again when it tells.
func TestABlindSourceIsChanged(t *testing.T) {
	labelled := recorded(t, "cadvisor_v1_cgroupfs.txt")
	f := newFake(t, labelled)
	var log strings.Builder
	s, err := New(Options{Fetcher: f, Logger: slog.New(slog.NewTextHandler(&log, nil)), Now: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	now := running(t)
	s.Read(t.Context(), at, now)
	f.bodies[pathCadvisor] = []byte("up 1\n")
	for i := range blindFor + recheck {
		sets := s.Read(t.Context(), at, now)
		if got := sources(sets); got != "cadvisor_paths! resource stats_summary" {
			t.Errorf("blind read %d: %s", i, got)
		}
		if n, _ := delivered(sets[1], expectations(now)["n"]); n < 10 {
			t.Errorf("blind read %d: the other source tells of %d containers", i, n)
		}
	}
	if f.asked[pathCadvisor] != 1+blindFor {
		t.Errorf("cAdvisor was asked %d times, want %d and then a pause", f.asked[pathCadvisor], 1+blindFor)
	}
	if n := strings.Count(log.String(), "usage comes from another source"); n != 1 || !strings.Contains(log.String(), "from=cadvisor to=resource") {
		t.Errorf("the change was said %d times:\n%s", n, log.String())
	}
	if n := strings.Count(log.String(), "none of"); n != 1 {
		t.Errorf("the trouble was said %d times:\n%s", n, log.String())
	}
	f.bodies[pathCadvisor] = labelled
	s.Read(t.Context(), at, now)
	if got := sources(s.Read(t.Context(), at, now)); got != "cadvisor" {
		t.Errorf("after it tells again: %s", got)
	}
	if !strings.Contains(log.String(), "from=resource to=cadvisor") {
		t.Errorf("the way back was not said:\n%s", log.String())
	}
}

// Where no answer tells pods' traffic it is said why, and not where one does.
func TestTrafficThatNobodyTellsIsSaidToBeMissing(t *testing.T) {
	labelled := recorded(t, "cadvisor_v1_cgroupfs.txt")
	quiet := regexp.MustCompile(`"network": *\{`).ReplaceAll(recorded(t, "summary_v1.json"), []byte(`"nothing": {`))
	for name, tc := range map[string]struct {
		cadvisor, summary []byte
		want              string
	}{
		"cAdvisor tells":            {labelled, quiet, ""},
		"the summary tells":         {bare(labelled), recorded(t, "summary_v1.json"), ""},
		"nobody, without a runtime": {bare(labelled), quiet, catalogue.NoPodTraffic},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, tc.cadvisor)
			f.bodies[pathSummary] = tc.summary
			for _, set := range source(t, f, false).Read(t.Context(), at, running(t)) {
				if why := set.Lacking[catalogue.PodNetworkReceive]; set.Source != catalogue.StatsSummary && why != tc.want {
					t.Errorf("%s lacks it because %q, want %q", set.Source, why, tc.want)
				}
			}
		})
	}
}

// A kubelet that is away is asked for little, and once it is back nothing is held
// against any of its sources: its restart leaves no minutes of coarser data.
func TestAKubeletThatIsAwayLosesNoSource(t *testing.T) {
	f := newFake(t, recorded(t, "cadvisor_v1_cgroupfs.txt"))
	s, now := source(t, f, false), running(t)
	if got := sources(s.Read(t.Context(), at, now)); got != "cadvisor stats_summary(partial)" {
		t.Fatalf("at first: %s", got)
	}
	away := fmt.Errorf("%w: connection refused", fault.ErrUnavailable)
	f.errs["n"], f.asked = away, map[string]int{}
	for i := range 8 {
		sets := s.Read(t.Context(), at, now)
		want := "cadvisor! resource!"
		if i == 0 {
			want += " stats_summary!"
		}
		if got := sources(sets); got != want || !errors.Is(sets[0].Err, fault.ErrUnavailable) {
			t.Errorf("read %d while it is away: %s, %v", i, got, sets[0].Err)
		}
	}
	if f.asked[pathCadvisor] != 1 || f.asked[pathSummary] != 1 || f.asked[pathResource] != 8 {
		t.Errorf("while it was away it was asked %v", f.asked)
	}
	delete(f.errs, "n")
	if got := sources(s.Read(t.Context(), at, now)); got != "cadvisor" {
		t.Errorf("back again: %s", got)
	}
	// One that refuses a source answers.
	f.errs[pathCadvisor] = fmt.Errorf("%w: no", fault.ErrForbidden)
	for range blindFor + 1 {
		s.Read(t.Context(), at, now)
	}
	if got := sources(s.Read(t.Context(), at, now)); got != "cadvisor_paths! resource stats_summary" {
		t.Errorf("while cAdvisor is refused: %s", got)
	}
	f.errs["n"] = away
	s.Read(t.Context(), at, now)
	s.Read(t.Context(), at, now)
	delete(f.errs, "n")
	if got := sources(s.Read(t.Context(), at, now)); got != "cadvisor_paths! resource stats_summary" {
		t.Errorf("cAdvisor that was left is not left any more: %s", got)
	}
}

func TestAnAnswerThatBreaksOffCountsAsFarAsItCame(t *testing.T) {
	f := newFake(t, recorded(t, "cadvisor_v1_cgroupfs.txt"))
	f.cut = len(f.bodies[pathCadvisor]) / 2
	sets := source(t, f, false).Read(t.Context(), at, running(t))
	if got := sources(sets); !strings.HasPrefix(got, "cadvisor! resource") || len(sets[0].Containers) == 0 {
		t.Errorf("got %s with %d containers of the first", got, len(sets[0].Containers))
	}
}

// Wherever an answer breaks off, what is taken of it is what the whole one says: a
// part of a number, or of a sum over lines, would be a counter that jumps when the
// next answer is whole.
func TestOfAnAnswerThatBreaksOffNothingIsLessThanItIs(t *testing.T) {
	const id = `id="/kubepods/pod0b6cdd9f-3bb9-4a3b-b9a2-7d7a2a8b0d37/73b3865bf07f80f00670a1a97827ecf80b0e0a74c57da655a9fa03527f2080d2"`
	body := []byte(`container_cpu_usage_seconds_total{cpu="cpu00",` + id + `} 1000.25 1795465500000
container_cpu_usage_seconds_total{cpu="cpu01",` + id + `} 2000.5 1795465500000
container_fs_reads_bytes_total{device="/dev/sda",` + id + `} 123456 1795465500000
container_fs_reads_bytes_total{device="/dev/sdb",` + id + `} 654321 1795465500000
container_memory_working_set_bytes{` + id + `} 7654321 1795465500000
container_network_receive_bytes_total{interface="eth0",` + id + `} 111111 1795465500000
container_network_receive_bytes_total{interface="net1",` + id + `} 222222 1795465500000
container_threads{` + id + `} 17 1795465500000
`)
	whole := told(t, body)
	if c := whole.Containers[0]; c.CPUSeconds.V != 3000.75 || c.FSReadBytes.V != 777777 || whole.Pods[0].ReceiveBytes.V != 333333 {
		t.Fatalf("the whole answer tells %+v", whole)
	}
	memory := 0
	for cut := range body {
		r := newCadvisor(DefaultNICs)
		r.begin(at)
		_, _ = r.Write(body[:cut])
		r.end(true)
		set := r.set("n")
		for _, c := range set.Containers {
			for name, v := range map[string][2]reading.Value{
				"CPU": {c.CPUSeconds, whole.Containers[0].CPUSeconds}, "disk": {c.FSReadBytes, whole.Containers[0].FSReadBytes}, "memory": {c.WorkingSetBytes, whole.Containers[0].WorkingSetBytes},
			} {
				if v[0].OK() && v[0] != v[1] {
					t.Fatalf("cut at %d, %s is %+v, and %+v in the whole", cut, name, v[0], v[1])
				}
			}
			if c.WorkingSetBytes.OK() {
				memory++
			}
		}
		for _, p := range set.Pods {
			if p.ReceiveBytes.OK() && p.ReceiveBytes != whole.Pods[0].ReceiveBytes {
				t.Fatalf("cut at %d, %+v was received", cut, p.ReceiveBytes)
			}
		}
	}
	if memory == 0 {
		t.Error("nothing counts of an answer that broke off")
	}
	// One that ends without an error in the middle of a line has a last line less.
	r := newCadvisor(DefaultNICs)
	r.begin(at)
	_, _ = r.Write(body[:bytes.Index(body, []byte("7654321"))+3])
	r.end(false)
	if set := r.set("n"); set.Containers[0].WorkingSetBytes.OK() || !set.Containers[0].CPUSeconds.OK() || r.refused[refusedMalformed] != 1 {
		t.Errorf("a line without its end counts: %+v, refused %v", set.Containers[0], r.refused)
	}
}

// endless answers a path with more than anybody may, and the others as they are.
type endless struct {
	*fake
	path string
}

func (e endless) Fetch(ctx context.Context, n *object.Node, path string, into io.Writer) (time.Time, error) {
	if path != e.path {
		return e.fake.Fetch(ctx, n, path, into)
	}
	return answered(ctx, into, func(w http.ResponseWriter, _ *http.Request) {
		line := []byte("container_x{id=\"/kubepods\"} 1\n" + strings.Repeat(" ", 32<<10) + "\n")
		for r := 0; r <= MaxBodyBytes; r += len(line) {
			if _, err := w.Write(line); err != nil {
				return
			}
		}
	})
}

// never answers one node's cAdvisor, or drop by drop, and the others as they are.
type never struct {
	*fake
	drips bool
}

func (e never) Fetch(ctx context.Context, n *object.Node, path string, into io.Writer) (time.Time, error) {
	if n.Name != "bad" || path != pathCadvisor {
		return e.fake.Fetch(ctx, n, path, into)
	}
	return answered(ctx, into, func(w http.ResponseWriter, r *http.Request) {
		for e.drips && r.Context().Err() == nil {
			_, _ = io.WriteString(w, "container_x{id=\"/kubepods\"} 1\n")
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
		<-r.Context().Done()
	})
}

// answered reads what a kubelet of these answers says.
func answered(ctx context.Context, into io.Writer, answers http.HandlerFunc) (time.Time, error) {
	srv := httptest.NewServer(answers)
	defer srv.Close()
	u, err := url.Parse(srv.URL)
	if err != nil {
		return time.Time{}, err
	}
	client := srv.Client()
	defer client.CloseIdleConnections()
	return get(ctx, client, u, "", into)
}

// A kubelet that never answers, or streams for ever, costs its time limit, and the
// others are read beside it.
func TestAKubeletThatNeverEndsHurtsNobody(t *testing.T) {
	for name, drips := range map[string]bool{"never answers": false, "streams for ever": true} {
		f := never{newFake(t, recorded(t, "cadvisor_v1_cgroupfs.txt")), drips}
		s, err := New(Options{Fetcher: f, Timeout: 300 * time.Millisecond, Now: func() time.Time { return at }})
		if err != nil {
			t.Fatal(err)
		}
		now := running(t)
		now.Nodes["bad"] = &object.Node{Meta: object.Meta{Name: "bad"}}
		got := map[string]string{}
		for _, set := range s.Read(t.Context(), at, now) {
			got[set.Node] += sources([]reading.Set{set}) + " "
			if set.Err != nil && !errors.Is(set.Err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", name, set.Err)
			}
		}
		if got["bad"] != "cadvisor! resource stats_summary " || got["n"] != "cadvisor stats_summary(partial) " {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

// An answer beyond the bound is refused as a whole and said to be; the others of
// the kubelet stand for it.
func TestAnAnswerWithoutEndIsRefused(t *testing.T) {
	for path, want := range map[string]string{
		pathCadvisor: "cadvisor! resource stats_summary", pathSummary: "cadvisor stats_summary!(partial)", pathProbes: "cadvisor stats_summary(partial) probes!(partial)",
	} {
		s, err := New(Options{Fetcher: endless{newFake(t, recorded(t, "cadvisor_v1_cgroupfs.txt")), path}, Timeout: 5 * time.Minute, Now: func() time.Time { return at }})
		if err != nil {
			t.Fatal(err)
		}
		sets := s.Read(t.Context(), at, running(t))
		if got := sources(sets); got != want {
			t.Errorf("%s without end: %s, want %s", path, got, want)
		}
		for _, set := range sets {
			if set.Err != nil && !errors.Is(set.Err, fault.ErrTooLarge) {
				t.Errorf("%s without end: %v", path, set.Err)
			}
		}
	}
}

func TestOneBadKubeletDoesNotTakeDownTheRest(t *testing.T) {
	f := newFake(t, recorded(t, "cadvisor_v1_cgroupfs.txt"))
	f.errs["bad"] = fmt.Errorf("%w: connection refused", fault.ErrUnavailable)
	now := running(t)
	now.Nodes["bad"] = &object.Node{Meta: object.Meta{Name: "bad"}}
	now.Nodes["virtual"] = &object.Node{Meta: object.Meta{Name: "virtual"}, Virtual: true}
	got := map[string]string{}
	for _, set := range source(t, f, false).Read(t.Context(), at, now) {
		got[set.Node] += sources([]reading.Set{set}) + " "
	}
	if got["bad"] != "cadvisor! resource! stats_summary! " || got["n"] != "cadvisor stats_summary(partial) " || got["virtual"] != "stats_summary " {
		t.Errorf("got %v", got)
	}
}

func TestAKubeletWithAnotherClock(t *testing.T) {
	f := newFake(t, recorded(t, "cadvisor_v1_cgroupfs.txt"))
	plain := source(t, f, false).Read(t.Context(), at, running(t))
	f.date = at.Add(time.Hour) // what the kubelet's clock shows now
	moved := source(t, f, false).Read(t.Context(), at, running(t))
	times := func(sets []reading.Set) map[string]time.Time {
		out := map[string]time.Time{}
		for _, c := range sets[0].Containers {
			out[c.ID] = c.CPUSeconds.At
		}
		return out
	}
	a, b := times(plain), times(moved)
	for id := range a {
		if d := a[id].Sub(b[id]); d != time.Hour {
			t.Errorf("a reading moved by %v", d)
		}
	}
}

func nodeOf(t *testing.T, srv *httptest.Server) *object.Node {
	t.Helper()
	u, _ := url.Parse(srv.URL)
	port, _ := strconv.Atoi(u.Port())
	return &object.Node{Meta: object.Meta{Name: "n"}, InternalIP: u.Hostname(), KubeletPort: int32(port)}
}

func TestDirect(t *testing.T) {
	var status = http.StatusOK
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer tok" {
			http.Error(w, "who are you", http.StatusUnauthorized)
			return
		}
		w.WriteHeader(status)
		fmt.Fprint(w, r.URL.Path)
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	fetch := func(o DirectOptions) (string, error) {
		d, err := NewDirect(o)
		if err != nil {
			t.Fatal(err)
		}
		defer d.client.CloseIdleConnections()
		d.client.Transport.(*http.Transport).TLSHandshakeTimeout = time.Minute // however slow the machine
		var buf bytes.Buffer
		_, err = d.Fetch(t.Context(), nodeOf(t, srv), pathCadvisor, &buf)
		return buf.String(), err
	}
	if got, err := fetch(DirectOptions{Token: "tok", InsecureSkipVerify: true}); err != nil || got != pathCadvisor {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := fetch(DirectOptions{Token: "tok"}); err == nil || !strings.Contains(err.Error(), "--kubelet-insecure-skip-verify") {
		t.Errorf("an unknown certificate gave %v, want what to do", err)
	}
	if _, err := fetch(DirectOptions{Token: "x", InsecureSkipVerify: true}); !errors.Is(err, fault.ErrUnauthenticated) || !strings.Contains(err.Error(), "nodes/metrics") {
		t.Errorf("a wrong token gave %v, want the right that is needed", err)
	}
	status = http.StatusForbidden
	if _, err := fetch(DirectOptions{Token: "tok", InsecureSkipVerify: true}); !errors.Is(err, fault.ErrForbidden) || !strings.Contains(err.Error(), "needs get on nodes/metrics") {
		t.Errorf("got %v", err)
	}
	if _, err := (&Direct{}).Fetch(t.Context(), &object.Node{}, "/", nil); !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("a node without an address gave %v", err)
	}
}

func TestProxyNamesTheRightThatItNeeds(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) }))
	defer srv.Close()
	p := &Proxy{Client: srv.Client(), URL: func(string, string) *url.URL { u, _ := url.Parse(srv.URL); return u }}
	if _, err := p.Fetch(t.Context(), &object.Node{}, pathSummary, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "needs get on nodes/proxy") {
		t.Errorf("got %v", err)
	}
}

func FuzzCadvisor(f *testing.F) {
	f.Add(recorded(f, "cadvisor_v1_cgroupfs.txt")[:4000])
	f.Add([]byte(`container_network_receive_bytes_total{id="/kubepods/podx",interface="eth0"} NaN -1` + "\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := newCadvisor(DefaultNICs)
		once, twice := again(t, r, body), again(t, r, body)
		if len(once.Containers) != len(twice.Containers) || len(once.Pods) != len(twice.Pods) {
			t.Errorf("the same answer again gave %d containers and %d pods after %d and %d", len(twice.Containers), len(twice.Pods), len(once.Containers), len(once.Pods))
		}
	})
}

func FuzzResource(f *testing.F) {
	f.Add(recorded(f, "resource.txt"))
	f.Fuzz(func(_ *testing.T, body []byte) { _, _ = resourceSet("n", body, at, roomy()) })
}

func FuzzSummary(f *testing.F) {
	f.Add([]byte(`{"node":{"fs":{}},"pods":[{"containers":[{}]}]}`))
	f.Fuzz(func(_ *testing.T, body []byte) { _, _ = summarySet("n", body, DefaultNICs, roomy()) })
}

// BenchmarkCadvisor reads a whole answer of a node with 110 pods, of which the
// recorded one is repeated with other names.
func BenchmarkCadvisor(b *testing.B) {
	body := fullNode(recorded(b, "cadvisor_v1_cgroupfs.txt"), 110)
	r := newCadvisor(DefaultNICs)
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		again(b, r, body)
	}
}

// fullNode repeats what is told of pods, under other UIDs, until there are so many.
func fullNode(body []byte, pods int) []byte {
	uids := map[string]bool{}
	for _, m := range regexp.MustCompile(`pod[0-9a-f]{8}-`).FindAllString(string(body), -1) {
		uids[m] = true
	}
	out := bytes.Clone(body)
	for i := 1; i*len(uids) < pods; i++ {
		digits := fmt.Sprintf("%04x", i)
		again := regexp.MustCompile(`pod([0-9a-f]{4})[0-9a-f]{4}-`).ReplaceAll(body, []byte("pod${1}"+digits+"-"))
		again = regexp.MustCompile(`pod="([^"]+)"`).ReplaceAll(again, []byte(`pod="${1}-`+digits+`"`))
		out = append(out, again...)
	}
	return out
}

// While the node's own cgroup files tell of all that runs, cAdvisor is left
// alone; once they do not, it is asked in the same interval.
func TestCadvisorIsLeftAloneWhereCgroupFilesTellAll(t *testing.T) {
	f := newFake(t, recorded(t, "cadvisor_v1_cgroupfs.txt"))
	before := told(t, f.bodies[pathCadvisor])
	before.Source = catalogue.Cgroups
	s, err := New(Options{Fetcher: f, Before: func() *reading.Set { return &before }, Now: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	now := running(t)
	for i, want := range []string{"resource(partial) stats_summary(partial)", "resource(partial)", "resource(partial)"} {
		if got := sources(s.Read(t.Context(), at, now)); got != want {
			t.Errorf("read %d: %s, want %s", i, got, want)
		}
	}
	if f.asked[pathCadvisor] != 0 {
		t.Errorf("cAdvisor was asked %d times", f.asked[pathCadvisor])
	}
	before.Containers = before.Containers[:3]
	if got := sources(s.Read(t.Context(), at, now)); got != "cadvisor" {
		t.Errorf("after cgroup files went blind: %s", got)
	}
}
