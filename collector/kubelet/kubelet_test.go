package kubelet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
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

func cadvisor(t testing.TB, body []byte) reading.Set {
	t.Helper()
	groups, err := parseCadvisor(body, at)
	if err != nil {
		t.Fatal(err)
	}
	return cadvisorSet("n", groups, DefaultNICs)
}

func TestCadvisorOfARealKubelet(t *testing.T) {
	set := cadvisor(t, recorded(t, "cadvisor_v1_cgroupfs.txt"))
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
	labelled := cadvisor(t, recorded(t, "cadvisor_v1_cgroupfs.txt"))
	set := cadvisor(t, bare(recorded(t, "cadvisor_v1_cgroupfs.txt")))
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
		set := cadvisor(t, []byte(series("container_network_receive_bytes_total", slice+"/docker-"+box+".scope", `container="POD",name="k8s_POD_p",namespace="ns",pod="p",interface="eth0"`, 7)+
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
		if set := cadvisor(t, []byte(body)); len(set.Pods) != 1 || set.Pods[0].TransmitBytes.V != 3 {
			t.Errorf("got %+v", set.Pods)
		}
	})
	t.Run("of two sandboxes the newer one counts", func(t *testing.T) {
		var body string
		for path, start := range map[string]float64{slice + "/cri-containerd-" + box + ".scope": 100, slice + "/cri-containerd-" + neu + ".scope": 200} {
			body += series("container_network_receive_bytes_total", path, sandbox+`,interface="eth0"`, start) + series("container_start_time_seconds", path, sandbox, start)
		}
		if set := cadvisor(t, []byte(body)); len(set.Pods) != 1 || set.Pods[0].ReceiveBytes.V != 200 {
			t.Errorf("got %+v", set.Pods)
		}
	})
	t.Run("devices are summed, processors too where there is no total", func(t *testing.T) {
		path := slice + "/cri-containerd-" + id + ".scope"
		body := series("container_fs_reads_bytes_total", path, ctr+`,device="/dev/sda"`, 5) + series("container_fs_reads_bytes_total", path, ctr+`,device="/dev/sdb"`, 6) +
			series("container_cpu_usage_seconds_total", path, ctr+`,cpu="cpu00"`, 2) + series("container_cpu_usage_seconds_total", path, ctr+`,cpu="cpu01"`, 3)
		set := cadvisor(t, []byte(body))
		if len(set.Containers) != 1 || set.Containers[0].FSReadBytes.V != 11 || set.Containers[0].CPUSeconds.V != 5 || len(set.Lacking) != 0 {
			t.Errorf("got %+v", set)
		}
	})
	t.Run("a series without a time of its own is of now", func(t *testing.T) {
		set := cadvisor(t, []byte(`container_memory_working_set_bytes{id="`+slice+"/cri-containerd-"+id+`.scope",`+ctr+"} 5\n"))
		if len(set.Containers) != 1 || !set.Containers[0].WorkingSetBytes.At.Equal(at) {
			t.Errorf("got %+v", set.Containers)
		}
	})
	t.Run("text that is none", func(t *testing.T) {
		if _, err := parseCadvisor([]byte("container_x{ 7\n"), at); !errors.Is(err, fault.ErrMalformed) {
			t.Errorf("got %v", err)
		}
	})
}

func TestOnlyNeededLinesAreKept(t *testing.T) {
	body := append([]byte("# HELP container_x y\ncontainer_tasks_state{id=\"/\"} 1\nmachine_cpu_cores 2\n"), recorded(t, "cadvisor_v1_cgroupfs.txt")...)
	body = bytes.TrimRight(body, "\n")
	for _, step := range []int{1, 7, 1000, len(body)} { // however the answer is cut up
		var buf bytes.Buffer
		n := needed{to: &buf}
		for rest := body; len(rest) > 0; rest = rest[min(step, len(rest)):] {
			if _, err := n.Write(rest[:min(step, len(rest))]); err != nil {
				t.Fatal(err)
			}
		}
		n.end()
		if strings.Contains(buf.String(), "tasks_state") || strings.Contains(buf.String(), "#") || strings.Contains(buf.String(), "machine") {
			t.Error("lines that are not needed came through")
		}
		want, got := cadvisor(t, recorded(t, "cadvisor_v1_cgroupfs.txt")), cadvisor(t, buf.Bytes())
		if len(got.Containers) != len(want.Containers) || len(got.Pods) != len(want.Pods) || got.Host.CPUBusySeconds != want.Host.CPUBusySeconds {
			t.Errorf("in steps of %d: %d containers and %d pods, want %d and %d", step, len(got.Containers), len(got.Pods), len(want.Containers), len(want.Pods))
		}
	}
	n := needed{to: &bytes.Buffer{}}
	if _, err := n.Write(bytes.Repeat([]byte("x"), maxLine+1)); !errors.Is(err, fault.ErrMalformed) {
		t.Errorf("an endless line gave %v", err)
	}
}

func TestCgroupPaths(t *testing.T) {
	const (
		uid  = "dbe6760d-b0cb-4566-a114-a715fcf1e005"
		hash = "0123456789abcdef0123456789abcdef"
		id   = "73b3865bf07f80f00670a1a97827ecf80b0e0a74c57da655a9fa03527f2080d2"
	)
	under := strings.ReplaceAll(uid, "-", "_")
	for path, want := range map[string][2]string{
		"/kubepods/burstable/pod" + uid + "/" + id:   {uid, id},
		"/kubepods/pod" + uid:                        {uid, ""},
		"/kubepods/besteffort/pod" + hash + "/" + id: {hash, id},
		"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + under + ".slice/cri-containerd-" + id + ".scope": {uid, id},
		"/kubepods.slice/kubepods-pod" + under + ".slice/crio-" + id + ".scope":                                              {uid, id},
		"/kubepods.slice/kubepods-pod" + under + ".slice/docker-" + id + ".scope":                                            {uid, id},
		"/kubepods.slice/kubepods-pod" + under + ".slice":                                                                    {uid, ""},
		"/kubelet/kubepods/burstable/pod" + uid + "/" + id:                                                                   {uid, id},
		"/system.slice/containerd.service/kubepods-burstable-pod" + under + ".slice:cri-containerd:" + id:                    {uid, id},
		"/kubepods.slice/kubepods-pod" + under + ".slice/crio-conmon-" + id + ".scope":                                       {},
		"/kubepods/burstable/pod" + uid + "/" + id + "/init.scope":                                                           {},
		"/kubepods/burstable/pod" + uid + "/" + id + "/" + id:                                                                {},
		"/kubepods/burstable":             {},
		"/":                               {},
		"":                                {},
		"/system.slice/sshd.service":      {},
		"/user.slice/pod" + uid[:35]:      {},
		"/kubepods/podgggggggg" + uid[8:]: {},
		"/docker/" + id:                   {},
	} {
		if gotUID, gotID := cgroupOf(path); gotUID != want[0] || gotID != want[1] {
			t.Errorf("%s is pod %q, container %q; want %q, %q", path, gotUID, gotID, want[0], want[1])
		}
	}
}

func TestSummaryOfARealKubelet(t *testing.T) {
	set, err := summarySet("n", recorded(t, "summary_v1.json"), DefaultNICs)
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
	set, err := summarySet("n", []byte(body), DefaultNICs)
	if err != nil {
		t.Fatal(err)
	}
	got := set.Host.Filesystems
	if len(got) != 2 || got[0].UsedBytes.V != 30 || got[1].Mountpoint != "imagefs" || got[1].UsedBytes.V != 50 || got[1].AvailableBytes.V != 150 {
		t.Errorf("got %+v", got)
	}
	if _, err := summarySet("n", []byte("{"), DefaultNICs); !errors.Is(err, fault.ErrMalformed) {
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
	_, err := into.Write(f.bodies[path])
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
	return &fake{bodies: map[string][]byte{pathCadvisor: body, pathSummary: recorded(t, "summary_v1.json")}, errs: map[string]error{}, asked: map[string]int{}}
}

// running makes the state that fits the recorded answers.
func running(t *testing.T) *state.Snapshot {
	now := &state.Snapshot{Synced: true, Nodes: map[string]*object.Node{"n": {Meta: object.Meta{Name: "n"}}}, Pods: map[string]*object.Pod{}}
	for _, c := range cadvisor(t, recorded(t, "cadvisor_v1_cgroupfs.txt")).Containers {
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
		"labels, on the node":   {labelled, false, []string{"cadvisor", "cadvisor"}},
		"labels, from outside":  {labelled, true, []string{"cadvisor stats_summary", "cadvisor stats_summary"}},
		"paths have no traffic": {bare(labelled), false, []string{"cadvisor_paths stats_summary", "cadvisor_paths stats_summary"}},
		"nothing at all": {[]byte("up 1\n"), false, []string{
			"cadvisor_paths! stats_summary", "cadvisor_paths! stats_summary", "cadvisor_paths! stats_summary", "stats_summary", "stats_summary"}},
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

func TestABlindSourceIsTriedAgain(t *testing.T) {
	f := newFake(t, []byte("up 1\n"))
	s := source(t, f, false)
	now := running(t)
	for range 3 + recheck {
		s.Read(t.Context(), at, now)
	}
	if f.asked[pathCadvisor] != 3 {
		t.Fatalf("cAdvisor was asked %d times, want 3 and then a pause", f.asked[pathCadvisor])
	}
	f.bodies[pathCadvisor] = recorded(t, "cadvisor_v1_cgroupfs.txt")
	s.Read(t.Context(), at, now)
	if got := sources(s.Read(t.Context(), at, now)); got != "cadvisor" {
		t.Errorf("after it tells again: %s", got)
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
	if got["bad"] != "cadvisor! stats_summary! " || got["n"] != "cadvisor " || got["virtual"] != "stats_summary " {
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
	f.Fuzz(func(_ *testing.T, body []byte) {
		if groups, err := parseCadvisor(body, at); err == nil {
			cadvisorSet("n", groups, DefaultNICs)
		}
	})
}

func FuzzSummary(f *testing.F) {
	f.Add([]byte(`{"node":{"fs":{}},"pods":[{"containers":[{}]}]}`))
	f.Fuzz(func(_ *testing.T, body []byte) { _, _ = summarySet("n", body, DefaultNICs) })
}

func FuzzCgroupOf(f *testing.F) {
	f.Add("/kubepods/burstable/poddbe6760d-b0cb-4566-a114-a715fcf1e005/73b3865bf07f80f00670a1a97827ecf80b0e0a74c57da655a9fa03527f2080d2")
	f.Fuzz(func(t *testing.T, path string) {
		uid, id := cgroupOf(path)
		if id != "" && (uid == "" || len(id) != 64) {
			t.Errorf("%q is container %q of pod %q", path, id, uid)
		}
	})
}

func BenchmarkCadvisor(b *testing.B) {
	body := recorded(b, "cadvisor_v1_cgroupfs.txt")
	b.ReportAllocs()
	for b.Loop() {
		groups, err := parseCadvisor(body, at)
		if err != nil {
			b.Fatal(err)
		}
		cadvisorSet("n", groups, DefaultNICs)
	}
}
