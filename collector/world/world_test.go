package world

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/collector/kube"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

func TestMain(m *testing.M) {
	// client-go shares connections by configuration, and closes idle ones only
	// when they time out.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("golang.org/x/net/http2.(*clientConnReadLoop).run"))
}

// kubeconfig names an API server that tells its version and grants every right
// but those on the given resources.
func kubeconfig(t *testing.T, denied ...string) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.URL.Path == "/version":
			fmt.Fprint(w, `{"major":"1","minor":"34","gitVersion":"v1.34.4"}`)
		case strings.HasSuffix(r.URL.Path, "/selfsubjectaccessreviews"):
			raw, err := io.ReadAll(r.Body)
			if err != nil {
				t.Errorf("review: %v", err)
			}
			allowed := true
			for _, d := range denied {
				// The body is protobuf; what is asked stands in it as plain strings.
				resource, sub, _ := strings.Cut(d, "/")
				allowed = allowed && !(strings.Contains(string(raw), resource) && strings.Contains(string(raw), sub))
			}
			w.WriteHeader(http.StatusCreated)
			fmt.Fprintf(w, `{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1","spec":{},"status":{"allowed":%v}}`, allowed)
		default:
			t.Errorf("asked %s %s", r.Method, r.URL.Path)
		}
	}))
	t.Cleanup(srv.Close)
	return configFor(t, srv.URL)
}

func configFor(t *testing.T, server string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"Prod EU","clusters":[{"name":"c","cluster":{"server":%q}}],`+
		`"contexts":[{"name":"Prod EU","context":{"cluster":"c","user":"u"}}],"users":[{"name":"u","user":{"token":"t"}}]}`, server)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// unasked is Options.LogPositions of collectors that do not run.
func unasked(context.Context, []wire.LogSource) ([]wire.LogPosition, error) { return nil, nil }

func TestEachRoleHasItsSources(t *testing.T) {
	config := kubeconfig(t)
	sys := t.TempDir() // of a node with cgroup v2
	if err := os.MkdirAll(filepath.Join(sys, "fs/cgroup/cgroup.controllers"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		role, node     string
		noLogs         bool
		readings, logs int // events are among the logs
	}{
		{wire.RoleNode, "n1", false, 4, 1},
		{wire.RoleNode, "n1", true, 3, 0},
		{wire.RoleCluster, "", false, 1, 1},
		{wire.RoleAll, "", false, 3, 2},
		{wire.RoleAll, "", true, 2, 1},
	} {
		o, err := Open(t.Context(), Options{
			Kube: kube.Config{Kubeconfig: config}, Role: tc.role, Node: tc.node, NoLogs: tc.noLogs, Dir: filepath.Join(t.TempDir(), "new"),
			LogPath: t.TempDir(), KubeletInsecureSkipVerify: true, HostSys: sys, LogPositions: unasked,
		})
		if err != nil {
			t.Errorf("%+v: %v", tc, err)
			continue
		}
		if len(o.World.Readings) != tc.readings || len(o.World.Logs) != tc.logs || o.World.State == nil {
			t.Errorf("%+v: %d readings, %d logs", tc, len(o.World.Readings), len(o.World.Logs))
		}
		if o.Version != "v1.34.4" || o.Trouble != nil || len(o.Missing) != 0 || o.Cluster != kube.ClusterID("Prod EU") || o.Cluster == "" {
			t.Errorf("%+v: version %q, trouble %v, missing %v, cluster %q", tc, o.Version, o.Trouble, o.Missing, o.Cluster)
		}
	}
}

func TestMissingRightsAreNamed(t *testing.T) {
	for role, denied := range map[string]string{wire.RoleAll: "nodes/proxy", wire.RoleCluster: "deployments"} {
		o, err := Open(t.Context(), Options{Kube: kube.Config{Kubeconfig: kubeconfig(t, denied)}, Role: role, Dir: t.TempDir(), LogPositions: unasked})
		if err != nil {
			t.Fatal(err)
		}
		if len(o.Missing) != 1 || !strings.HasPrefix(o.Missing[0].Resource, denied) || o.Missing[0].For == "" {
			t.Errorf("%s without %s: %v, %v", role, denied, o.Missing, o.Trouble)
		}
	}
}

// Collecting begins when the API server can be reached; that it cannot yet is
// said.
func TestAnAbsentAPIServerIsNoError(t *testing.T) {
	srv := httptest.NewServer(nil)
	srv.Close()
	o, err := Open(t.Context(), Options{Kube: kube.Config{Kubeconfig: configFor(t, srv.URL)}, Role: wire.RoleAll, Dir: t.TempDir(), LogPositions: unasked})
	if err != nil || o.Trouble == nil || o.World.State == nil {
		t.Errorf("got %+v, %v", o, err)
	}
}

func TestWhatCannotWorkIsRefused(t *testing.T) {
	config := kubeconfig(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		o    Options
		want string
	}{
		"no folder":              {Options{Kube: kube.Config{Kubeconfig: config}, Role: wire.RoleAll}, "Dir is required"},
		"a folder that is none":  {Options{Kube: kube.Config{Kubeconfig: config}, Role: wire.RoleAll, Dir: filepath.Join(file, "x")}, "not a directory"},
		"no kubeconfig":          {Options{Kube: kube.Config{Kubeconfig: "/nope"}, Role: wire.RoleAll, Dir: t.TempDir()}, "/nope"},
		"no such context":        {Options{Kube: kube.Config{Kubeconfig: config, Context: "other"}, Role: wire.RoleAll, Dir: t.TempDir()}, "other"},
		"a node without a name":  {Options{Kube: kube.Config{Kubeconfig: config}, Role: wire.RoleNode, Dir: t.TempDir()}, ""},
		"a kubelet's CA is away": {Options{Kube: kube.Config{Kubeconfig: config}, Role: wire.RoleNode, Node: "n", Dir: t.TempDir(), KubeletCAFile: "/nope"}, "/nope"},
	} {
		if _, err := Open(t.Context(), tc.o); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
}
