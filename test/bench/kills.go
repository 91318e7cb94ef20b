package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// kills counts the acknowledged samples that are missing after a server was
// killed again and again at random moments.
func kills(series, rounds int) func(context.Context, *bench) ([]Result, error) {
	return func(ctx context.Context, b *bench) ([]Result, error) {
		m, failed, err := b.fault(ctx, "TestKilledServerKeepsWhatItAcknowledged",
			`(\d+) kills, \d+ torn logs, (\d+) samples acknowledged, (\d+) of them staleness markers, (\d+) missing.*, (\d+ series left the head in \d+ times), (\d+) kills in that, slowest start ([0-9a-z.]+), a start took up to (\d+) MiB after (\d+) MiB`,
			fmt.Sprint("CROWSNEST_FAULTS_SERIES=", series), fmt.Sprint("CROWSNEST_FAULTS_ROUNDS=", rounds))
		if err != nil {
			return nil, err
		}
		missing, err := strconv.ParseFloat(m[4], 64)
		if err != nil {
			return nil, err
		}
		if missing == 0 && failed != nil {
			return nil, failed
		}
		slowest, err := time.ParseDuration(m[7])
		if err != nil {
			return nil, err
		}
		start, err := strconv.ParseFloat(m[8], 64)
		if err != nil {
			return nil, err
		}
		before, err := strconv.ParseFloat(m[9], 64)
		if err != nil {
			return nil, err
		}
		var soon, small string // bars of a full head
		if series >= 1_000_000 {
			soon, small = "<= 30", "ratio <= 1.2"
		}
		name := fmt.Sprintf("kills_%d", series)
		note := fmt.Sprintf("%s kills of a server with %d series at random moments under load, late samples and backlogs among %s that were acknowledged, %s of them staleness markers: six of ten series come and go, %s before it was due, with %s of the kills in that. Readers count all the while. %s.",
			m[1], series, m[2], m[3], m[5], m[6], machine())
		return []Result{
			{Name: name + "_missing", Unit: "samples", Ours: missing, Bar: "<= 0", Command: "make kill", Note: note},
			{Name: name + "_start", Unit: "s", Ours: slowest.Seconds(), Bar: soon, Command: "make kill", Note: "The slowest start after one of these kills, from the process to taking writes; the head is as full as the time between kills made it. " + note},
			{Name: name + "_memory", Unit: "MiB", Ours: start, Peer: &before, PeerVersion: "before", Bar: small, Command: "make kill",
				Note: "Most memory during the start after one of these kills, next to the most that the process before took after its own start; of all starts the one with the largest ratio. " + note},
		}, nil
	}
}

// outboxKills counts the notifications that are lost or out of order after a server
// was killed again and again while it delivered.
func outboxKills(ctx context.Context, b *bench) ([]Result, error) {
	m, failed, err := b.fault(ctx, "TestNothingThatIsToBeToldIsLost",
		`(\d+) kills in \S+: (\d+) firings and (\d+) resolves taken; (\d+) requests, of which (\d+) answered well, (\d+) of these again.*; (\d+) lost, (\d+) out of order`,
		fmt.Sprint("CROWSNEST_FAULTS_KILLS=", b.kills))
	if err != nil {
		return nil, err
	}
	lost, err := strconv.ParseFloat(m[7], 64)
	if err != nil {
		return nil, err
	}
	disorder, err := strconv.ParseFloat(m[8], 64)
	if err != nil {
		return nil, err
	}
	if lost+disorder == 0 && failed != nil {
		return nil, failed
	}
	note := fmt.Sprintf("%s kills of a server while it delivers %s firings and %s resolves to a receiver that fails at random, answers slowly, hangs and closes midway: %s requests, %s of them answered well, %s of these again with an id that was known; a dead target beside it. %s.",
		m[1], m[2], m[3], m[4], m[5], m[6], machine())
	return []Result{
		{Name: "outbox_kills_lost", Unit: "notifications", Ours: lost, Bar: "<= 0", Command: "make kill-outbox", Note: note},
		{Name: "outbox_kills_disorder", Unit: "incidents", Ours: disorder, Bar: "<= 0", Command: "make kill-outbox", Note: "Incidents whose notifications came out of order. " + note},
	}, nil
}

// fault runs one of test/faults at its full size, and gives what its last word says
// and how it failed: what it counted until then is a figure, too.
func (b *bench) fault(ctx context.Context, test, word string, env ...string) (m []string, failed, err error) {
	log, err := os.Create(filepath.Join(b.dir, test+".log"))
	if err != nil {
		return nil, nil, err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-v", "-timeout=6h", "-run="+test, "./test/faults")
	cmd.Dir, cmd.Stdout, cmd.Stderr = b.root, log, log
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
	run := cmd.Run()
	said, err := os.ReadFile(log.Name())
	if err != nil {
		return nil, nil, err
	}
	tail := said[max(0, len(said)-4096):]
	if run != nil {
		failed = fmt.Errorf("%s: %w\n%s", test, run, tail)
	}
	if m = regexp.MustCompile(word).FindStringSubmatch(string(said)); m == nil {
		return nil, nil, errors.Join(failed, fmt.Errorf("%s did not come to its end:\n%s", test, tail))
	}
	return m, failed, nil
}
