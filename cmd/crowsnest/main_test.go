package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/logs/logstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, logstest.Leaks()...) }

func noEnv(string) (string, bool) { return "", false }

// crowsnest runs the command line, as main does.
func crowsnest(ctx context.Context, lookup func(string) (string, bool), stdin string, args ...string) (stdout, stderr string, err error) {
	root := newRoot(lookup)
	var out, errs bytes.Buffer
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&errs)
	root.SetIn(strings.NewReader(stdin))
	err = root.ExecuteContext(ctx)
	return out.String(), errs.String(), err
}

func TestWrongSettingsAreRefusedWithWhatIsRight(t *testing.T) {
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	data := t.TempDir()
	for name, tc := range map[string]struct {
		args []string
		env  map[string]string
		want []string // in the error or on stderr
	}{
		"an unknown flag":                 {[]string{"server", "--lisen", "x"}, nil, []string{"--lisen", "did you mean --listen?"}},
		"an unknown command":              {[]string{"sever"}, nil, []string{`unknown command "sever"`, "server"}},
		"a number out of range":           {[]string{"simulate", "--nodes", "0"}, nil, []string{`"0"`, "--nodes", "a whole number between 1 and 10000"}},
		"half a node":                     {[]string{"simulate", "--nodes", "1.5"}, nil, []string{"whole number"}},
		"an interval that there is not":   {[]string{"run", "--interval", "20s"}, nil, []string{"10s, 15s, 30s or 1m"}},
		"a retention that is too short":   {[]string{"server", "--metrics-retention", "5m"}, nil, []string{"between 1d and"}},
		"an unknown key in the file":      {[]string{"server", "--config", file("listn: 127.0.0.1:0\n")}, nil, []string{"listn", `did you mean "listen"?`}},
		"a wrong value in the file":       {[]string{"server", "--config", file("logs_retention: soon\n")}, nil, []string{"logs-retention", "soon", "between 1d and"}},
		"a wrong value of the environ":    {[]string{"server"}, map[string]string{"CROWSNEST_LOG_LEVEL": "loud"}, []string{"CROWSNEST_LOG_LEVEL", "loud", "one of debug, info, warn, error"}},
		"an address without a port":       {[]string{"server", "--data", data, "--listen", "localhost"}, nil, []string{"listen", "HOST:PORT", "localhost"}},
		"a certificate without a key":     {[]string{"server", "--data", data, "--tls-cert-file", "x"}, nil, []string{"tls-key-file go together"}},
		"a certificate that is not there": {[]string{"server", "--data", data, "--listen", "127.0.0.1:0", "--tls-cert-file", "/nope", "--tls-key-file", "/nope"}, nil, []string{"certificate", "/nope"}},
		"a token file that is not there":  {[]string{"server", "--data", data, "--api-token-file", "/nope"}, nil, []string{"/nope"}},
		"no cluster of the ingest token":  {[]string{"server", "--ingest-token-file", "/x"}, nil, []string{"CLUSTER=FILE"}},
		"a wrong cluster of it":           {[]string{"server", "--ingest-token-file", "Prod 1=/x"}, nil, []string{"a-z, 0-9"}},
		"an address range that is none":   {[]string{"server", "--allow-webhook-cidr", "10.0.0.0/99"}, nil, []string{"address range", "10.0.0.0/99"}},
		"open to all, without a token":    {[]string{"server", "--data", data, "--listen", "0.0.0.0:0"}, nil, []string{"--api-token-file", "loopback"}},
		"profiles for all":                {[]string{"server", "--data", data, "--listen", "127.0.0.1:0", "--admin-listen", "0.0.0.0:0"}, nil, []string{"profiles", "loopback"}},
		"a window above the retention":    {[]string{"server", "--data", data, "--metrics-retention", "1d", "--out-of-order-window", "2d"}, nil, []string{"out-of-order-window", "metrics-retention"}},
		"a kubeconfig that is not there":  {[]string{"run", "--data", data, "--kubeconfig", "/nope"}, nil, []string{"/nope"}},
		"a kubeconfig without a cluster":  {[]string{"run", "--data", data, "--kubeconfig", file("kind: Config\n")}, nil, []string{"names no cluster"}},
		"a backfill to somewhere else":    {[]string{"simulate", "--server", "http://x", "--token-file", "y", "--backfill", "1d"}, nil, []string{"--backfill"}},
		"a server without a token":        {[]string{"simulate", "--server", "http://x"}, nil, []string{"--token-file"}},
		"too many arguments":              {[]string{"query"}, nil, []string{"accepts 1 arg", "crowsnest query PROMQL"}},
		"a server that is no URL":         {[]string{"query", "up", "--server", "localhost"}, nil, []string{"--server must be a URL"}},
		"nothing to apply":                {[]string{"policy", "apply"}, nil, []string{"-f FILE"}},
		"no such metric":                  {[]string{"policy", "example", "k8s_pod_restarts_total"}, nil, []string{"did you mean k8s_pod_restart_total?"}},
	} {
		t.Run(name, func(t *testing.T) {
			lookup := func(k string) (string, bool) { v, ok := tc.env[k]; return v, ok }
			_, stderr, err := crowsnest(t.Context(), lookup, "", tc.args...)
			if err == nil {
				t.Fatal("it was accepted")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error()+stderr, want) {
					t.Errorf("got %q %q, want it to say %q", err, stderr, want)
				}
			}
		})
	}
	if _, err := os.Stat(filepath.Join(data, "meta.db")); err == nil {
		if _, err := openDataDir(data); err != nil {
			t.Errorf("a refused start holds the folder: %v", err)
		}
	}
}

func TestPrecedenceOfSettings(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	// A file may hold the settings of all commands.
	text := "metrics-retention: 30d\nlogs_retention: 14d\nnodes: 7\nallow-webhook-cidr: [10.0.0.0/8, 192.168.1.1]\nserver: http://x:1\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"CROWSNEST_CONFIG": path, "CROWSNEST_LOGS_RETENTION": "7d", "CROWSNEST_METRICS_RETENTION": "20d"}
	c := &common{logLevel: newChoice("info", "info"), logFormat: newChoice("text", "text"), lookup: func(k string) (string, bool) { v, ok := env[k]; return v, ok }}
	root := newRoot(c.lookup)
	cmd, _, err := root.Find([]string{"server"})
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.ParseFlags([]string{"--metrics-retention", "10d"}); err != nil {
		t.Fatal(err)
	}
	if err := c.load(cmd); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"metrics-retention": "10d", "logs-retention": "1w", "allow-webhook-cidr": "10.0.0.0/8,192.168.1.1/32", "listen": defaultListen,
	} {
		if got := cmd.Flag(name).Value.String(); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func TestHelpHasExamples(t *testing.T) {
	root := newRoot(noEnv)
	for _, cmd := range root.Commands() {
		if cmd.Name() == "help" || cmd.Name() == "completion" {
			continue
		}
		if cmd.Example == "" {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			if sub.Example == "" {
				t.Errorf("%s has no example", sub.CommandPath())
			}
		}
	}
}

func TestDataFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	d, err := openDataDir(path)
	if err != nil || !d.fresh {
		t.Fatalf("got %v, %+v", err, d)
	}
	_, err = openDataDir(path)
	if !errors.Is(err, fault.ErrConflict) || !strings.Contains(err.Error(), "in use") || !strings.Contains(err.Error(), "--data") {
		t.Errorf("a second server: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if d, err = openDataDir(path); err != nil || d.fresh {
		t.Fatalf("the second start: %v, %+v", err, d)
	}
	_ = d.Close()

	for text, want := range map[string]string{"99\n": "newer version", "abc": "not a format number", "0": "not a format number"} {
		if err := os.WriteFile(filepath.Join(path, "FORMAT"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openDataDir(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("format %q: %v", text, err)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openDataDir(filepath.Join(file, "data")); !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("a folder that cannot be made: %v", err)
	}
	if syscall.Getuid() != 0 { // root may write anywhere
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		if _, err := openDataDir(dir); !errors.Is(err, fault.ErrUnavailable) || !strings.Contains(err.Error(), "cannot be written") {
			t.Errorf("an unwritable folder: %v", err)
		}
	}
}

func TestValues(t *testing.T) {
	z := &size{}
	for in, want := range map[string]int64{"0": 0, "5": 5, "1KiB": 1 << 10, "50GiB": 50 << 30, "2TiB": 2 << 40} {
		if err := z.Set(in); err != nil || z.bytes != want {
			t.Errorf("%s: got %d, %v", in, z.bytes, err)
		}
	}
	for _, in := range []string{"", "-1", "x", "9999999TiB", "1.5GiB"} {
		if err := z.Set(in); err == nil {
			t.Errorf("%q was taken", in)
		}
	}
	n := newNumber(1, 0, 2)
	for _, in := range []string{"NaN", "3", "-0.1", "x"} {
		if err := n.Set(in); err == nil {
			t.Errorf("%q was taken", in)
		}
	}
}

// silent is a logger for tests.
func silent() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func within(t *testing.T, what string, d time.Duration, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(d):
		t.Fatalf("%s took more than %v", what, d)
	}
}

func TestExamplePoliciesAreValid(t *testing.T) {
	tried := 0
	for _, m := range catalogue.All() {
		if m.Alert == nil {
			continue
		}
		tried++
		out, _, err := crowsnest(t.Context(), noEnv, "", "policy", "example", m.Name)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := documents([]byte(out))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := policy.Parse(doc[0], policy.Known{}); err != nil {
			t.Errorf("%s: %v\n%s", m.Name, err, out)
		}
	}
	if tried < 10 {
		t.Errorf("only %d metrics have a default alert", tried)
	}
}

// A library greets before any program can say anything; see internal/earlylog.
func TestProgramsBeginInSilence(t *testing.T) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.list=^$")
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil || stderr.Len() > 0 {
		t.Errorf("got %q, %v", &stderr, err)
	}
}
