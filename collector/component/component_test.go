package component

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var at = time.Date(2026, 11, 23, 20, 25, 0, 0, time.UTC)

// In the form of kube-apiserver v1.34's /metrics.
const apiMetrics = `# HELP apiserver_request_total [STABLE] Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.
# TYPE apiserver_request_total counter
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="pods",scope="cluster",subresource="",verb="LIST",version="v1"} 100
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="pods",scope="resource",subresource="",verb="GET",version="v1"} 300
apiserver_request_total{code="500",component="apiserver",dry_run="",group="",resource="pods",scope="resource",subresource="",verb="GET",version="v1"} 3
apiserver_request_total{code="201",component="apiserver",dry_run="",group="",resource="pods",scope="resource",subresource="",verb="POST",version="v1"} 40
apiserver_request_total{code="0",component="apiserver",dry_run="",group="",resource="pods",scope="cluster",subresource="",verb="WATCH",version="v1"} 9000
apiserver_request_total{code="101",component="apiserver",dry_run="",group="",resource="pods",scope="resource",subresource="exec",verb="CONNECT",version="v1"} 70
# TYPE apiserver_request_duration_seconds histogram
apiserver_request_duration_seconds_bucket{component="apiserver",dry_run="",group="",resource="pods",scope="cluster",subresource="",verb="LIST",version="v1",le="0.05"} 90
apiserver_request_duration_seconds_bucket{component="apiserver",dry_run="",group="",resource="pods",scope="cluster",subresource="",verb="LIST",version="v1",le="+Inf"} 100
apiserver_request_duration_seconds_bucket{component="apiserver",dry_run="",group="apps",resource="deployments",scope="cluster",subresource="",verb="LIST",version="v1",le="0.05"} 9
apiserver_request_duration_seconds_bucket{component="apiserver",dry_run="",group="apps",resource="deployments",scope="cluster",subresource="",verb="LIST",version="v1",le="+Inf"} 10
apiserver_request_duration_seconds_bucket{component="apiserver",dry_run="",group="",resource="pods",scope="resource",subresource="exec",verb="CONNECT",version="v1",le="+Inf"} 70
apiserver_storage_size_bytes{storage_cluster_id="etcd-0"} 2.5e+06
apiserver_storage_size_bytes{storage_cluster_id="etcd-1"} 3.5e+06
`

const schedulerMetrics = `scheduler_pending_pods{queue="active"} 1
scheduler_pending_pods{queue="unschedulable"} 4
scheduler_scheduling_attempt_duration_seconds_bucket{profile="default-scheduler",result="scheduled",le="0.1"} 5
scheduler_scheduling_attempt_duration_seconds_bucket{profile="default-scheduler",result="scheduled",le="+Inf"} 6
etcd_server_leader_changes_seen_total 7
etcd_disk_wal_fsync_duration_seconds_bucket{le="0.002"} 50
etcd_disk_wal_fsync_duration_seconds_bucket{le="+Inf"} 51
etcd_mvcc_db_total_size_in_bytes 4.1e+06
`

// server answers by path; a path that is not there is 404.
func server(t *testing.T, answers map[string]func(http.ResponseWriter)) *httptest.Server {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a := answers[r.URL.Path]; a != nil {
			a(w)
			return
		}
		http.NotFound(w, r)
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv
}

func say(status int, body string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) { w.WriteHeader(status); _, _ = io.WriteString(w, body) }
}

func read(t *testing.T, api *httptest.Server, targets map[string]string, now *state.Snapshot) reading.Set {
	t.Helper()
	u, _ := url.Parse(api.URL)
	direct, err := Direct(DirectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(direct.CloseIdleConnections)
	s, err := New(Options{API: u, Client: api.Client(), Direct: direct, Targets: targets, Now: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	if now == nil {
		now = &state.Snapshot{}
	}
	return s.Read(t.Context(), at, now)[0]
}

func component(set reading.Set, name string) (c reading.Component, n int) {
	for _, one := range set.Components {
		if one.Name == name {
			c, n = one, n+1
		}
	}
	return c, n
}

func TestAnAPIServerThatShowsEverything(t *testing.T) {
	api := server(t, map[string]func(http.ResponseWriter){"/readyz": say(200, "ok"), "/readyz/etcd": say(200, "ok"), "/metrics": say(200, apiMetrics)})
	set := read(t, api, nil, nil)
	c, _ := component(set, APIServer)
	if set.Err != nil || !c.Ready || c.ProbeTook <= 0 || c.CertExpires.IsZero() {
		t.Errorf("%v, %+v", set.Err, c)
	}
	// WATCH and CONNECT, which last, are not among them.
	if len(c.Requests) != 3 || c.Requests["list"].V != 100 || c.Requests["read"].V != 303 || c.Errors["read"].V != 3 || c.Requests["write"].V != 40 {
		t.Errorf("requests %v, errors %v", c.Requests, c.Errors)
	}
	h := c.Latency["list"]
	if len(h.Bounds) != 2 || h.Bounds[0] != 0.05 || !math.IsInf(h.Bounds[1], 1) || h.Counts[0] != 99 || h.Counts[1] != 110 || len(c.Latency) != 1 {
		t.Errorf("latency %+v", c.Latency)
	}
	if e, _ := component(set, Etcd); !e.Ready || e.DatabaseBytes.V != 3.5e6 {
		t.Errorf("etcd %+v", e)
	}
	if why := set.Lacking["k8s_component_pending_pods"]; !strings.Contains(why, "--component scheduler=") {
		t.Errorf("what the scheduler would tell lacks because %q", why)
	}
}

// Of an answer that is cut, by us or on the way, nothing counts: what is summed up
// over its lines would be another counter each time. It is said, and the component
// is asked for its health all the same.
func TestAnAnswerThatIsNotWholeIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		answer func(http.ResponseWriter)
		want   error
	}{
		"beyond the bound": {func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, apiMetrics)
			line := []byte("other_total{x=\"" + strings.Repeat("y", 32<<10) + "\"} 1\n")
			for n := 0; n <= maxBody; n += len(line) {
				if _, err := w.Write(line); err != nil {
					return
				}
			}
		}, fault.ErrTooLarge},
		"cut in the middle of a number": {say(200, apiMetrics[:strings.Index(apiMetrics, " 9000")+3]), fault.ErrMalformed},
		"a line without end":            {say(200, apiMetrics+strings.Repeat("x", maxLine+1)), fault.ErrMalformed},
		"broken off": {func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, apiMetrics)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, fault.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			api := server(t, map[string]func(http.ResponseWriter){"/readyz": say(200, "ok"), "/readyz/etcd": say(200, "ok"), "/metrics": tc.answer})
			set := read(t, api, nil, nil)
			c, _ := component(set, APIServer)
			e, _ := component(set, Etcd)
			if !errors.Is(set.Err, tc.want) || set.Lacking["k8s_component_request_rate"] == "" {
				t.Errorf("error %v, lacking %v", set.Err, set.Lacking)
			}
			if !c.Ready || !e.Ready || len(c.Requests) != 0 || len(c.Latency) != 0 || e.DatabaseBytes.OK() {
				t.Errorf("taken are %+v and %+v", c, e)
			}
		})
	}
}

// The API server of a cluster without nodes of its own is the provider's: it is
// asked whether it answers, and for nothing else.
func TestOfAnElasticClusterOnlyHealthIsAsked(t *testing.T) {
	asked := false
	api := server(t, map[string]func(http.ResponseWriter){"/readyz": say(200, "ok"), "/readyz/etcd": say(200, "ok"), "/metrics": func(w http.ResponseWriter) { asked = true; say(200, apiMetrics)(w) }})
	set := read(t, api, nil, &state.Snapshot{Nodes: map[string]*object.Node{"v": {Meta: object.Meta{Name: "v"}, Virtual: true}}})
	c, _ := component(set, APIServer)
	e, _ := component(set, Etcd)
	if set.Err != nil || !c.Ready || !e.Ready || asked || len(c.Requests) != 0 || e.DatabaseBytes.OK() {
		t.Errorf("asked %v, %v: %+v and %+v", asked, set.Err, c, e)
	}
}

func TestHealthIsWhatTheyAnswer(t *testing.T) {
	for name, tc := range map[string]struct {
		answers map[string]func(http.ResponseWriter)
		api     bool
		etcd    string // ready, not ready, none
	}{
		"not ready":                {map[string]func(http.ResponseWriter){"/readyz": say(500, "[-]etcd failed"), "/readyz/etcd": say(500, "no"), "/metrics": say(200, "")}, false, "not ready"},
		"may not be asked":         {map[string]func(http.ResponseWriter){"/readyz": say(403, ""), "/readyz/etcd": say(403, ""), "/metrics": say(403, "")}, true, "none"},
		"knows no check of etcd":   {map[string]func(http.ResponseWriter){"/readyz": say(200, "ok"), "/metrics": say(200, "")}, true, "none"},
		"shows only etcd's volume": {map[string]func(http.ResponseWriter){"/readyz": say(200, "ok"), "/metrics": say(200, apiMetrics)}, true, "ready"},
	} {
		t.Run(name, func(t *testing.T) {
			set := read(t, server(t, tc.answers), nil, nil)
			if c, _ := component(set, APIServer); c.Ready != tc.api {
				t.Errorf("API server %+v", c)
			}
			e, n := component(set, Etcd)
			if got := map[bool]string{true: "ready", false: "not ready"}[e.Ready]; n == 0 && tc.etcd != "none" || n > 0 && got != tc.etcd {
				t.Errorf("etcd %d times, %+v", n, e)
			}
			if tc.answers["/metrics"] != nil && name == "may not be asked" {
				if !errors.Is(set.Err, fault.ErrForbidden) || !strings.Contains(set.Lacking["k8s_component_request_p99"], "nonResourceURLs") {
					t.Errorf("error %v, lacking %v", set.Err, set.Lacking)
				}
			}
		})
	}
	gone := server(t, nil)
	gone.Close()
	set := read(t, gone, nil, nil)
	if c, _ := component(set, APIServer); c.Ready || len(set.Components) != 1 {
		t.Errorf("an API server that is away: %+v", set.Components)
	}
}

func TestTargetsAndPods(t *testing.T) {
	api := server(t, map[string]func(http.ResponseWriter){"/readyz": say(200, "ok"), "/readyz/etcd": say(200, "ok"), "/metrics": say(200, apiMetrics)})
	sched := server(t, map[string]func(http.ResponseWriter){"/healthz": say(200, "ok"), "/metrics": say(200, schedulerMetrics)})
	etcd := server(t, map[string]func(http.ResponseWriter){"/health": say(200, `{"health":"true"}`), "/metrics": say(200, schedulerMetrics)})
	now := &state.Snapshot{Pods: map[string]*object.Pod{}}
	for name, labels := range map[string]map[string]string{
		"kube-controller-manager-m": {"component": "kube-controller-manager"}, "coredns-1": {"k8s-app": "kube-dns"}, "coredns-2": {"k8s-app": "kube-dns"}, "web": {"app": "x"},
	} {
		now.Pods[name] = &object.Pod{Meta: object.Meta{UID: name, Namespace: "kube-system", Name: name, Labels: labels}, Phase: object.PhaseRunning, Ready: name != "coredns-1"}
	}
	now.Pods["fake"] = &object.Pod{Meta: object.Meta{UID: "fake", Namespace: "shop", Name: "fake", Labels: map[string]string{"component": "etcd"}}, Phase: object.PhaseRunning, Ready: true}
	set := read(t, api, map[string]string{Scheduler: sched.URL, Etcd: etcd.URL}, now)
	if c, n := component(set, Scheduler); n != 1 || !c.Ready || c.PendingPods.V != 5 || len(c.Scheduling.Counts) != 2 || c.CertExpires.IsZero() {
		t.Errorf("scheduler %d times, %+v", n, c)
	}
	if _, n := component(set, Etcd); n != 2 {
		t.Errorf("etcd by its own word and the API server's is %d times", n)
	}
	if c, n := component(set, ControllerManager); n != 1 || !c.Ready {
		t.Errorf("controller manager %d times, %+v", n, c)
	}
	if _, n := component(set, CoreDNS); n != 2 {
		t.Errorf("coredns %d times", n)
	}
	for _, c := range set.Components {
		if c.Instance == etcd.Listener.Addr().String() && (c.LeaderChanges.V != 7 || c.Fsync.Counts[1] != 51 || c.DatabaseBytes.V != 4.1e6) {
			t.Errorf("etcd %+v", c)
		}
	}
	if len(set.Lacking) != 0 || set.Err != nil {
		t.Errorf("lacking %v, %v", set.Lacking, set.Err)
	}
}

// etcd is shown our certificate, and answers nobody without one. The token goes only
// to whom the CA vouches for.
func TestComponentsAreShownWhoAsks(t *testing.T) {
	dir := t.TempDir()
	file := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	mine := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "collector"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, mine, mine, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile, token := file("cert.pem", "CERTIFICATE", cert), file("key.pem", "EC PRIVATE KEY", raw), filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	api := server(t, map[string]func(http.ResponseWriter){"/readyz": say(200, "ok")})
	for name, tc := range map[string]struct {
		wantsCert, ca, cert bool
		ready               bool
		who, token          string
	}{
		"with all":              {true, true, true, true, "collector", "Bearer secret"},
		"without a certificate": {true, true, false, false, "", ""},
		"nobody vouches for it": {false, false, true, true, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var who, gotToken string
			etcd := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				if len(r.TLS.PeerCertificates) > 0 {
					who = r.TLS.PeerCertificates[0].Subject.CommonName
				}
				gotToken = r.Header.Get("Authorization")
				_, _ = io.WriteString(w, "etcd_server_leader_changes_seen_total 7\n")
			}))
			if etcd.TLS = (&tls.Config{}); tc.wantsCert {
				etcd.TLS.ClientAuth = tls.RequireAnyClientCert
			}
			etcd.Config.ErrorLog = log.New(io.Discard, "", 0)
			etcd.StartTLS()
			t.Cleanup(etcd.Close)
			o := DirectOptions{TokenFile: token}
			if tc.ca {
				o.CAFile = file("ca.pem", "CERTIFICATE", etcd.Certificate().Raw)
			}
			if tc.cert {
				o.CertFile, o.KeyFile = certFile, keyFile
			}
			direct, err := Direct(o)
			if err != nil {
				t.Fatal(err)
			}
			u, _ := url.Parse(api.URL)
			s, err := New(Options{API: u, Client: api.Client(), Direct: direct, Targets: map[string]string{Etcd: etcd.URL}, Now: func() time.Time { return at }})
			if err != nil {
				t.Fatal(err)
			}
			set := s.Read(t.Context(), at, &state.Snapshot{})[0]
			c, _ := component(set, Etcd)
			mu.Lock()
			defer mu.Unlock()
			if c.Ready != tc.ready || c.LeaderChanges.OK() != tc.ready || who != tc.who || gotToken != tc.token {
				t.Errorf("ready %v, figures %v, it saw %q and %q", c.Ready, c.LeaderChanges, who, gotToken)
			}
		})
	}
}

func TestMetricsAreReadOnceAMinute(t *testing.T) {
	asked, clock := 0, at
	api := server(t, map[string]func(http.ResponseWriter){"/readyz": say(200, "ok"), "/metrics": func(w http.ResponseWriter) { asked++; say(200, apiMetrics)(w) }})
	u, _ := url.Parse(api.URL)
	s, err := New(Options{API: u, Client: api.Client(), Now: func() time.Time { return clock }})
	if err != nil {
		t.Fatal(err)
	}
	for range 6 {
		s.Read(t.Context(), clock, &state.Snapshot{})
		clock = clock.Add(15 * time.Second)
	}
	if asked != 2 {
		t.Errorf("in 75 seconds /metrics was read %d times", asked)
	}
}

func TestOptionsNameWhatIsWrong(t *testing.T) {
	u, _ := url.Parse("https://x")
	for name, targets := range map[string]map[string]string{"kubelet": {"kubelet": "https://x"}, "component.etcd": {Etcd: "10.0.0.1"}} {
		if _, err := New(Options{API: u, Client: http.DefaultClient, Targets: targets}); err == nil || !strings.Contains(err.Error(), strings.TrimPrefix(name, "component.")) {
			t.Errorf("%v gave %v", targets, err)
		}
	}
	if _, err := Direct(DirectOptions{CertFile: "x"}); err == nil {
		t.Error("a certificate without a key is accepted")
	}
	if _, err := Direct(DirectOptions{CAFile: "/does/not/exist"}); err == nil {
		t.Error("a CA that is not there is accepted")
	}
}

func FuzzMetrics(f *testing.F) {
	f.Add([]byte(apiMetrics))
	f.Add([]byte(schedulerMetrics))
	f.Fuzz(func(t *testing.T, body []byte) {
		var got figures
		if err := got.parse(strings.NewReader(string(body)), at); err != nil {
			return
		}
		for _, h := range []reading.Histogram{got.fsync, got.scheduling, got.latency["list"]} {
			if len(h.Bounds) != len(h.Counts) || len(h.Bounds) > maxBuckets+1 {
				t.Errorf("a histogram of %d bounds and %d counts", len(h.Bounds), len(h.Counts))
			}
		}
	})
}

func TestWhereStaticPodsListen(t *testing.T) {
	for name, tc := range map[string]struct {
		component, command string
		cert               bool
		want, why          string
	}{
		"scheduler as it is by default":  {Scheduler, "kube-scheduler --leader-elect=true", false, "https://10.0.0.5:10259", ""},
		"scheduler of kubeadm":           {Scheduler, "kube-scheduler --bind-address=127.0.0.1", false, "", "listens on loopback only"},
		"scheduler elsewhere":            {Scheduler, "kube-scheduler --bind-address 10.0.0.9 --secure-port 443", false, "https://10.0.0.9:443", ""},
		"scheduler that serves nothing":  {Scheduler, "kube-scheduler --secure-port=0", false, "", "serves nothing"},
		"controller manager":             {ControllerManager, "kube-controller-manager --bind-address=0.0.0.0", false, "https://10.0.0.5:10257", ""},
		"controller manager, protocol 6": {ControllerManager, "kube-controller-manager --bind-address=::", false, "https://10.0.0.5:10257", ""},
		"etcd that shows its figures":    {Etcd, "etcd --listen-metrics-urls=http://127.0.0.1:2381,http://0.0.0.0:2381", false, "http://10.0.0.5:2381", ""},
		"etcd with a certificate":        {Etcd, "etcd --listen-metrics-urls=http://127.0.0.1:2381 --listen-client-urls=https://127.0.0.1:2379,https://10.0.0.5:2379", true, "https://10.0.0.5:2379", ""},
		"etcd without one":               {Etcd, "etcd --listen-client-urls=https://10.0.0.5:2379", false, "", "--component-cert-file"},
		"etcd for itself":                {Etcd, "etcd --listen-client-urls=https://127.0.0.1:2379", true, "", "loopback only"},
		"nonsense":                       {Etcd, "etcd --listen-metrics-urls=::::,%zz,ftp://10.0.0.5:1", true, "", "loopback only"},
	} {
		at, why := addressOf(tc.component, strings.Fields(tc.command), "10.0.0.5", tc.cert)
		if got := fmt.Sprint(at); (tc.want == "") != (at == nil) || at != nil && got != tc.want || !strings.Contains(why, tc.why) {
			t.Errorf("%s: %v, %q", name, at, why)
		}
	}
	if at, why := addressOf(Scheduler, []string{"kube-scheduler"}, "", false); at != nil || !strings.Contains(why, "its node's object") {
		t.Errorf("without an address of the node: %v, %q", at, why)
	}
}

// A scheduler whose static pod says where it listens is asked there; one that does
// not answer is not called unready, as nobody said that it can be reached.
func TestComponentsAreFoundByTheirStaticPods(t *testing.T) {
	api := server(t, map[string]func(http.ResponseWriter){"/readyz": say(200, "ok"), "/metrics": say(403, "")})
	scheduler := server(t, map[string]func(http.ResponseWriter){"/healthz": say(200, "ok"), "/metrics": say(200, schedulerMetrics)})
	host, port, err := net.SplitHostPort(scheduler.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	// Loopback is never asked: the pod's loopback is not ours. So the test listens
	// on another address of this machine.
	if ip := net.ParseIP(host); ip == nil || ip.IsLoopback() {
		l, err := net.Listen("tcp", net.JoinHostPort(ownAddress(t), "0"))
		if err != nil {
			t.Skipf("no address of its own: %v", err)
		}
		srv := &http.Server{Handler: scheduler.Config.Handler}
		go func() { _ = srv.Serve(l) }()
		t.Cleanup(func() { _ = srv.Close() })
		host, port, _ = net.SplitHostPort(l.Addr().String())
	}
	pod := func(name, component string, command ...string) *object.Pod {
		return &object.Pod{Meta: object.Meta{Namespace: "kube-system", Name: name, UID: name, Labels: map[string]string{"component": component}}, Node: "m", Ready: true, Command: command}
	}
	now := &state.Snapshot{Nodes: map[string]*object.Node{"m": {InternalIP: host}}, Pods: map[string]*object.Pod{
		"s": pod("kube-scheduler-m", "kube-scheduler", "kube-scheduler"),
		"c": pod("kube-controller-manager-m", "kube-controller-manager", "kube-controller-manager", "--secure-port=1"),
		"e": pod("etcd-m", "etcd", "etcd"),
	}}
	set := read(t, api, nil, now)
	names := map[string]int{}
	for _, c := range set.Components {
		names[c.Name]++
		if !c.Ready {
			t.Errorf("%s of %s is not ready", c.Name, c.Instance)
		}
	}
	if names[Scheduler] == 0 || names[ControllerManager] != 1 {
		t.Errorf("components %v", names)
	}
	if why := set.Lacking["k8s_component_fsync_p99"]; !strings.Contains(why, "etcd on node m shows its figures on loopback only") || !strings.Contains(why, "--component etcd=") {
		t.Errorf("etcd's figures are missing because %q", why)
	}
	// The scheduler of this test speaks plain HTTP at a port of its own, which its
	// flags cannot say: what is asked is in discover and target, each by itself.
	u, _ := url.Parse("http://" + net.JoinHostPort(host, port))
	a, _ := url.Parse(api.URL)
	s, err := New(Options{API: a, Client: api.Client(), Direct: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, Now: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	if c := s.target(t.Context(), Scheduler, Scheduler+"@"+u.Host, u); !c.Ready || !c.PendingPods.OK() {
		t.Errorf("asked itself it says %+v", c)
	}
	if f, hidden := s.discover(now); len(f) != 2 || hidden[Etcd] == "" {
		t.Errorf("found %v, hidden %v", f, hidden)
	}
}

// ownAddress is an address of this machine that is not loopback.
func ownAddress(t *testing.T) string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Skip(err)
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && n.IP.To4() != nil {
			return n.IP.String()
		}
	}
	t.Skip("this machine has loopback alone")
	return ""
}

// 10,000 label values in one answer: what is summed up costs nothing however many
// there are; a histogram that has them as bounds is left out, said and counted, and
// everything else is as it is without.
func Test10000LabelValuesInOneScrape(t *testing.T) {
	var labels, bounds strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&labels, "apiserver_request_total{code=\"200\",resource=\"odd%d\",verb=\"GET\"} 0\n", i)
		fmt.Fprintf(&labels, "apiserver_request_total{code=\"200\",resource=\"x\",verb=\"ODD%d\"} 9\n", i)
		fmt.Fprintf(&bounds, "apiserver_request_duration_seconds_bucket{verb=\"GET\",le=\"%d.5\"} 1\n", i)
	}
	read := func(body string) (figures, error) {
		var f figures
		err := f.parse(strings.NewReader(body), at)
		return f, err
	}
	want, err := read(apiMetrics)
	if err != nil || len(want.requests) == 0 || len(want.latency) == 0 {
		t.Fatalf("%+v, %v", want, err)
	}
	if got, err := read(labels.String() + apiMetrics); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("10,000 values give %+v, %v, without them %+v", got, err, want)
	}
	got, err := read(bounds.String() + apiMetrics)
	if !errors.Is(err, fault.ErrTooLarge) || !strings.Contains(err.Error(), latencyBuckets) {
		t.Errorf("10,000 bounds give %v", err)
	}
	if len(got.latency) != 0 {
		t.Errorf("a histogram of some of its bounds: %+v", got.latency)
	}
	if got.latency = want.latency; !reflect.DeepEqual(got, want) {
		t.Errorf("the other figures are %+v, want %+v", got, want)
	}
	api := server(t, map[string]func(http.ResponseWriter){"/readyz": say(200, "ok"), "/readyz/etcd": say(200, "ok"), "/metrics": say(200, bounds.String()+apiMetrics)})
	u, _ := url.Parse(api.URL)
	s, err := New(Options{API: u, Client: api.Client(), Now: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	set := s.Read(t.Context(), at, &state.Snapshot{Synced: true})[0]
	if !errors.Is(set.Err, fault.ErrTooLarge) { // what the collector counts reads by
		t.Errorf("the source says %v", set.Err)
	}
	for _, c := range set.Components {
		if c.Name == APIServer && (!c.Ready || c.Requests["read"].V != want.requests["read"].V) {
			t.Errorf("the API server is %+v", c)
		}
	}
}
