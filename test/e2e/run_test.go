//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// The one command: crowsnest run, given a kubeconfig, shows its cluster; Ctrl-C
// ends it cleanly, a second start goes on with the data, and nobody else can
// open the folder meanwhile.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(bed.cluster.Root, "bin/crowsnest")
	server := &testbed.Server{URL: "http://127.0.0.1:17430", Cluster: "testcluster"} // the context's name
	args := []string{"run", "--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:17430", "--kubeconfig", bed.cluster.Kubeconfig}
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

	second, err := testbed.Start(bed.artifacts, "run-second", program, "run", "--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:17431", "--simulate")
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-second.Done():
		if said := second.Tail(20); !strings.Contains(said, "data") {
			t.Errorf("a second server on the same folder does not say what is wrong:\n%s", said)
		}
	case <-time.After(20 * time.Second):
		second.Kill()
		t.Error("a second server runs on the same folder")
	}

	if err := first.Stop(20 * time.Second); err != nil {
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
