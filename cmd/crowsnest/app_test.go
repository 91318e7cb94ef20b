package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/prometheus/prompb"

	"github.com/crowsnest-dev/crowsnest/api"
	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/collector/simulate"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// running is a whole server in this process.
type running struct {
	*app
	t      *testing.T
	ingest string // a token for cluster prod-1
	cancel context.CancelFunc
	done   chan struct{}
	err    error
	client *http.Client
}

func startServer(t *testing.T, data string, change func(*settings)) *running {
	t.Helper()
	s := newSettings()
	s.data, s.listen = data, "127.0.0.1:0"
	if change != nil {
		change(s)
	}
	ingest := access.NewToken(access.IngestToken)
	a, err := newApp(s, appOptions{Logger: silent(), Given: []access.Token{{
		Principal: access.Principal{Kind: access.IngestToken, Name: "test", Cluster: "prod-1"}, Hash: access.Hash(ingest),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{app: a, t: t, ingest: ingest, cancel: cancel, done: make(chan struct{}), client: &http.Client{Transport: &http.Transport{}}}
	go func() {
		defer close(r.done)
		r.err = a.Run(ctx)
	}()
	t.Cleanup(func() { r.stop() })
	within(t, "opening", 60*time.Second, a.opened)
	return r
}

func (r *running) stop() {
	r.cancel()
	within(r.t, "the end", 60*time.Second, r.done)
	r.client.CloseIdleConnections()
	if r.err != nil {
		r.t.Errorf("Run: %v", r.err)
	}
}

// send asks the server and gives status and body.
func (r *running) send(method, path, token, contentType string, body []byte, header ...string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequest(method, r.URL()+path, bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, string(raw)
}

func (r *running) get(path string) string {
	r.t.Helper()
	code, body := r.send("GET", path, "", "", nil)
	if code != 200 {
		r.t.Fatalf("GET %s: %d %s", path, code, body)
	}
	return body
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !holds(); time.Sleep(60 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never came: %s", what)
		}
	}
}

func remoteWrite(t *testing.T, name string, v float64, labels ...string) []byte {
	t.Helper()
	ts := prompb.TimeSeries{
		Labels:  []prompb.Label{{Name: "__name__", Value: name}},
		Samples: []prompb.Sample{{Value: v, Timestamp: time.Now().UnixMilli()}},
	}
	for i := 0; i+1 < len(labels); i += 2 {
		ts.Labels = append(ts.Labels, prompb.Label{Name: labels[i], Value: labels[i+1]})
	}
	raw, err := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{ts}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return snappy.Encode(nil, raw)
}

func compressed(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	return w.EncodeAll(raw, nil)
}

const protobuf = "application/x-protobuf"

func TestWhatIsSentIsFound(t *testing.T) {
	r := startServer(t, t.TempDir(), nil)
	if body := r.get("/readyz"); !strings.Contains(body, `"ready":true`) {
		t.Errorf("readyz: %s", body)
	}

	// A sample is found by PromQL, with the token's cluster whatever it says itself.
	code, body := r.send("POST", wire.PathMetrics, r.ingest, protobuf, remoteWrite(t, "k8s_node_cpu_usage", 42, "node", "n1"), "Content-Encoding", "snappy")
	if code/100 != 2 {
		t.Fatalf("write: %d %s", code, body)
	}
	if body := r.get("/api/v1/query?query=k8s_node_cpu_usage"); !strings.Contains(body, `"cluster":"prod-1"`) || !strings.Contains(body, `"42"`) {
		t.Errorf("query: %s", body)
	}

	// A log line is found by LogsQL.
	now := time.Now()
	batch := wire.LogBatch{Sender: "all", ID: "b1", Groups: []wire.LogGroup{{
		Stream: wire.LogStream{Namespace: "shop", Pod: "cart-1", Container: "app", Stream: "stdout"},
		Lines:  []wire.LogLine{{Time: now.UnixNano(), Message: "out of stock: socks", Fields: wire.FieldsOf(map[string]string{"level": "warning"})}},
	}}}
	if code, body := r.send("POST", wire.PathLogs, r.ingest, "application/json", compressed(t, batch), "Content-Encoding", "zstd"); code != 204 {
		t.Fatalf("logs: %d %s", code, body)
	}
	if body := r.get("/select/logsql/query?query=" + url.QueryEscape("socks")); !strings.Contains(body, "out of stock: socks") || !strings.Contains(body, `"cluster":"prod-1"`) {
		t.Errorf("logs: %s", body)
	}

	// Objects make the cluster known.
	inv := wire.InventoryBatch{Session: "s", Sequence: 1, Time: now, Snapshot: true, Last: true, ClusterKind: "managed", ClusterVersion: "v1.34.4",
		Nodes: []*object.Node{{Meta: object.Meta{UID: "u1", Name: "n1", CreatedAt: now.Add(-time.Hour)}, Ready: true}},
		Pods: []*object.Pod{{Meta: object.Meta{UID: "p1", Namespace: "shop", Name: "cart-1", CreatedAt: now.Add(-time.Hour)}, Node: "n1",
			Phase: object.PhaseRunning, Ready: true, Workload: object.WorkloadRef{Type: "deployment", Name: "cart"}, Containers: []object.Container{}}},
	}
	if code, body := r.send("POST", wire.PathInventory, r.ingest, "application/json", compressed(t, inv), "Content-Encoding", "zstd"); code != 204 {
		t.Fatalf("inventory: %d %s", code, body)
	}
	var clusters struct {
		Items []struct{ ID, Version string }
	}
	if err := json.Unmarshal([]byte(r.get(api.Prefix+"/clusters")), &clusters); err != nil || len(clusters.Items) != 1 ||
		clusters.Items[0].ID != "prod-1" || clusters.Items[0].Version != "v1.34.4" {
		t.Errorf("clusters: %+v, %v", clusters, err)
	}
	code, body = r.send("GET", wire.PathOwners+"?node=n1", r.ingest, "", nil)
	if code != 200 || !strings.Contains(body, `"p1":{"type":"deployment","name":"cart"}`) {
		t.Errorf("owners: %d %s", code, body)
	}

	// Without a batch in between, the sender is told to begin again.
	inv.Sequence, inv.Snapshot, inv.Last = 3, false, false
	if code, body := r.send("POST", wire.PathInventory, r.ingest, "application/json", compressed(t, inv), "Content-Encoding", "zstd"); code != 409 {
		t.Errorf("a missing batch: %d %s", code, body)
	}

	metrics := r.get("/metrics")
	for _, want := range []string{"crowsnest_api_requests_total", "go_goroutines", "process_resident_memory_bytes", "crowsnest_build_info", "prometheus_tsdb_head_series"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}

func TestWrongWritesAreRefused(t *testing.T) {
	r := startServer(t, t.TempDir(), nil)
	for name, tc := range map[string]struct {
		path, token, typ string
		body             []byte
		encoding         string
		want             int
	}{
		"not snappy":              {wire.PathMetrics, r.ingest, protobuf, []byte("x"), "snappy", 400},
		"a wrong token":           {wire.PathMetrics, "cni_wrongwrongwrong", protobuf, nil, "snappy", 401},
		"no token":                {wire.PathMetrics, "", protobuf, nil, "snappy", 403},
		"another type":            {wire.PathMetrics, r.ingest, "text/plain", snappy.Encode(nil, []byte("x")), "snappy", 415},
		"logs that are no JSON":   {wire.PathLogs, r.ingest, "application/json", []byte("{"), "", 400},
		"logs that are too large": {wire.PathLogs, r.ingest, "application/json", bytes.Repeat([]byte(" "), wire.MaxLogBatchBytes+1), "", 413},
		"inventory of nobody":     {wire.PathInventory, "", "application/json", []byte("{}"), "", 403},
	} {
		code, body := r.send("POST", tc.path, tc.token, tc.typ, tc.body, "Content-Encoding", tc.encoding)
		if code != tc.want {
			t.Errorf("%s: got %d %s, want %d", name, code, body, tc.want)
		}
	}
	if body := r.get("/api/v1/query?query=" + url.QueryEscape(`count({cluster="prod-1"})`)); !strings.Contains(body, `"result":[]`) {
		t.Errorf("something was written: %s", body)
	}
}

func TestDataSurvivesARestartAndIsHeldByOne(t *testing.T) {
	dir := t.TempDir()
	r := startServer(t, dir, nil)
	if code, body := r.send("POST", wire.PathMetrics, r.ingest, protobuf, remoteWrite(t, "kept", 7), "Content-Encoding", "snappy"); code/100 != 2 {
		t.Fatalf("write: %d %s", code, body)
	}
	s := newSettings()
	s.data, s.listen = dir, "127.0.0.1:0"
	if _, err := newApp(s, appOptions{Logger: silent()}); err == nil || !strings.Contains(err.Error(), "in use by another crowsnest") {
		t.Errorf("a second server: %v", err)
	}
	r.stop()
	again := startServer(t, dir, nil)
	if body := again.get("/api/v1/query?query=kept"); !strings.Contains(body, `"7"`) {
		t.Errorf("after the restart: %s", body)
	}
}

func TestTokensByTheCommandLine(t *testing.T) {
	r := startServer(t, t.TempDir(), nil)
	at := []string{"--server", r.URL()}
	run := func(args ...string) (string, error) {
		out, _, err := crowsnest(t.Context(), noEnv, "", append(args, at...)...)
		return out, err
	}
	ingest, err := run("token", "create", "--kind", "ingest", "--cluster", "edge-1", "collectors of edge-1")
	if err != nil {
		t.Fatal(err)
	}
	code, body := r.send("POST", wire.PathMetrics, strings.TrimSpace(ingest), protobuf, remoteWrite(t, "edge", 1), "Content-Encoding", "snappy")
	if code/100 != 2 {
		t.Errorf("write by the new token: %d %s", code, body)
	}
	if out, err := run("query", "edge"); err != nil || !strings.Contains(out, "edge-1") {
		t.Errorf("query: %q, %v", out, err)
	}
	// An API token closes the server, the one that made it included.
	secret, err := run("token", "create", "--kind", "api", "mine")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := run("token", "list"); err == nil || !strings.Contains(err.Error(), "--token-file") {
		t.Errorf("without a token: %v", err)
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	at = append(at, "--token-file", file)
	out, err := run("token", "list")
	if err != nil || !strings.Contains(out, "edge-1") || strings.Contains(out, strings.TrimSpace(secret)) {
		t.Errorf("list: %q, %v", out, err)
	}
	id := ""
	for _, line := range strings.Split(out, "\n") {
		if f := strings.Fields(line); len(f) > 2 && f[1] == "ingest" {
			id = f[0]
		}
	}
	if _, err := run("token", "delete", id); err != nil {
		t.Fatal(err)
	}
	if code, _ := r.send("POST", wire.PathMetrics, strings.TrimSpace(ingest), protobuf, remoteWrite(t, "edge", 1), "Content-Encoding", "snappy"); code != 401 {
		t.Errorf("a revoked token: %d", code)
	}
}

func TestPoliciesByTheCommandLine(t *testing.T) {
	r := startServer(t, t.TempDir(), nil)
	run := func(in string, args ...string) (string, error) {
		out, _, err := crowsnest(t.Context(), noEnv, in, append(args, "--server", r.URL())...)
		return out, err
	}
	example, _, err := crowsnest(t.Context(), noEnv, "", "policy", "example", "k8s_node_cpu_usage")
	if err != nil {
		t.Fatal(err)
	}
	managedBy := func(want string) {
		t.Helper()
		if body := r.get(api.Prefix + "/policies/node-cpu-usage"); !strings.Contains(body, `"managedBy":"`+want+`"`) {
			t.Errorf("want it managed by %s: %s", want, body)
		}
	}
	worse := strings.ReplaceAll(example, "thresholds: {", "thresholds: {critical: 99, ")
	for _, tc := range []struct {
		document, want string
		flags          []string
	}{
		{example, "created (dry run)", []string{"--dry-run"}},
		{example, "created", nil},
		{example, "unchanged", nil},
		{worse, "changed (dry run)", []string{"--dry-run"}},
		{example, "unchanged", nil},
		{worse, "changed", nil},
		{worse, "unchanged (dry run)", []string{"--dry-run"}},
	} {
		if out, err := run(tc.document, append([]string{"policy", "apply", "-f", "-"}, tc.flags...)...); err != nil || out != "policy/node-cpu-usage "+tc.want+"\n" {
			t.Errorf("apply: %q, %v, want %q", out, err, tc.want)
		}
	}
	managedBy("file")
	if _, err := run("", "policy", "why", "node-cpu-usage", "--cluster", "prod-1", "--object", "n1"); err == nil || !strings.Contains(err.Error(), "(404)") {
		t.Errorf("why of a cluster that there is not: %v", err)
	}
	if err := r.meta.UpsertCluster(t.Context(), meta.ClusterRow{ID: "prod-1", CreatedAt: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if out, err := run("", "policy", "why", "node-cpu-usage", "--cluster", "prod-1", "--object", "n1", "--at", "1h"); err != nil || !strings.HasPrefix(out, "It did not exist then; as it is in revision 2: At ") || !strings.Contains(out, "it was not judged") {
		t.Errorf("why: %q, %v", out, err)
	}
	if _, err := run("", "policy", "why", "node-cpu-usage", "--cluster", "prod-1", "--object", "shop/n1"); err == nil || !strings.Contains(err.Error(), "must be node") {
		t.Errorf("why of no node: %v", err)
	}
	if out, err := run("", "policy", "backtest", "node-cpu-usage", "--from", "2h"); err != nil || !strings.HasPrefix(out, "node-cpu-usage: 0 incidents, 0 alerts, 0 messages") {
		t.Errorf("backtest: %q, %v", out, err)
	}
	if out, err := run(worse, "policy", "backtest", "node-cpu-usage", "--against", "-", "--output", "json"); err != nil || strings.Count(out, `"incidentCount": 0`) != 2 || !strings.Contains(out, `"draft": true`) {
		t.Errorf("backtest against a draft: %q, %v", out, err)
	}
	if out, err := run("", "policy", "list"); err != nil || !strings.Contains(out, "node-cpu-usage") {
		t.Errorf("list: %q, %v", out, err)
	}
	if _, err := run("", "policy", "delete", "node-cpu-usage"); err != nil {
		t.Errorf("delete: %v", err)
	}
	// What the console made is taken over on purpose only.
	if code, body := r.send("POST", api.Prefix+"/policies", "", "application/yaml", []byte(example)); code != 201 {
		t.Fatalf("by the console: %d %s", code, body)
	}
	if _, err := run(worse, "policy", "apply", "-f", "-"); err == nil || !strings.Contains(err.Error(), "managed by console") {
		t.Errorf("without --force: %v", err)
	}
	if out, err := run(example, "policy", "apply", "-f", "-"); err != nil || out != "policy/node-cpu-usage unchanged\n" {
		t.Errorf("what is there already: %q, %v", out, err)
	}
	managedBy("console")
	if _, err := run(example, "policy", "apply", "-f", "-", "--force"); err != nil {
		t.Errorf("with --force: %v", err)
	}
	managedBy("file")
}

// A file that is applied again changes nothing, of whatever kind its documents
// are; a dry run tells what is wrong with all of them, and keeps nothing.
func TestAFileIsAppliedAgain(t *testing.T) {
	r := startServer(t, t.TempDir(), nil)
	run := func(in string, flags ...string) (string, error) {
		out, _, err := crowsnest(t.Context(), noEnv, in, append([]string{"policy", "apply", "-f", "-", "--server", r.URL()}, flags...)...)
		return out, err
	}
	head := "---\napiVersion: crowsnest.dev/v1\nkind: "
	until := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	file := head + "Route\nmetadata: {name: all}\nspec: {default: true, targets: [team]}\n" +
		head + "Silence\nmetadata: {name: hush}\nspec: {matchers: ['namespace=\"shop\"'], until: " + until + ", comment: quiet}\n" +
		head + "Maintenance\nmetadata: {name: sundays}\nspec: {matchers: ['cluster=\"prod-1\"'], rrule: 'FREQ=WEEKLY;BYDAY=SU', duration: 2h, comment: updates}\n" +
		head + "Inhibition\nmetadata: {name: down}\nspec: {source: ['policy=\"a\"'], target: ['policy=\"b\"'], equal: [node]}\n" +
		head + "Policy\nmetadata: {name: lines}\nspec: {level: log, conditions: [{query: panic, period: 1m, op: '>', thresholds: {critical: 1}}], notify: {targets: [team]}}\n" +
		head + "Target\nmetadata: {name: team}\nspec: {type: webhook, url: 'https://hooks.example.com/T0/secret'}\n"
	all := func(done string) string {
		out := ""
		for _, what := range []string{"target/team", "policy/lines", "route/all", "inhibition/down", "maintenance/sundays", "silence/hush"} {
			out += what + " " + done + "\n"
		}
		return out
	}
	for _, tc := range []struct {
		want  string
		flags []string
	}{{"created (dry run)", []string{"--dry-run"}}, {"created", nil}, {"unchanged", nil}, {"unchanged (dry run)", []string{"--dry-run"}}} {
		if out, err := run(file, tc.flags...); err != nil || out != all(tc.want) {
			t.Errorf("got %s %v, want %s", out, err, tc.want)
		}
	}
	if out, err := run(strings.ReplaceAll(strings.ReplaceAll(file, "/secret", "/another"), "updates", "patches")); err != nil ||
		out != strings.NewReplacer("team unchanged", "team changed", "sundays unchanged", "sundays changed").Replace(all("unchanged")) {
		t.Errorf("got %s %v", out, err)
	}
	_, err := run(strings.NewReplacer("period: 1m", "period: 1x", "duration: 2h", "duration: 2s").Replace(file), "--dry-run")
	if err == nil || !strings.Contains(err.Error(), "policy/lines") || !strings.Contains(err.Error(), "maintenance/sundays") {
		t.Errorf("got %v", err)
	}
}

// A policy on log lines, made by the command line, fires by lines that a
// collector sends, and the present shows in its dry run and status.
func TestAPolicyOnLogLines(t *testing.T) {
	r := startServer(t, t.TempDir(), nil)
	now := time.Now()
	ref := object.WorkloadRef{Type: "deployment", Name: "cart"}
	inv := wire.InventoryBatch{Session: "s", Sequence: 1, Time: now, Snapshot: true, Last: true,
		Nodes:     []*object.Node{{Meta: object.Meta{UID: "u1", Name: "n1", CreatedAt: now.Add(-time.Hour)}}},
		Workloads: []*object.Workload{{Meta: object.Meta{UID: "w1", Namespace: "shop", Name: "cart", CreatedAt: now.Add(-time.Hour)}, Ref: ref, Desired: 1}},
	}
	if code, body := r.send("POST", wire.PathInventory, r.ingest, "application/json", compressed(t, inv), "Content-Encoding", "zstd"); code != 204 {
		t.Fatalf("inventory: %d %s", code, body)
	}
	doc := "apiVersion: crowsnest.dev/v1\nkind: Policy\nmetadata: {name: panics}\nspec:\n  level: log\n" +
		"  conditions: [{query: 'panic %s', count: {}, period: 1m, op: '>', thresholds: {critical: 1}, groupBy: workload}]\n"
	if _, _, err := crowsnest(t.Context(), noEnv, fmt.Sprintf(doc, "| stats count()"), "policy", "apply", "-f", "-", "--server", r.URL()); err == nil || !strings.Contains(err.Error(), "must be a LogsQL filter") {
		t.Errorf("with a pipe: %v", err)
	}
	if out, _, err := crowsnest(t.Context(), noEnv, fmt.Sprintf(doc, ""), "policy", "apply", "-f", "-", "--server", r.URL()); err != nil {
		t.Fatalf("%s %v", out, err)
	}
	batch := wire.LogBatch{Sender: "node/n1", ID: "b1", Complete: []wire.LogMark{{Node: "n1", Through: now.Add(time.Second).UnixNano()}}, Groups: []wire.LogGroup{{
		Stream: wire.LogStream{Namespace: "shop", Pod: "cart-1", Container: "app", Stream: "stderr", WorkloadType: ref.Type, Workload: ref.Name, Node: "n1"},
		Lines:  []wire.LogLine{{Time: now.Add(-time.Second).UnixNano(), Message: "panic: a"}, {Time: now.Add(-2 * time.Second).UnixNano(), Message: "panic: b"}},
	}}}
	for i := range 100 { // lines are complete through the next point of the grid some time
		batch.ID = fmt.Sprint("b", i)
		batch.Complete[0].Through = now.Add(time.Duration(i) * time.Second).UnixNano()
		if code, body := r.send("POST", wire.PathLogs, r.ingest, "application/json", compressed(t, batch), "Content-Encoding", "zstd"); code != 204 {
			t.Fatalf("logs: %d %s", code, body)
		}
		batch.Groups = nil
		if strings.Contains(r.get(api.Prefix+"/alerts"), `"state":"firing"`) {
			break
		}
		time.Sleep(500 * time.Millisecond)
	}
	if body := r.get(api.Prefix + "/alerts"); !strings.Contains(body, "the number of lines matching panic in 1m was 2 in the last period; critical above 1") || !strings.Contains(body, `"workload":"cart"`) {
		t.Errorf("alerts: %s", body)
	}
}

func TestLogsByTheCommandLine(t *testing.T) {
	r := startServer(t, t.TempDir(), nil)
	line := func(id, text string) {
		batch := wire.LogBatch{Sender: "all", ID: id, Groups: []wire.LogGroup{{
			Stream: wire.LogStream{Namespace: "shop", Pod: "cart-1", Container: "app", Stream: "stdout"},
			Lines:  []wire.LogLine{{Time: time.Now().UnixNano(), Message: text}},
		}}}
		if code, body := r.send("POST", wire.PathLogs, r.ingest, "application/json", compressed(t, batch), "Content-Encoding", "zstd"); code != 204 {
			t.Fatalf("logs: %d %s", code, body)
		}
	}
	line("b1", "first")
	line("b2", "second")
	out, _, err := crowsnest(t.Context(), noEnv, "", "logs", "namespace:shop", "--server", r.URL())
	if err != nil || !strings.Contains(out, "shop/cart-1/app: first\n") || strings.Index(out, "first") > strings.Index(out, "second") {
		t.Errorf("got %q, %v, want both lines, the older first", out, err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	reader, writer := io.Pipe()
	followed := make(chan error, 1)
	go func() {
		root := newRoot(noEnv)
		root.SetArgs([]string{"logs", "--follow", "--server", r.URL()})
		root.SetOut(writer)
		err := root.ExecuteContext(ctx)
		_ = writer.CloseWithError(io.EOF)
		followed <- err
	}()
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		buf := make([]byte, 64<<10)
		for {
			n, err := reader.Read(buf)
			if n > 0 {
				lines <- string(buf[:n])
			}
			if err != nil {
				return
			}
		}
	}()
	// The tail begins some time after the command does.
	n := 2
	eventually(t, "a followed line", func() bool {
		n++
		line(fmt.Sprintf("b%d", n), fmt.Sprintf("line %d", n))
		select {
		case got := <-lines:
			return strings.Contains(got, "line ")
		case <-time.After(200 * time.Millisecond):
			return false
		}
	})
	cancel()
	go func() {
		for range lines { // what is still on its way
		}
	}()
	if err := <-followed; err != nil {
		t.Errorf("Ctrl-C: %v", err)
	}
}

func TestAServerThatEndsEndsItsTails(t *testing.T) {
	r := startServer(t, t.TempDir(), nil)
	req, err := http.NewRequest("GET", r.URL()+"/select/logsql/tail?query=*", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	start := time.Now()
	r.stop()
	if took := time.Since(start); took > drainTimeout {
		t.Errorf("it took %v", took)
	}
}

func TestRunShowsASimulatedCluster(t *testing.T) {
	dir := t.TempDir()
	sub, err := simulated(smallFleet, "simulated", 2*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	s := newSettings()
	s.data, s.listen = dir, "127.0.0.1:0"
	tg, err := newTogether(s, sub, 10*time.Second, silent())
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	tg.welcome(&said)
	for _, want := range []string{tg.app.URL(), "simulated", "policy apply"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("the welcome does not say %q:\n%s", want, said.String())
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := tg.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	defer func() { cancel(); within(t, "the end", 60*time.Second, done) }()
	within(t, "opening", 60*time.Second, tg.app.opened)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	get := func(path string) string {
		res, err := client.Get(tg.app.URL() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		raw, _ := io.ReadAll(res.Body)
		return string(raw)
	}
	eventually(t, "the cluster's objects", func() bool { return strings.Contains(get(api.Prefix+"/clusters"), `"ready":2`) })
	eventually(t, "an hour ago in the charts", func() bool {
		at := time.Now().Add(-time.Hour).Unix()
		return strings.Contains(get(fmt.Sprintf("/api/v1/query?query=k8s_node_cpu_usage&time=%d", at)), `"node"`)
	})
	eventually(t, "a live sample", func() bool {
		return strings.Contains(get("/api/v1/query?query="+url.QueryEscape("crowsnest_source_up")), `"1"`)
	})
	if body := get(api.Prefix + "/status"); !strings.Contains(body, `"simulated":true`) {
		t.Errorf("status: %s", body)
	}
}

var smallFleet = simulate.Options{Nodes: 2, PodsPerNode: 3}
