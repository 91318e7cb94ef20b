//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

const (
	envCountFor  = "CROWSNEST_E2E_LINES_FOR"  // how long lines are written at least; default 75s
	envCountAway = "CROWSNEST_E2E_LINES_AWAY" // how long the server is away each time; default 25s
	envCountPods = "CROWSNEST_E2E_LINES_PODS" // how many pods write little beside the others; default 30

	countIn    = "e2e-counted"
	countEvery = 4 * time.Second // between two faults
	fullFor    = 6 * time.Second
	// The collector keeps in its folder what rotation takes while the server is away. The
	// server's stores take nothing with less than 512 MiB free.
	collectorDisk, serverDisk = 512 << 20, 1 << 30

	longLine = 1 << 20
	frames   = 64 << 10
)

// counting is a server and a node's collector of its own, which nobody misses when
// they are killed, each on a small disk.
type counting struct {
	t                 *testing.T
	dir               string
	client            *testbed.Server
	server, collector *testbed.Process
	disks             struct{ server, collector testbed.Disk }
	pid               atomic.Int64 // of the collector; 0 while there is none
	starts            int
	away              time.Duration
	done              map[string]int // what befell them, and how often
}

func newCounting(t *testing.T) *counting {
	t.Helper()
	address, err := testbed.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	c := &counting{t: t, dir: t.TempDir(), client: &testbed.Server{URL: "http://" + address, Token: token(), Cluster: "counted"}, done: map[string]int{}}
	for name, text := range map[string]string{"api-token": c.client.Token, "ingest-token": token()} {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.disks.server, c.disks.collector = c.disk("data", serverDisk), c.disk("collector", collectorDisk)
	t.Cleanup(func() {
		for _, p := range []*testbed.Process{c.collector, c.server} {
			if p != nil {
				_ = p.Stop(20 * time.Second)
			}
		}
	})
	return c
}

func (c *counting) disk(name string, size int64) testbed.Disk {
	c.t.Helper()
	dir := filepath.Join(c.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		c.t.Fatal(err)
	}
	d, err := testbed.MountDisk(dir, size)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		if err := d.Unmount(); err != nil {
			c.t.Error(err)
		}
	})
	return d
}

func (c *counting) startServer(ctx context.Context) {
	c.t.Helper()
	c.starts++
	p, err := testbed.Start(bed.artifacts, fmt.Sprint("server-counted-", c.starts), filepath.Join(bed.cluster.Root, "bin/crowsnest"), "server",
		"--data", filepath.Join(c.disks.server.Dir, "server"), "--listen", strings.TrimPrefix(c.client.URL, "http://"),
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
		"--server", c.client.URL, "--token-file", filepath.Join(c.dir, "ingest-token"), "--data", filepath.Join(c.disks.collector.Dir, "collector"),
		"--log-namespaces", countIn, "--interval", interval.String(), "--listen", "")
	if err != nil {
		c.t.Fatal(err)
	}
	c.collector = p
	c.pid.Store(int64(p.PID()))
}

func (c *counting) killCollector() {
	c.pid.Store(0)
	c.collector.Kill()
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// faults are what befalls the collector and the server, in turns.
func (c *counting) faults() []func(context.Context) {
	return []func(context.Context){
		func(ctx context.Context) {
			c.done["collector killed"]++
			c.killCollector()
			pause(ctx, time.Second)
			c.startCollector()
		},
		func(ctx context.Context) {
			c.done["server killed"]++
			c.server.Kill()
			c.startServer(ctx)
		},
		func(ctx context.Context) { // and it is killed meanwhile
			c.done["collector's disk full"]++
			c.full(ctx, c.disks.collector, 0, func() {
				c.killCollector()
				pause(ctx, time.Second)
				c.startCollector()
			})
		},
		func(ctx context.Context) { // both, and the collector finds no server for long
			c.done["both killed, server away"]++
			c.killCollector()
			c.server.Kill()
			c.startCollector()
			pause(ctx, c.away)
			c.startServer(ctx)
			back := time.Now()
			await(c.t, 2*time.Minute, "what was written while the server was away", func(ctx context.Context) error { return c.stored(ctx, back) })
		},
		func(ctx context.Context) {
			c.done["collector ended"]++
			c.pid.Store(0)
			if err := c.collector.Stop(20 * time.Second); err != nil {
				c.t.Error(err)
			}
			c.startCollector()
		},
		func(ctx context.Context) {
			c.done["server's disk full"]++
			c.full(ctx, c.disks.server, 1<<20, func() {})
			select {
			case <-c.server.Done(): // as its library does where a merge meets the end of the disk
				c.done["server ended by that"]++
				c.startServer(ctx)
			default:
			}
		},
	}
}

// full has a disk be full for a while, but for so many bytes.
func (c *counting) full(ctx context.Context, d testbed.Disk, left uint64, during func()) {
	c.t.Helper()
	if err := d.Fill(left); err != nil {
		c.t.Fatal(err)
	}
	pause(ctx, fullFor/2)
	during()
	pause(ctx, fullFor/2)
	if err := d.Free(); err != nil {
		c.t.Fatal(err)
	}
	select {
	case <-c.collector.Done():
		c.t.Fatalf("the collector ended while a disk was full:\n%s", c.collector.Tail(20))
	default:
	}
}

// writer is a pod that numbers its lines, and what the host does to their file each second
// beside the kubelet, which rotates what has more than 1.5 MiB.
type writer struct {
	testbed.Written
	script string
	host   func(c *counting, file string) error
	loses  bool // files are removed, so that some are gone before a collector that is killed has read them
	turns  int  // what the host did
}

var (
	lineForm    = regexp.MustCompile(`^line (\d+) of \d+$`)
	longForm    = regexp.MustCompile(`^line (\d+) of \d+ x*$`)
	garbageForm = regexp.MustCompile(`~(\d+)~$`)
	traceForm   = regexp.MustCompile(`^trace (\d+) of \d+: java\.lang\.IllegalStateException$`)
	frameForm   = regexp.MustCompile(`^\tat com\.shop\.Trace(\d+)\.frame(\d+)\(Frame\.java:\d+\)$`)
)

// writers are those of all kinds; they write for so many seconds at least.
func writers(seconds, small int) []*writer {
	counted := func(name string, perSecond int, w writer) *writer {
		lines := seconds * perSecond
		w.Written, w.script = testbed.CountedLines(countIn, name, lines), testbed.CountedPod(name, countIn, lines, perSecond)
		return &w
	}
	other := func(name string, lines int, script string, w writer) *writer {
		w.Namespace, w.Pod, w.Lines, w.script = countIn, name, lines, testbed.WritingPod(name, countIn, script)
		return &w
	}
	out := []*writer{
		counted("plain-1", 1000, writer{}),
		counted("plain-2", 1000, writer{}),
		counted("truncated-1", 300, writer{host: (*counting).copyTruncate}),
		counted("truncated-2", 300, writer{host: (*counting).copyTruncate}),
		counted("removed-1", 300, writer{host: (*counting).remove, loses: true}),
		counted("removed-2", 300, writer{host: (*counting).remove, loses: true}),
		counted("rotated", 300, writer{host: (*counting).rotate, loses: true}),
	}
	out = append(out, other("long", seconds, fmt.Sprintf(`
i=0; n=%d
while [ $i -lt $n ]; do
  i=$((i+1)); printf "line $i of $n "; head -c %d /dev/zero | tr '\0' x; echo
  sleep 1
done`, seconds, longLine), writer{Written: testbed.Written{Filler: longLine, Line: func(text string) (int, bool) { return testbed.Numbered(longForm, text) }}}))
	// Each number is there twice: at the end of what is no text, and in a line.
	const garbage = 20
	out = append(out, other("garbage", 2*garbage*seconds, fmt.Sprintf(`
i=0; n=%d
while [ $i -lt $n ]; do
  i=$((i+1)); head -c 200 /dev/urandom | tr '\n' n; echo "~$i~"; echo "line $i of $n"
  [ $((i %% %d)) = 0 ] && sleep 1
done
exit 0`, garbage*seconds, garbage), writer{Written: testbed.Written{Line: func(text string) (int, bool) {
		if n, ok := testbed.Numbered(garbageForm, text); ok {
			return 2 * n, true
		}
		n, ok := testbed.Numbered(lineForm, text)
		return 2*n + 1, ok
	}}}))
	const traceEvery = 15
	traces := seconds/traceEvery + 1
	out = append(out, other("traces", traces*(frames+1), fmt.Sprintf(`
exec awk -v n=%d -v frames=%d 'BEGIN {
  for (t = 1; t <= n; t++) {
    print "trace " t " of " n ": java.lang.IllegalStateException"
    for (f = 1; f <= frames; f++) print "\tat com.shop.Trace" t ".frame" f "(Frame.java:" f ")"
    fflush()
    system("sleep %d")
  }
}'`, traces, frames, traceEvery-5), writer{Written: testbed.Written{Line: func(text string) (int, bool) {
		if n, ok := testbed.Numbered(traceForm, text); ok {
			return n * (frames + 1), true
		}
		m := frameForm.FindStringSubmatch(text)
		if m == nil {
			return 0, false
		}
		trace, err := strconv.Atoi(m[1])
		frame, err2 := strconv.Atoi(m[2])
		return (trace-1)*(frames+1) + frame, errors.Join(err, err2) == nil
	}}}))
	out = append(out, other("silent", 0, fmt.Sprintf("exec sleep %d", seconds), writer{Written: testbed.Written{Line: func(string) (int, bool) { return 0, false }}}))
	for i := range small {
		out = append(out, counted(fmt.Sprint("small-", i+1), 10, writer{}))
	}
	return out
}

// file is the one that the runtime writes to; empty as long as there is none.
func (w *writer) file() string {
	found, _ := filepath.Glob(fmt.Sprintf("/var/log/pods/%s_%s_*/app/0.log", countIn, w.Pod)) // the pattern is good
	if len(found) == 0 {
		return ""
	}
	return found[0]
}

// rotatedName is like the kubelet's, but for the part of the second.
func rotatedName(file string) string { return file + "." + time.Now().Format("20060102-150405.000000") }

// copyTruncate does what logrotate's copytruncate does. What comes between the copy and the
// cut would be lost to any reader, so the runtime writes nothing meanwhile.
func (c *counting) copyTruncate(file string) error {
	raw, err := os.ReadFile(filepath.Join(bed.cluster.State, "pid/containerd"))
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		return err
	}
	letGo, err := testbed.Hold(c.t.Context(), pid)
	if err != nil {
		return err
	}
	defer letGo()
	in, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(rotatedName(file), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
	if err != nil {
		return errors.Join(err, in.Close())
	}
	if _, err = io.Copy(out, in); err == nil {
		err = in.Truncate(0)
	}
	return errors.Join(err, in.Close(), out.Close())
}

// seen says whether the collector has a file open, or none runs: what one that runs has not
// opened yet is lost with its name, and nobody can tell that it was there.
func (c *counting) seen(file string) bool {
	pid := int(c.pid.Load())
	return pid == 0 || testbed.HasOpen(pid, file)
}

// remove removes the file that is written to. The kubelet sees that, and has the runtime open
// another one.
func (c *counting) remove(file string) error {
	if !c.seen(file) {
		return nil
	}
	return os.Remove(file)
}

// rotate removes what was rotated before, and renames the file that is written to.
func (c *counting) rotate(file string) error {
	before, err := filepath.Glob(file + ".*")
	if err != nil {
		return err
	}
	for _, f := range before {
		if c.seen(f) {
			err = errors.Join(err, os.Remove(f))
		}
	}
	return errors.Join(err, os.Rename(file, rotatedName(file)))
}

// host does each second to the writers' files what is to be done to them, until ctx ends.
func (c *counting) host(ctx context.Context, all []*writer) error {
	for tick := time.NewTicker(time.Second); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return nil
		case <-tick.C:
		}
		for _, w := range all {
			file := w.file()
			if w.host == nil || file == "" {
				continue
			}
			// The kubelet may be about to do something with it, too.
			if err := w.host(c, file); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%s: %w", w.Pod, err)
			}
			w.turns++
		}
	}
}

// begun is nil once the server has something of each pod that writes: then a start of the
// collector can find out what is gone.
func (c *counting) begun(ctx context.Context, all []*writer) error {
	rows, err := c.client.Logs(ctx, fmt.Sprintf(`{cluster=%q,namespace=%q} | stats by (pod) count() n`, c.client.Cluster, countIn), 1000)
	if err != nil {
		return err
	}
	for _, w := range all {
		if w.Lines > 0 && !slices.ContainsFunc(rows, func(r testbed.LogRow) bool { return r["pod"] == w.Pod }) {
			return fmt.Errorf("of %d pods there are lines, and none of %s", len(rows), w.Pod)
		}
	}
	return nil
}

// written is nil once all pods have ended.
func (c *counting) written(ctx context.Context, all []*writer) error {
	var list struct{ Items []pod }
	if err := bed.cluster.Get(ctx, &list, "-n", countIn, "pods"); err != nil {
		return err
	}
	for _, p := range list.Items {
		if p.Status.Phase != "Succeeded" {
			return fmt.Errorf("writer %s is %s", p.Metadata.Name, p.Status.Phase)
		}
	}
	if len(list.Items) != len(all) {
		return fmt.Errorf("there are %d pods, want %d", len(list.Items), len(all))
	}
	return nil
}

// stored is nil once the server has all that was written up to a time.
func (c *counting) stored(ctx context.Context, at time.Time) error {
	var nodes struct {
		Items []struct {
			CompleteThrough time.Time `json:"complete_through"`
		}
	}
	if err := c.client.GetJSON(ctx, fmt.Sprintf("%s/clusters/%s/logs/watermarks", testbed.API, c.client.Cluster), &nodes); err != nil {
		return err
	}
	if len(nodes.Items) != 1 || !nodes.Items[0].CompleteThrough.After(at) {
		return fmt.Errorf("it says %v, the last line was written before %s", nodes.Items, at)
	}
	return nil
}

func lengthOf(t *testing.T, env string, least, def time.Duration) time.Duration {
	t.Helper()
	text := os.Getenv(env)
	if text == "" {
		return def
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < least {
		t.Fatalf("%s is %q, must be a duration of at least %s", env, text, least)
	}
	return d
}

// Writers of all kinds number their lines. The kubelet rotates their files, and the host cuts
// and removes them each second; collector and server are killed and begun anew, the server is
// away, and the disk of either is full. Each line is there once, and whole, but for those of
// files that were removed under a collector that was killed: these are told.
func TestLinesAreCountedOverRotationAndKills(t *testing.T) {
	ctx := t.Context()
	c := newCounting(t)
	c.away = lengthOf(t, envCountAway, time.Second, 25*time.Second)
	length := lengthOf(t, envCountFor, 30*time.Second, 50*time.Second+c.away)
	small := 30
	if text := os.Getenv(envCountPods); text != "" {
		var err error
		if small, err = strconv.Atoi(text); err != nil || small < 0 || small > 80 { // the node takes 110
			t.Fatalf("%s is %q, must be a number from 0 to 80", envCountPods, text)
		}
	}
	c.startServer(ctx)
	c.startCollector()
	clean := func(ctx context.Context) {
		if err := bed.cluster.DeleteNamespaces(ctx, countIn); err != nil {
			t.Error(err)
		}
	}
	clean(ctx)
	t.Cleanup(func() { clean(context.WithoutCancel(ctx)) })
	all := writers(int(length.Seconds()), small)
	manifests := fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata: {name: %s}\n", countIn)
	for _, w := range all {
		manifests += w.script
	}
	if err := bed.cluster.Apply(ctx, manifests); err != nil {
		t.Fatal(err)
	}
	await(t, 3*time.Minute, "lines of all writers", func(ctx context.Context) error { return c.begun(ctx, all) })

	hostCtx, end := context.WithCancel(ctx)
	defer end()
	hosted := make(chan error, 1)
	go func() { hosted <- c.host(hostCtx, all) }()
	faults := c.faults()
	for n, until := 0, time.Now().Add(length-countEvery); n < len(faults) || time.Now().Before(until); n++ {
		pause(ctx, countEvery)
		faults[n%len(faults)](ctx)
	}
	await(t, 2*length+3*time.Minute, "the writers", func(ctx context.Context) error { return c.written(ctx, all) })
	ended := time.Now()
	end()
	if err := <-hosted; err != nil {
		t.Fatal(err)
	}
	await(t, 3*time.Minute, "all is stored", func(ctx context.Context) error { return c.stored(ctx, ended) })

	var sum testbed.Tally
	for _, w := range all {
		found, err := c.client.Count(ctx, w.Written)
		if err != nil {
			t.Fatal(err)
		}
		if err := found.Err(); err != nil || found.Told > 0 && !w.loses || found.Here+found.Told != w.Lines {
			t.Errorf("%s, of %d lines: %s", w.Pod, w.Lines, found)
		} else if !strings.HasPrefix(w.Pod, "small") {
			t.Logf("%s, of %d lines: %s; by the host %d times", w.Pod, w.Lines, found, w.turns)
		}
		if w.host != nil && w.turns < int(length.Seconds())/5 {
			t.Errorf("%s was %d times in the hands of the host: its file is to change while it is read", w.Pod, w.turns)
		}
		sum.Here, sum.Records, sum.Lost, sum.Split, sum.Doubled = sum.Here+found.Here, sum.Records+found.Records, sum.Lost+found.Lost, sum.Split+found.Split, sum.Doubled+found.Doubled
		sum.Told, sum.Gaps, sum.Numbered, sum.Wrong = sum.Told+found.Told, sum.Gaps+found.Gaps, sum.Numbered+found.Numbered, sum.Wrong+found.Wrong
	}
	for _, pod := range []string{"plain-1", "plain-2", "long", "traces"} {
		if rotated, err := filepath.Glob(fmt.Sprintf("/var/log/pods/%s_%s_*/app/0.log.*", countIn, pod)); err != nil || len(rotated) == 0 {
			t.Errorf("the kubelet rotated %s into %q only (%v): its file is to change while it is read", pod, rotated, err)
		}
	}
	t.Logf("%d writers, %v, server away for %s each time: %s", len(all), c.done, c.away, &sum)
}
