//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// openPages opens every page of the console in a headless browser; it fails when
// a page logs an error, a request fails, or the data is missing. The screenshots
// are in artifacts/pages.
func openPages(t *testing.T, server *testbed.Server) {
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("%v: test/e2e/prepare.sh installs it", err)
	}
	lines := workloadPod(t, "lines")
	cmd := exec.CommandContext(t.Context(), "node", "e2e/pages.mjs", "--base", server.URL, "--cluster", server.Cluster, "--namespace", "e2e",
		"--workload", "deployment/lines", "--pod", lines.Metadata.Name, "--node", testbed.Node, "--out", filepath.Join(bed.artifacts, "pages"), "--chromium", chromium,
		"--views", "desktop-light,phone-dark") // each page at both widths and in both colours; all four pairs take 5 minutes
	cmd.Dir = filepath.Join(bed.cluster.Root, "dashboards/console")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("pages: %v", err)
	}
	shots, err := filepath.Glob(filepath.Join(bed.artifacts, "pages", "*.png"))
	if err != nil || len(shots) < 10 {
		t.Errorf("%d screenshots (%v), want one of each page", len(shots), err)
	}
}

// The one command: crowsnest run, given a kubeconfig, shows its cluster; Ctrl-C
// ends it cleanly, a second start goes on with the data, and nobody else can
// open the folder meanwhile.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(bed.cluster.Root, "bin/crowsnest")
	address, err := testbed.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	server := &testbed.Server{URL: "http://" + address, Cluster: "testcluster"} // the context's name
	args := []string{"run", "--data", filepath.Join(dir, "data"), "--listen", address, "--kubeconfig", bed.cluster.Kubeconfig}
	selector := fmt.Sprintf(`%s{cluster=%q,namespace="e2e",workload="steady"}`, catalogue.PodMem, server.Cluster)

	start := func() *testbed.Process {
		p, err := testbed.Start(bed.artifacts, "run", program, args...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Stop(20 * time.Second) })
		if err := p.WaitReady(t.Context(), server, time.Minute); err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := start()
	var before time.Time
	await(t, 2*time.Minute, "first sample", func(ctx context.Context) error {
		series, err := server.Raw(ctx, selector, time.Now().Add(-time.Hour), time.Now())
		if err != nil {
			return err
		}
		if len(series) == 0 {
			return fmt.Errorf("no series %s\n%s", selector, first.Tail(15))
		}
		before = series[0].Points[0].At
		return nil
	})
	if said := first.Tail(100); !strings.Contains(said, server.URL) {
		t.Errorf("it does not say where the console is:\n%s", said)
	}

	second, err := testbed.Start(bed.artifacts, "run-second", program, "run", "--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0", "--simulate")
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-second.Done():
		if said := second.Tail(20); !strings.Contains(said, "data") {
			t.Errorf("a second server on the same folder does not say what is wrong:\n%s", said)
		}
	case <-time.After(60 * time.Second):
		second.Kill()
		t.Error("a second server runs on the same folder")
	}

	t.Run("pages", func(t *testing.T) { openPages(t, server) })

	if err := first.Stop(60 * time.Second); err != nil {
		t.Errorf("Ctrl-C does not end it cleanly: %v\n%s", err, first.Tail(20))
	}
	start()
	await(t, time.Minute, "history after a new start", func(ctx context.Context) error {
		series, err := server.Raw(ctx, selector, before.Add(-time.Second), time.Now())
		if err != nil {
			return err
		}
		if len(series) == 0 || !series[0].Points[0].At.Equal(before) {
			return errors.New("the first sample is gone")
		}
		return nil
	})
}
