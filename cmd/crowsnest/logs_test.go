package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

func TestSplitLogArgs(t *testing.T) {
	for _, tc := range []struct {
		given []string
		ref   logRef
		text  string
		wrong bool
	}{
		{nil, logRef{}, "*", false},
		{[]string{"error"}, logRef{}, "error", false},
		{[]string{"deploy/cart"}, logRef{"deployment", "cart"}, "*", false},
		{[]string{"sts/db*", "level:error"}, logRef{"statefulset", "db*"}, "level:error", false},
		{[]string{"po/cart-1"}, logRef{"pod", "cart-1"}, "*", false},
		{[]string{"svc/cart", "error"}, logRef{"service", "cart"}, "error", false},
		{[]string{"a/b"}, logRef{}, "a/b", false}, // no type of ours: LogsQL
		{[]string{"error", "x"}, logRef{}, "", true},
	} {
		ref, text, err := splitLogArgs(tc.given)
		if ref != tc.ref || text != tc.text || (err != nil) != tc.wrong {
			t.Errorf("%q: got %v %q %v", tc.given, ref, text, err)
		}
	}
}

func TestLogsOfAWorkload(t *testing.T) {
	r := startServer(t, t.TempDir(), nil)
	now := time.Now()
	id := 0
	put := func(pod, container, level, text string, ago time.Duration) {
		t.Helper()
		id++
		batch := wire.LogBatch{Sender: "all", ID: fmt.Sprint(id), Groups: []wire.LogGroup{{
			Stream: wire.LogStream{Namespace: "shop", Pod: pod, Container: container, Stream: "stdout", WorkloadType: "deployment", Workload: strings.Split(pod, "-")[0], Node: "n-1"},
			Lines:  []wire.LogLine{{Time: now.Add(-ago).UnixNano(), Message: text, Fields: wire.FieldsOf(map[string]string{"level": level})}},
		}}}
		if code, body := r.send("POST", wire.PathLogs, r.ingest, "application/json", compressed(t, batch), "Content-Encoding", "zstd"); code != 204 {
			t.Fatalf("logs: %d %s", code, body)
		}
	}
	put("cart-1", "app", "info", "begin of the first instance", 50*time.Minute)
	put("cart-1", "app", "fatal", "out of memory", 40*time.Minute)
	put("cart-1", "app", "info", "begin of the second", 30*time.Minute)
	put("cart-2", "app", "error", "Timed Out at the bank", 20*time.Minute)
	put("cart-2", "proxy", "warn", "slow", 19*time.Minute)
	put("cart-2", "app", "info", "tried again", 18*time.Minute)
	put("web-1", "app", "error", "timed out too", 10*time.Minute)
	inv := wire.InventoryBatch{Session: "s", Sequence: 1, Time: now, Snapshot: true, Last: true,
		Pods: []*object.Pod{
			{Meta: object.Meta{UID: "p1", Namespace: "shop", Name: "cart-1", Labels: map[string]string{"app": "cart"}, CreatedAt: now.Add(-time.Hour)}, Phase: object.PhaseRunning, Workload: object.WorkloadRef{Type: "deployment", Name: "cart"},
				Containers: []object.Container{{Name: "app", State: "running", RestartCount: 1, StartedAt: now.Add(-35 * time.Minute)}}},
			{Meta: object.Meta{UID: "p2", Namespace: "shop", Name: "cart-2", CreatedAt: now.Add(-time.Hour)}, Phase: object.PhaseRunning, Workload: object.WorkloadRef{Type: "deployment", Name: "cart"},
				Containers: []object.Container{{Name: "app", State: "running", StartedAt: now.Add(-time.Hour)}}},
		},
		Services: []*object.Service{{Meta: object.Meta{UID: "v1", Namespace: "shop", Name: "cart"}, Selector: map[string]string{"app": "cart"}}}}
	if code, body := r.send("POST", wire.PathInventory, r.ingest, "application/json", compressed(t, inv), "Content-Encoding", "zstd"); code != 204 {
		t.Fatalf("inventory: %d %s", code, body)
	}
	for _, tc := range []struct {
		args string
		want []string
	}{
		{"-n shop deploy/cart", []string{"begin of the first instance", "out of memory", "begin of the second", "Timed Out at the bank", "slow", "tried again"}},
		{"-n shop deploy/cart --since 25m", []string{"Timed Out at the bank", "slow", "tried again"}},
		{"-n shop deploy/cart --tail 1", []string{"tried again"}},
		{"-n shop deploy/cart -c proxy", []string{"slow"}},
		{"-n sho* --level error", []string{"out of memory", "Timed Out at the bank", "timed out too"}},
		{"-n other", nil},
		{"pod/cart-2 --grep timed?.out -i", []string{"Timed Out at the bank"}},
		{"--grep timed.out", []string{"timed out too"}},
		{"deploy/cart bank -C 1", []string{"Timed Out at the bank", "tried again"}},
		{"pod/cart-1 --grep memory -C 1", []string{"begin of the first instance", "out of memory", "begin of the second"}},
		{"--level error -C 1 deploy/*", []string{"begin of the first instance", "out of memory", "begin of the second", "--", "Timed Out at the bank", "tried again", "--", "timed out too"}},
		{"-p deploy/cart", []string{"begin of the first instance", "out of memory"}},
		{"-p pod/cart-1 --tail 1 --cluster prod-1", []string{"out of memory"}},
		{"--cluster edge", nil},
		{"-n shop svc/cart", []string{"begin of the first instance", "out of memory", "begin of the second"}},
		{"-n shop svc/cart memory", []string{"out of memory"}},
		{"-n shop -p svc/cart --tail 1", []string{"out of memory"}},
		{"-l app=cart --tail 1", []string{"begin of the second"}},
		{"-l app!=cart -n sho* --level error", []string{"Timed Out at the bank"}},
		{"cart-2 --level error", []string{"Timed Out at the bank"}},
		{"-n shop cart-2 --tail 1", []string{"tried again"}},
		{"-n other cart-2", nil},
		{"bank", []string{"Timed Out at the bank"}},
		{"cart-2 --since-time " + now.Add(-19*time.Minute-30*time.Second).UTC().Format(time.RFC3339Nano), []string{"slow", "tried again"}},
		{"cart-1 --timestamps --grep memory", []string{now.Add(-40*time.Minute).UTC().Format(time.RFC3339Nano) + " out of memory"}},
	} {
		args := append([]string{"logs", "--server", r.URL(), "-o", "raw"}, strings.Fields(tc.args)...)
		out, _, err := crowsnest(t.Context(), noEnv, "", args...)
		got := strings.FieldsFunc(out, func(c rune) bool { return c == '\n' })
		if err != nil || !slices.Equal(got, tc.want) {
			t.Errorf("%s:\n got %q %v\nwant %q", tc.args, got, err, tc.want)
		}
	}
	for args, want := range map[string]string{
		"--grep (":             "regular expression",
		"-p deploy/cart -f":    "--previous",
		"-p":                   "needs a pod",
		"-p pod/cart-2":        "no container",
		"-p pod/gone":          "there is no pod gone",
		"-f -C 2":              "--around",
		"x y":                  "TYPE/NAME",
		"--level loud":         "one of",
		"--cluster not/an/id":  "a-z",
		"level:( --color auto": "expecting a filter",
		"svc/cart":             "needs the namespace",
		"-n shop svc/car*":     "one service",
		"-n shop svc/web":      "not found",
		"-l app=none":          "no pod with the labels",
		"-l (":                 "label selector",
		"--since-time noon":    "a time such as",
		"--since 1h --since-time 2026-11-23T10:00:00Z": "in place of",
	} {
		if _, errs, err := crowsnest(t.Context(), noEnv, "", append([]string{"logs", "--server", r.URL()}, strings.Fields(args)...)...); err == nil || !strings.Contains(err.Error()+errs, want) {
			t.Errorf("%s: got %v, want %q", args, err, want)
		}
	}
	out, _, err := crowsnest(t.Context(), noEnv, "", "logs", "--server", r.URL(), "deploy/cart", "bank", "--color", "always")
	if err != nil || !strings.Contains(out, "\x1b[31mERROR\x1b[0m \x1b[") || !strings.Contains(out, "shop/cart-2/app\x1b[0m: Timed Out") {
		t.Errorf("colours: %q %v", out, err)
	}
	own := &printer{ownTime: true}
	for lag, want := range map[string]string{"1500": "2026-11-23 09:59:58.623", "-1": "2026-11-23 10:00:00.124", "": "2026-11-23 10:00:00.123"} {
		if got := own.format(map[string]string{"_time": "2026-11-23T10:00:00.123999999Z", "_msg": "m", wire.LagField: lag}); !strings.HasPrefix(got, want) {
			t.Errorf("own time by a lag of %q: %q, want %q", lag, got, want)
		}
	}

	// A followed workload: the page first, then what comes, each line once.
	ctx, cancel := context.WithCancel(t.Context())
	reader, writer := io.Pipe()
	followed := make(chan error, 1)
	go func() {
		root := newRoot(noEnv)
		root.SetArgs([]string{"logs", "deploy/cart", "-f", "--since", "25m", "-o", "raw", "--server", r.URL()})
		root.SetOut(writer)
		err := root.ExecuteContext(ctx)
		_ = writer.CloseWithError(io.EOF)
		followed <- err
	}()
	put("cart-3", "app", "info", "just before", 0)
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		raw := make([]byte, 64<<10)
		for {
			n, err := reader.Read(raw)
			for l := range strings.Lines(string(raw[:n])) {
				lines <- strings.TrimSuffix(l, "\n")
			}
			if err != nil {
				return
			}
		}
	}()
	seen := map[string]int{}
	read := func(until string) {
		t.Helper()
		for seen[until] == 0 {
			select {
			case l := <-lines:
				seen[l]++
			case <-time.After(60 * time.Second):
				t.Fatalf("never came: %s, but %v", until, seen)
			}
		}
	}
	read("just before")
	put("cart-3", "app", "info", "new", 0)
	put("web-1", "app", "info", "elsewhere", 0)
	put("cart-3", "app", "info", "newest", 0)
	read("newest")
	for _, l := range []string{"Timed Out at the bank", "slow", "tried again", "just before", "new", "newest"} {
		if seen[l] != 1 {
			t.Errorf("%q came %d times: %v", l, seen[l], seen)
		}
	}
	if seen["elsewhere"]+seen["out of memory"] > 0 {
		t.Errorf("got %v", seen)
	}
	cancel()
	go func() {
		for range lines {
		}
	}()
	if err := <-followed; err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Ctrl-C: %v", err)
	}
}

func TestBoundsOfLogQueriesAreSettings(t *testing.T) {
	r := startServer(t, t.TempDir(), func(s *settings) { s.logsQueryRows = newWhole(2, 1, 10) })
	if _, _, err := crowsnest(t.Context(), noEnv, "", "logs", "--server", r.URL(), "--limit", "2"); err != nil {
		t.Error(err)
	}
	if _, errs, err := crowsnest(t.Context(), noEnv, "", "logs", "--server", r.URL(), "--limit", "3"); err == nil || !strings.Contains(err.Error()+errs, "at most 2") {
		t.Errorf("more rows than are allowed: %v", err)
	}
}
