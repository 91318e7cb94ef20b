//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

const (
	// envCountFor makes the counting run longer.
	envCountFor = "CROWSNEST_E2E_LINES_FOR"
	// countEvery is between two kills.
	countEvery  = 6 * time.Second
	countPods   = 3
	countPerSec = 1000 // lines of each, of some 200 bytes: the kubelet rotates every few seconds
)

// counting is a server and a node's collector of its own, which nobody misses when
// they are killed.
type counting struct {
	t                 *testing.T
	dir               string
	client            *testbed.Server
	server, collector *testbed.Process
	starts            int
}

func (c *counting) startServer(ctx context.Context) {
	c.t.Helper()
	c.starts++
	p, err := testbed.Start(bed.artifacts, fmt.Sprint("server-counted-", c.starts), filepath.Join(bed.cluster.Root, "bin/crowsnest"), "server",
		"--data", filepath.Join(c.dir, "data"), "--listen", strings.TrimPrefix(c.client.URL, "http://"),
		"--api-token-file", filepath.Join(c.dir, "api-token"), "--ingest-token-file", c.client.Cluster+"="+filepath.Join(c.dir, "ingest-token"))
	if err == nil {
		c.server = p
		err = p.WaitReady(ctx, c.client, time.Minute)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *counting) startCollector() {
	c.t.Helper()
	c.starts++
	p, err := testbed.Start(bed.artifacts, fmt.Sprint("collector-counted-", c.starts), filepath.Join(bed.cluster.Root, "bin/crowsnest-collector"),
		"--role", "node", "--node", testbed.Node, "--kubeconfig", bed.cluster.Kubeconfig, "--kubelet-insecure-skip-verify", "--no-peers",
		"--server", c.client.URL, "--token-file", filepath.Join(c.dir, "ingest-token"), "--data", filepath.Join(c.dir, "collector"),
		"--log-namespaces", "e2e-counted", "--interval", interval.String(), "--listen", "")
	if err != nil {
		c.t.Fatal(err)
	}
	c.collector = p
}

func (c *counting) stop() {
	for _, p := range []*testbed.Process{c.collector, c.server} {
		if p != nil {
			_ = p.Stop(20 * time.Second)
		}
	}
}

// Writers in containers number their lines, the kubelet rotates their files, and
// collector and server are killed and begun anew: each line is there once, and whole.
func TestLinesAreCountedOverRotationAndKills(t *testing.T) {
	ctx := t.Context()
	length := 24 * time.Second
	if text := os.Getenv(envCountFor); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil || length < 2*countEvery {
			t.Fatalf("%s is %q, must be a duration of at least %s", envCountFor, text, 2*countEvery)
		}
	}
	lines := int(length.Seconds()) * countPerSec
	address, err := testbed.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	c := &counting{t: t, dir: t.TempDir(), client: &testbed.Server{URL: "http://" + address, Token: token(), Cluster: "counted"}}
	for name, text := range map[string]string{"api-token": c.client.Token, "ingest-token": token()} {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(c.stop)
	c.startServer(ctx)
	c.startCollector()

	clean := func(ctx context.Context) {
		if err := bed.cluster.DeleteNamespaces(ctx, "e2e-counted"); err != nil {
			t.Error(err)
		}
	}
	clean(ctx)
	t.Cleanup(func() { clean(context.WithoutCancel(ctx)) })
	manifests := "apiVersion: v1\nkind: Namespace\nmetadata: {name: e2e-counted}\n"
	for i := range countPods {
		manifests += fmt.Sprintf(testbed.CountedPod, fmt.Sprint("writer-", i+1), "e2e-counted", lines, countPerSec)
	}
	if err := bed.cluster.Apply(ctx, manifests); err != nil {
		t.Fatal(err)
	}
	pause := func(d time.Duration) {
		select {
		case <-ctx.Done():
		case <-time.After(d):
		}
	}
	kills := 0
	for end := time.Now().Add(length - countEvery); time.Now().Before(end); kills++ {
		pause(countEvery)
		switch kills % 4 {
		case 0:
			c.collector.Kill()
			pause(time.Second)
			c.startCollector()
		case 1:
			c.server.Kill()
			c.startServer(ctx)
		case 2: // both, and the collector finds no server for a while
			c.collector.Kill()
			c.server.Kill()
			c.startCollector()
			pause(2 * time.Second)
			c.startServer(ctx)
		case 3: // orderly
			if err := c.collector.Stop(20 * time.Second); err != nil {
				t.Error(err)
			}
			c.startCollector()
		}
	}
	await(t, 2*length+2*time.Minute, "the writers", func(ctx context.Context) error {
		for i := range countPods {
			phase, err := bed.cluster.Kubectl(ctx, "", "-n", "e2e-counted", "get", "pod", fmt.Sprint("writer-", i+1), "-o", "jsonpath={.status.phase}")
			if err != nil {
				return err
			}
			if phase != "Succeeded" {
				return fmt.Errorf("writer %d is %s", i+1, phase)
			}
		}
		return nil
	})
	rotated, err := filepath.Glob("/var/log/pods/e2e-counted_writer-*/app/0.log.*")
	if err != nil || len(rotated) < countPods {
		t.Errorf("the kubelet rotated into %q only (%v): the files are to change while they are read", rotated, err)
	}
	for i := range countPods {
		pod := fmt.Sprint("writer-", i+1)
		await(t, 2*time.Minute, pod, func(ctx context.Context) error { return c.client.CountLines(ctx, "e2e-counted", pod, lines) })
	}
	t.Logf("%d lines of each of %d writers, %d kills, %d rotated files at the end: 0 lost, 0 split, 0 doubled", lines, countPods, kills, len(rotated))
}
