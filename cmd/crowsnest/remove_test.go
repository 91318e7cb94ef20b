package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/api"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

func TestADeletedClusterIsGone(t *testing.T) {
	r := startServer(t, t.TempDir(), nil)
	code, body := r.send("POST", api.Prefix+"/tokens", "", "application/json", []byte(`{"kind":"ingest","name":"edge","cluster":"edge"}`))
	var made struct{ Token string }
	if err := json.Unmarshal([]byte(body), &made); code != 201 || err != nil || made.Token == "" {
		t.Fatalf("token: %d %s", code, body)
	}
	send := func(path, token string, v any) int {
		t.Helper()
		code, _ := r.send("POST", path, token, "application/json", compressed(t, v), "Content-Encoding", "zstd")
		return code
	}
	now := time.Now()
	batch := wire.LogBatch{Sender: "all", ID: "b1", Groups: []wire.LogGroup{{Stream: wire.LogStream{Namespace: "shop", Pod: "cart-1", Stream: "stdout"},
		Lines: []wire.LogLine{{Time: now.UnixNano(), Message: "socks"}}}}}
	inv := wire.InventoryBatch{Session: "s", Sequence: 1, Time: now, Snapshot: true, Last: true,
		Nodes: []*object.Node{{Meta: object.Meta{UID: "u1", Name: "n1", CreatedAt: now.Add(-time.Hour)}, Ready: true}}}
	for _, token := range []string{made.Token, r.ingest} {
		if a, b := send(wire.PathLogs, token, batch), send(wire.PathInventory, token, inv); a != 204 || b != 204 {
			t.Fatalf("send: %d %d", a, b)
		}
		if code, body := r.send("POST", wire.PathMetrics, token, protobuf, remoteWrite(t, "k8s_node_cpu_usage", 42, "node", "n1"), "Content-Encoding", "snappy"); code/100 != 2 {
			t.Fatalf("write: %d %s", code, body)
		}
	}
	if code, body := r.send("DELETE", api.Prefix+"/clusters/prod-1", "", "", nil); code != 409 || !strings.Contains(body, "--ingest-token-file") {
		t.Errorf("one that is configured: %d %s", code, body)
	}
	if code, body := r.send("DELETE", api.Prefix+"/clusters/nothing", "", "", nil); code != 404 {
		t.Errorf("one that is not there: %d %s", code, body)
	}
	if code, body := r.send("DELETE", api.Prefix+"/clusters/edge", r.ingest, "", nil); code != 403 {
		t.Errorf("by an ingest token: %d %s", code, body)
	}
	if code, body := r.send("DELETE", api.Prefix+"/clusters/edge", "", "", nil); code != 204 {
		t.Fatalf("delete: %d %s", code, body)
	}
	if code, _ := r.send("DELETE", api.Prefix+"/clusters/edge", "", "", nil); code != 404 {
		t.Errorf("once more: %d", code)
	}
	if code, _ := r.send("GET", api.Prefix+"/clusters/edge", "", "", nil); code != 404 {
		t.Errorf("the cluster: %d", code)
	}
	if body := r.get("/api/v1/query?query=k8s_node_cpu_usage"); strings.Contains(body, `"edge"`) || !strings.Contains(body, `"prod-1"`) {
		t.Errorf("samples: %s", body)
	}
	if code := send(wire.PathLogs, made.Token, batch); code != 401 {
		t.Errorf("its token: %d", code)
	}
	if body := r.get(api.Prefix + "/tokens"); strings.Contains(body, "edge") {
		t.Errorf("its token is listed: %s", body)
	}
	eventually(t, "the end of its lines", func() bool {
		return !strings.Contains(r.get("/select/logsql/query?query=socks"), `"cluster":"edge"`)
	})
	if body := r.get("/select/logsql/query?query=socks"); !strings.Contains(body, `"cluster":"prod-1"`) {
		t.Errorf("the other cluster: %s", body)
	}
}
