//go:build peers

package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/api/access"
	apilogs "github.com/crowsnest-dev/crowsnest/api/logs"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/logs"
	"github.com/crowsnest-dev/crowsnest/storage/logs/logstest"
	remotelogs "github.com/crowsnest-dev/crowsnest/storage/logs/remote"
	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// Flags that docs/remote-engine.md asks for.
var victoriaLogsFlags = []string{"-retentionPeriod=90d", "-futureRetention=2d", "-internaldelete.enable", "-memory.allowedBytes=256MiB", "-loggerLevel=ERROR"}

func victoriaLogs(t *testing.T) (program string) {
	t.Helper()
	if err := logs.Prepare(256 << 20); err != nil {
		t.Fatal(err)
	}
	return build(t, "victorialogs", "github.com/VictoriaMetrics/VictoriaLogs", "app/victoria-logs")
}

func startVictoriaLogs(t *testing.T, program string, more ...string) (url string) {
	t.Helper()
	at := address(t)
	args := append([]string{"-storageDataPath=" + t.TempDir(), "-httpListenAddr=" + at}, victoriaLogsFlags...)
	start(t, "http://"+at+"/health", program, append(args, more...)...)
	return "http://" + at
}

func logClient(t *testing.T, url string) *remotelogs.Client {
	t.Helper()
	c, err := remotelogs.New(remotelogs.Options{WriteURL: url, QueryURL: url})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func logSuite(t *testing.T, start func(t *testing.T) (url string)) {
	logstest.Run(t, func(t *testing.T) func(...func(*logs.Options)) *logs.Store {
		url := start(t)
		return logstest.Opener(t, logs.Options{}, func() *remotelogs.Client { return logClient(t, url) })
	}, 5*time.Second)
}

func TestVictoriaLogs(t *testing.T) {
	program := victoriaLogs(t)
	logSuite(t, func(t *testing.T) string { return startVictoriaLogs(t, program) })
}

// A cluster: one process that is vlinsert and vlselect before two that store.
func TestVictoriaLogsCluster(t *testing.T) {
	program := victoriaLogs(t)
	logSuite(t, func(t *testing.T) string {
		var nodes []string
		for range 2 {
			nodes = append(nodes, strings.TrimPrefix(startVictoriaLogs(t, program), "http://"))
		}
		return startVictoriaLogs(t, program, "-storageNode="+strings.Join(nodes, ","))
	})
}

// An engine is killed again and again while senders write. What it may lose are the
// seconds before a kill that it had not written to its disk; the lines before these
// are all there, and none twice.
func TestVictoriaLogsIsKilled(t *testing.T) {
	program, data, at := victoriaLogs(t), t.TempDir(), address(t)
	var mu sync.Mutex
	var engine *exec.Cmd
	run := func() {
		mu.Lock()
		defer mu.Unlock()
		engine = exec.Command(program, append([]string{"-storageDataPath=" + data, "-httpListenAddr=" + at}, victoriaLogsFlags...)...)
		if err := engine.Start(); err != nil {
			t.Fatal(err)
		}
	}
	kill := func() {
		mu.Lock()
		defer mu.Unlock()
		_ = engine.Process.Kill()
		_ = engine.Wait()
	}
	run()
	defer kill()
	s := logstest.Opener(t, logs.Options{}, func() *remotelogs.Client { return logClient(t, "http://"+at) })()

	const senders, linesPerBatch = 4, 50
	ctx, stop := context.WithTimeout(t.Context(), 60*time.Second)
	defer stop()
	type ack struct {
		line string
		at   time.Time
	}
	acked := make([][]ack, senders)
	var writing sync.WaitGroup
	for sender := range senders {
		writing.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				g := wire.LogGroup{Stream: wire.LogStream{Namespace: "kill", Pod: fmt.Sprint("p-", sender), Stream: "stdout"}}
				now := time.Now()
				for i := range linesPerBatch {
					g.Lines = append(g.Lines, wire.LogLine{Time: now.Add(time.Duration(i) * time.Microsecond).UnixNano(), Message: fmt.Sprintf("%d-%d-%d", sender, n, i)})
				}
				b := &wire.LogBatch{Sender: fmt.Sprint("node/", sender), ID: fmt.Sprint(n), Groups: []wire.LogGroup{g}}
				for ctx.Err() == nil {
					if err := s.Append(ctx, "c", b); err == nil {
						for _, l := range g.Lines {
							acked[sender] = append(acked[sender], ack{l.Message, time.Now()})
						}
						break
					}
					time.Sleep(100 * time.Millisecond) // as a collector backs off
				}
			}
		})
	}
	var kills []time.Time
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(11 * time.Second):
			kills = append(kills, time.Now())
			kill()
			run()
		}
	}
	writing.Wait()
	for deadline := time.Now().Add(30 * time.Second); s.ReadOnly() != nil && time.Now().Before(deadline); {
		time.Sleep(100 * time.Millisecond)
	}
	seen := map[string]int{}
	if err := s.Query(t.Context(), logs.Query{Text: "*", Clusters: []string{"c"}}, func(r logs.Row) error { seen[r.Get("_msg")]++; return nil }); err != nil {
		t.Fatal(err)
	}
	total, unprotected, lost, doubled := 0, 0, 0, 0
	for _, all := range acked {
		for _, a := range all {
			total++
			if seen[a.line] > 0 {
				continue
			}
			within := false
			for _, k := range kills {
				within = within || (a.at.Before(k) && k.Sub(a.at) < 10*time.Second)
			}
			if within {
				unprotected++
			} else {
				lost++
			}
		}
	}
	for _, n := range seen {
		if n > 1 {
			doubled++
		}
	}
	t.Logf("%d kills, %d lines acknowledged: %d lost of the last seconds before a kill, %d others lost, %d doubled", len(kills), total, unprotected, lost, doubled)
	if lost > 0 || doubled > 0 || total < 1000 || len(kills) < 3 {
		t.Errorf("lost or doubled lines, or too little was done")
	}
}

// The days of the embedded store are VictoriaLogs' own: copied, they are found.
func TestVictoriaLogsTakesThePast(t *testing.T) {
	program := victoriaLogs(t)
	old := t.TempDir()
	embedded, err := logs.Open(logs.Options{Dir: old})
	if err != nil {
		t.Fatal(err)
	}
	b := logstest.Batch("1", time.Now().Add(-48*time.Hour), "moved", "moved too")
	if err := embedded.Append(t.Context(), "c", b); err != nil {
		t.Fatal(err)
	}
	if err := embedded.Close(); err != nil {
		t.Fatal(err)
	}
	data, at := t.TempDir(), address(t)
	if err := os.CopyFS(filepath.Join(data, "partitions"), os.DirFS(filepath.Join(old, "partitions"))); err != nil {
		t.Fatal(err)
	}
	start(t, "http://"+at+"/health", program, append([]string{"-storageDataPath=" + data, "-httpListenAddr=" + at}, victoriaLogsFlags...)...)
	s := logstest.Opener(t, logs.Options{}, func() *remotelogs.Client { return logClient(t, "http://"+at) })()
	if err := s.Append(t.Context(), "c", b); err != nil { // sent again: it is there
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), "c", logstest.Batch("2", time.Now(), "new")); err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := s.Query(t.Context(), logs.Query{Text: "*", Limit: 10}, func(r logs.Row) error { got = append(got, r.Get("_msg")); return nil }); err != nil {
		t.Fatal(err)
	}
	if want := "[new moved too moved]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// Steps of hits and of stats have the rows, and stand at the times, that VictoriaLogs gives them.
func TestStepsAreThoseOfVictoriaLogs(t *testing.T) {
	peer := startVictoriaLogs(t, victoriaLogs(t))
	s := logstest.Open(t)
	h, err := apilogs.New(apilogs.Options{Store: s})
	if err != nil {
		t.Fatal(err)
	}
	own := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(access.With(r.Context(), access.Principal{Kind: access.LocalAdmin})))
	}))
	t.Cleanup(own.Close)
	const minutes = 12
	from := time.Now().UTC().Add(-2 * time.Hour).Truncate(time.Hour) // a day's midnight may lie in it
	var lines strings.Builder
	for i := range minutes {
		at := from.Add(time.Duration(i)*time.Minute + 10*time.Second)
		fmt.Fprintf(&lines, "{\"_time\":%q,\"_msg\":\"line\"}\n", at.Format(time.RFC3339Nano))
		if err := s.Append(t.Context(), "c", logstest.Batch(fmt.Sprint(i), at, "line")); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(ctx context.Context, base, path string, args url.Values) (answer any, err error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+path, strings.NewReader(args.Encode()))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, err
		}
		defer res.Body.Close()
		raw, err := io.ReadAll(res.Body)
		if err == nil && res.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", res.Status, raw)
		}
		return answer, errors.Join(err, json.Unmarshal(raw, &answer))
	}
	res, err := http.Post(peer+"/insert/jsonline", "application/stream+json", strings.NewReader(lines.String()))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if err := testbed.Await(t.Context(), 30*time.Second, 100*time.Millisecond, func(ctx context.Context) error {
		got, err := ask(ctx, peer, "/select/logsql/hits", url.Values{"query": {"*"}, "step": {"1d"}})
		if text := fmt.Sprint(got); err == nil && !strings.Contains(text, fmt.Sprintf("total:%d", minutes)) {
			err = errors.New(text)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	at := func(d time.Duration) string { return from.Add(d).Format(time.RFC3339Nano) }
	for name, args := range map[string]url.Values{
		"whole steps":             {"start": {at(0)}, "end": {at(10 * time.Minute)}, "step": {"1m"}},
		"parts of steps":          {"start": {at(30 * time.Second)}, "end": {at(7*time.Minute + 5*time.Second)}, "step": {"1m"}},
		"a nanosecond of a step":  {"start": {at(2*time.Minute - 1)}, "end": {at(7*time.Minute + 1)}, "step": {"1m"}},
		"within one step":         {"start": {at(70 * time.Second)}, "end": {at(75 * time.Second)}, "step": {"1m"}},
		"long steps":              {"start": {at(4 * time.Minute)}, "end": {at(6 * time.Minute)}, "step": {"7m"}},
		"a zone":                  {"start": {at(4 * time.Minute)}, "end": {at(6 * time.Minute)}, "step": {"5m"}, "offset": {"2m"}},
		"a zone behind":           {"start": {at(4 * time.Minute)}, "end": {at(6 * time.Minute)}, "step": {"5m"}, "offset": {"-2m"}},
		"a start":                 {"start": {at(4*time.Minute + 30*time.Second)}, "step": {"2m"}},
		"an end":                  {"end": {at(4*time.Minute + 30*time.Second)}, "step": {"4m"}},
		"neither":                 {"step": {"5m"}},
		"empty steps around":      {"start": {at(-5 * time.Minute)}, "end": {at(30 * time.Minute)}, "step": {"1m"}},
		"a time of its own":       {"query": {"_time:3m"}, "start": {at(30 * time.Second)}, "end": {at(7*time.Minute + 30*time.Second)}, "step": {"1m"}},
		"moved":                   {"query": {"options(time_offset=1h) *"}, "start": {at(time.Hour + 30*time.Second)}, "end": {at(time.Hour + 7*time.Minute + 5*time.Second)}, "step": {"1m"}},
		"a time that it is as of": {"query": {"_time:3m"}, "time": {at(8 * time.Minute)}, "step": {"2m"}},
	} {
		if args.Get("query") == "" {
			args.Set("query", "*")
		}
		for _, path := range []string{"/select/logsql/hits", "/select/logsql/stats_query_range"} {
			if path != "/select/logsql/hits" {
				args.Set("query", args.Get("query")+" | stats count() n")
			}
			want, err := ask(t.Context(), peer, path, args)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			got, err := ask(t.Context(), own.URL, path, args)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s of %s: %v\n got %v\nwant %v", path, name, err, got, want)
			}
		}
	}
}

// VictoriaLogs' own client asks a server of ours: queries, its ways of output, and a live tail.
func TestVictoriaLogsOwnClient(t *testing.T) {
	root, err := testbed.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir, at := t.TempDir(), address(t)
	program, token := filepath.Join(dir, "vlogscli"), strings.Repeat("token-of-a-sender", 2)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/VictoriaMetrics/VictoriaLogs/app/vlogscli")
	cmd.Dir = filepath.Join(root, "tools/peers/victorialogs")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build vlogscli: %v\n%s", err, text)
	}
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, "http://"+at+"/readyz", crowsnest(t), "server", "--data", filepath.Join(dir, "data"), "--listen", at, "--ingest-token-file", "prod="+filepath.Join(dir, "token"))
	push := func(line string) {
		t.Helper()
		body := fmt.Sprintf(`{"streams":[{"stream":{"namespace":"shop","pod":"cart-1","container":"app"},"values":[["%d",%q]]}]}`, time.Now().UnixNano(), line)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+at+"/loki/api/v1/push", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusNoContent {
			t.Fatalf("push: %s", res.Status)
		}
	}
	push("hello one")
	push("hello two")

	// It syncs what it writes to, which pipes refuse.
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	client := exec.CommandContext(t.Context(), program, "-datasource.url=http://"+at+"/select/logsql/query")
	client.Stdout, client.Dir = out, dir // where it keeps its history
	in, err := client.StdinPipe()
	if err == nil {
		err = client.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	// shows asks, and waits until so many texts more are there.
	shows := func(ask, text string, times int) {
		t.Helper()
		if _, err := io.WriteString(in, ask); err != nil {
			t.Fatal(err)
		}
		err := testbed.Await(t.Context(), 30*time.Second, 50*time.Millisecond, func(context.Context) error {
			raw, err := os.ReadFile(out.Name())
			if n := strings.Count(string(raw), text); err == nil && n != times {
				err = fmt.Errorf("%q is there %d times, want %d:\n%s", text, n, times, raw)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	shows("hello;\n", `"_msg": "hello one"`, 1)
	shows("* | stats by (pod) count() lines;\n", `"lines": "2"`, 1)
	shows("\\logfmt\nhello two;\n", `_msg="hello two"`, 1)
	shows("{namespace=shop} | sort by (_time) | limit 1;\n", `_msg="hello one"`, 1)
	shows("\\tail hello;\n", "executing [hello]", 2)
	push("hello three")
	shows("", `_msg="hello three"`, 1)
	_ = in.Close()
	_ = client.Process.Kill()
	_ = client.Wait()
}
