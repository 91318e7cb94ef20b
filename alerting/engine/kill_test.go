package engine

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
)

// killEnv tells a child of TestKilled what to do: folder and the time that its
// clock begins at.
const killEnv = "CROWSNEST_TEST_KILL"

// TestKillChild is the process that TestKilled kills: engine, outbox and store
// on a folder, with a pod that burns, interval after interval, until the end.
func TestKillChild(t *testing.T) {
	spec := os.Getenv(killEnv)
	if spec == "" {
		t.Skip("only as a child of TestKilled")
	}
	dir, at, _ := strings.Cut(spec, "|")
	now, err := time.Parse(time.RFC3339, at)
	if err != nil {
		t.Fatal(err)
	}
	w := worldAt(t, dir, now)
	w.inventory.put(cartPod(time.Unix(0, 0)), cart(2, "r1"))
	fmt.Fprintln(os.Stderr, "ready")
	for {
		w.step("node/n-1", cpu(90))
	}
}

// A server that is killed at any moment loses nothing and fires nothing twice:
// the recovery is delivered in the end, once, or again with the same id.
func TestKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	dir := t.TempDir()
	base := time.Now().UTC().Add(-20 * time.Hour).Truncate(time.Hour)
	r := newReceiver(t)
	setup := worldAt(t, dir, base)
	setup.target("hook", r.server.URL, 0)
	setup.policy(cpuPolicy)
	setup.close()
	if err := setup.store.Close(); err != nil {
		t.Fatal(err)
	}
	kill := func(i int, wait func()) {
		t.Helper()
		cmd := exec.Command(os.Args[0], "-test.run=^TestKillChild$", "-test.count=1")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%s", killEnv, dir, base.Add(time.Duration(i)*30*time.Minute).Format(time.RFC3339)))
		out, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said := bufio.NewScanner(out) // a library may speak before it
		for said.Scan() && said.Text() != "ready" {
		}
		if said.Text() != "ready" {
			t.Errorf("the child said %q, and nothing more: %v", said.Text(), said.Err())
		}
		wait()
		if err := cmd.Process.Kill(); err != nil { // SIGKILL
			t.Error(err)
		}
		_ = cmd.Wait() // it was killed
	}
	rnd := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	for i := range 6 { // at moments of its first steps: around the firing and its delivery
		kill(1+i, func() { time.Sleep(time.Duration(rnd.IntN(60)) * time.Millisecond) })
	}
	var firing []received
	collect := func() bool {
		for {
			select {
			case x := <-r.got:
				firing = append(firing, x)
			default:
				return len(firing) > 0
			}
		}
	}
	kill(8, func() { // between firing and recovery, surely
		deadline := time.Now().Add(60 * time.Second)
		for !collect() && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
	})
	if !collect() {
		t.Fatal("nothing fired")
	}

	w := worldAt(t, dir, base.Add(10*time.Hour))
	w.inventory.put(cartPod(time.Unix(0, 0)), cart(2, "r1"))
	for range 5 {
		w.step("node/n-1", cpu(10))
	}
	var resolved received
	w.until("the recovery is delivered", func() bool {
		select {
		case x := <-r.got:
			if x.message.Type == incident.Resolved {
				resolved = x
				return true
			}
			firing = append(firing, x) // of before: its answer was not stored when the kill came
		default:
		}
		return false
	})
	var ids []string
	for _, x := range firing {
		if x.message.Type != incident.Firing {
			t.Errorf("got %s", x.body)
		}
		if !slices.Contains(ids, x.id) {
			ids = append(ids, x.id)
		}
	}
	if len(ids) != 1 {
		t.Errorf("it fired as %v", ids)
	}
	if resolved.message.Incident.ID != firing[0].message.Incident.ID || resolved.message.Sequence != 2 {
		t.Errorf("the recovery is of another: %s", resolved.body)
	}
	r.nothing(t)
	t.Logf("received %d times as %d firing, then resolved", len(firing), len(ids))
}
