//go:build e2e

package e2e

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// An incident from the overview to its root cause, a policy from its backtest
// over the link in its message to its end, and what operators keep on a server
// (targets, routes, mutes, boards, further clusters), by clicks only. The
// simulated cluster always has an incident; the screenshots are in
// artifacts/stories.
func TestConsoleStories(t *testing.T) {
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("%v: test/e2e/prepare.sh installs it", err)
	}
	address, err := testbed.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	server := &testbed.Server{URL: "http://" + address, Cluster: "simulated"}
	p, err := testbed.Start(bed.artifacts, "stories", filepath.Join(bed.cluster.Root, "bin/crowsnest"), "run", "--simulate", "--history", "26h", "--data", filepath.Join(t.TempDir(), "data"), "--listen", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop(20 * time.Second) })
	if err := p.WaitReady(t.Context(), server, time.Minute); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"e2e/story.mjs"}, {"e2e/forms.mjs", "--program", filepath.Join(bed.cluster.Root, "bin/crowsnest")}} {
		args = append(args, "--base", server.URL, "--out", filepath.Join(bed.artifacts, "stories"), "--chromium", chromium, "--timeout", "60")
		cmd := exec.CommandContext(t.Context(), "node", args...)
		cmd.Dir = filepath.Join(bed.cluster.Root, "dashboards/console")
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Errorf("%s: %v\n%s", args[0], err, p.Tail(20))
		}
	}
}
