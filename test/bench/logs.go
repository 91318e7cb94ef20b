package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// The way of lines from files to answers, next to VictoriaLogs' own agent and
// server on the same files. Their module is built on its own go.mod.

const (
	victoriaModule = "github.com/VictoriaMetrics/VictoriaLogs"
	logFiles       = 100
	linesPerFile   = 10_000 // a million in all, so that a start weighs little
)

// victoria builds the peer once and keeps it in the user's cache.
func victoria(ctx context.Context, b *bench) (dir, version string, err error) {
	list := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}} {{.Version}}", victoriaModule)
	list.Dir = b.root
	out, err := list.Output()
	if err != nil {
		return "", "", fmt.Errorf("find the peer's module: %w", err)
	}
	source, version, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", "", err
	}
	dir = filepath.Join(cache, "crowsnest-bench", "victorialogs-"+version)
	if _, err := os.Stat(filepath.Join(dir, "vlagent")); err == nil {
		return dir, version, nil
	}
	b.say("building %s %s", victoriaModule, version)
	work := filepath.Join(b.dir, "peer")
	if err := os.CopyFS(work, os.DirFS(source)); err != nil {
		return "", "", fmt.Errorf("copy the peer's module: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", "", err
	}
	for _, name := range []string{"victoria-logs", "vlagent"} {
		build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(dir, name), "./app/"+name)
		build.Dir = work
		if out, err := build.CombinedOutput(); err != nil {
			return "", "", fmt.Errorf("build %s: %w: %s", name, err, out)
		}
	}
	return dir, version, nil
}

// logKind is a kind of lines.
type logKind struct {
	name string
	word string // that some lines have
	line func(r *rand.Rand, at time.Time) string
}

var (
	jsonLines   = logKind{"json", "coupon", jsonLine}
	plainLines  = logKind{"plain", "coupon", plainLine}
	accessLines = logKind{"access", "login", accessLine}
)

var (
	words  = []string{"cart", "order", "payment", "stock", "checkout", "session", "coupon", "address", "invoice", "shipment"}
	levels = []string{"info", "info", "info", "info", "info", "info", "debug", "debug", "warn", "error"}
	paths  = []string{"/api/v1/cart/items", "/api/v1/orders", "/api/v1/login", "/static/app.js", "/healthz", "/api/v1/search"}
)

func pick[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

// jsonLine has about 216 bytes.
func jsonLine(r *rand.Rand, at time.Time) string {
	return fmt.Sprintf(`{"level":%q,"ts":%q,"msg":"%s request handled","method":"GET","path":%q,"status":%d,"duration_ms":%.3f,"user_id":%d,"trace_id":"%016x%016x"}`,
		pick(r, levels), at.Format("2006-01-02T15:04:05.000Z07:00"), pick(r, words), pick(r, paths), pick(r, []int{200, 200, 200, 201, 304, 404, 500}), r.ExpFloat64()*20, 10_000+r.IntN(50_000), r.Uint64(), r.Uint64())
}

func plainLine(r *rand.Rand, at time.Time) string {
	return fmt.Sprintf("%s %-5s [worker-%d] com.shop.%s.Service - %s %d was taken by %d in %d ms",
		at.Format("2006-01-02 15:04:05.000"), strings.ToUpper(pick(r, levels)), r.IntN(16), pick(r, words), pick(r, words), r.IntN(1_000_000), r.IntN(50_000), int(r.ExpFloat64()*20))
}

func accessLine(r *rand.Rand, at time.Time) string {
	return fmt.Sprintf(`10.%d.%d.%d - - [%s] "GET %s?id=%d HTTP/1.1" %d %d "-" "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0 Safari/537.36" %.3f`,
		r.IntN(4), r.IntN(256), r.IntN(256), at.Format("02/Jan/2006:15:04:05 -0700"), pick(r, paths), r.IntN(1_000_000), pick(r, []int{200, 200, 200, 201, 304, 404, 500}), r.IntN(40_000), r.ExpFloat64()/50)
}

// logFolder is a node's folder of logs: pods as the kubelet keeps them, and links
// to their files as other agents want them.
type logFolder struct {
	pods, links string
	api         *fakeAPI
	kubeconfig  string
	lines       int
	bytes       int64
}

func newLogFolder(dir string) (*logFolder, error) {
	f := &logFolder{pods: filepath.Join(dir, "pods"), links: filepath.Join(dir, "containers"), api: newFakeAPI()}
	err := errors.Join(os.MkdirAll(f.pods, 0o755), os.MkdirAll(f.links, 0o755))
	if err == nil {
		f.kubeconfig, err = f.api.kubeconfig(dir)
	}
	return f, err
}

// addPod makes a pod's folder and gives its log file, which is not there yet.
func (f *logFolder) addPod(n int) (path string, err error) {
	namespace, name, uid, id := fmt.Sprintf("ns-%d", n%4), podName(n), fmt.Sprintf("uid-%d", n), fmt.Sprintf("%064x", n+1)
	dir := filepath.Join(f.pods, namespace+"_"+name+"_"+uid, "app")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	path = filepath.Join(dir, "0.log")
	f.api.add(namespace, name, uid, "shop-"+strconv.Itoa(n/10), id, path)
	return path, os.Symlink(path, filepath.Join(f.links, name+"_"+namespace+"_app-"+id+".log"))
}

func podName(n int) string { return "cart-" + strconv.Itoa(n) }

// written is when a runtime has a line that says of itself to be of at: some hundred
// microseconds later, now and then some milliseconds, seldom up to a second; never
// before the line that was last.
func written(r *rand.Rand, at, last time.Time) time.Time {
	late := r.ExpFloat64() * 300e-6
	if r.IntN(50) == 0 {
		late += r.ExpFloat64() * 20e-3
	}
	if r.IntN(2000) == 0 {
		late += r.Float64()
	}
	if at = at.Add(time.Duration(late * float64(time.Second))); at.Before(last) {
		return last
	}
	return at
}

func criLine(at time.Time, text string) string {
	return at.Format("2006-01-02T15:04:05.000000000Z07:00") + " stdout F " + text + "\n"
}

// fill writes the files of all pods, lines spread over the hour before until.
func (f *logFolder) fill(files, perFile int, until time.Time, line func(*rand.Rand, time.Time) string) error {
	for n := range files {
		path, err := f.addPod(n)
		if err != nil {
			return err
		}
		out, err := os.Create(path)
		if err != nil {
			return err
		}
		w, r := bufio.NewWriterSize(out, 1<<20), rand.New(rand.NewPCG(1, uint64(n)))
		step, last := time.Hour/time.Duration(perFile), time.Time{}
		for i := range perFile {
			at := until.Add(-time.Hour + time.Duration(i)*step + time.Duration(r.Int64N(int64(step))))
			last = written(r, at, last)
			m, _ := w.WriteString(criLine(last, line(r, at)))
			f.bytes += int64(m)
			f.lines++
		}
		if err := errors.Join(w.Flush(), out.Close()); err != nil {
			return err
		}
	}
	return nil
}

// side is one of the two that are compared: how it is started, and what it calls
// things.
type side struct {
	name   string
	pod    string // field
	metric string // counts lines that came
	data   string // folder of lines below the server's data
	server func(dir, address string) (*testbed.Process, *testbed.Server, error)
	agent  func(dir, address string, f *logFolder) (*testbed.Process, error)
}

func ourSide(b *bench) side {
	return side{
		name: "ours", pod: "pod", metric: "crowsnest_logs_lines_stored_total", data: "logs",
		server: func(dir, address string) (*testbed.Process, *testbed.Server, error) {
			token := filepath.Join(dir, "token")
			if err := os.WriteFile(token, []byte(benchToken+"\n"), 0o600); err != nil {
				return nil, nil, err
			}
			p, err := testbed.Start(dir, "server", filepath.Join(b.root, "bin/crowsnest"), "server", "--data", filepath.Join(dir, "data"), "--listen", address, "--ingest-token-file", "bench="+token)
			return p, &testbed.Server{URL: "http://" + address, Cluster: "bench"}, err
		},
		agent: func(dir, address string, f *logFolder) (*testbed.Process, error) {
			return testbed.Start(dir, "agent", filepath.Join(b.root, "bin/crowsnest-collector"), "--role", "node", "--node-name", fakeNode, "--kubeconfig", f.kubeconfig, "--log-path", f.pods,
				"--server", "http://"+address, "--token-file", filepath.Join(dir, "token"), "--data", filepath.Join(dir, "agent-data"), "--listen", "", "--kubelet-port", "1", "--log-level", "error")
		},
	}
}

// apiSide is ours where nobody reads the node's files: the API server is asked for them.
func apiSide(b *bench) side {
	s := ourSide(b)
	s.name = "ours by the API"
	s.agent = func(dir, address string, f *logFolder) (*testbed.Process, error) {
		return testbed.Start(dir, "agent", filepath.Join(b.root, "bin/crowsnest-collector"), "--role", "all", "--kubeconfig", f.kubeconfig,
			"--server", "http://"+address, "--token-file", filepath.Join(dir, "token"), "--data", filepath.Join(dir, "agent-data"), "--listen", "", "--log-level", "error")
	}
	return s
}

func peerSide(programs string) side {
	return side{
		name: "peer", pod: "kubernetes.pod_name", metric: "vl_rows_ingested_total",
		server: func(dir, address string) (*testbed.Process, *testbed.Server, error) {
			p, err := testbed.Start(dir, "server", filepath.Join(programs, "victoria-logs"), "-storageDataPath="+filepath.Join(dir, "data"), "-httpListenAddr="+address, "-retentionPeriod=90d", "-loggerLevel=ERROR")
			return p, &testbed.Server{URL: "http://" + address}, err
		},
		agent: func(dir, address string, f *logFolder) (*testbed.Process, error) {
			// The program knows its kubeconfig by the environment only.
			return testbed.Start(dir, "agent", "/usr/bin/env", "KUBECONFIG="+f.kubeconfig, filepath.Join(programs, "vlagent"), "-kubernetesCollector", "-kubernetesCollector.logsPath="+f.links,
				"-tmpDataPath="+filepath.Join(dir, "agent-data"), "-remoteWrite.url=http://"+address+"/internal/insert", "-httpListenAddr=127.0.0.1:0", "-loggerLevel=ERROR")
		},
	}
}

// started is a server in a folder of its own.
type started struct {
	*testbed.Process
	dir, address string
	api          *testbed.Server
}

func (s side) start(ctx context.Context, b *bench) (out started, err error) {
	if out.dir, err = os.MkdirTemp(b.dir, s.name+"-"); err != nil {
		return out, err
	}
	if out.address, err = testbed.FreeAddress(); err != nil {
		return out, err
	}
	err = s.serve(ctx, &out)
	return out, err
}

// serve starts the server on what its folder has.
func (s side) serve(ctx context.Context, out *started) (err error) {
	if out.Process, out.api, err = s.server(out.dir, out.address); err != nil {
		return err
	}
	if err := testbed.Await(ctx, time.Minute, 100*time.Millisecond, func(ctx context.Context) error {
		_, err := out.api.Do(ctx, "GET", "/metrics", nil)
		return err
	}); err != nil {
		out.end()
		return fmt.Errorf("%w\n%s", err, out.Tail(20))
	}
	return nil
}

// merged has all parts of a server's lines merged, as they are once they are older. It
// is VictoriaLogs' own program that does so, for both: the files are of the same library.
func (s side) merged(ctx context.Context, programs string, p *started) error {
	if err := p.Stop(20 * time.Second); err != nil {
		return err
	}
	address, err := testbed.FreeAddress()
	if err != nil {
		return err
	}
	merger, err := testbed.Start(p.dir, "merger", filepath.Join(programs, "victoria-logs"), "-storageDataPath="+filepath.Join(p.dir, "data", s.data), "-httpListenAddr="+address, "-retentionPeriod=90d", "-loggerLevel=ERROR")
	if err != nil {
		return err
	}
	defer merger.Stop(20 * time.Second)
	api := &testbed.Server{URL: "http://" + address}
	if err := testbed.Await(ctx, time.Minute, 100*time.Millisecond, func(ctx context.Context) error {
		_, err := api.Do(ctx, "GET", "/internal/force_merge", nil)
		return err
	}); err != nil {
		return fmt.Errorf("%w\n%s", err, merger.Tail(20))
	}
	if err := testbed.Await(ctx, 2*time.Minute, 100*time.Millisecond, func(ctx context.Context) error {
		n, err := metric(ctx, api, "vl_active_force_merges")
		if err == nil && n > 0 {
			err = errors.New("parts are being merged")
		}
		return err
	}); err != nil {
		return err
	}
	if err := merger.Stop(20 * time.Second); err != nil {
		return err
	}
	return s.serve(ctx, p)
}

// end stops the server and removes its folder.
func (s started) end() {
	_ = s.Stop(20 * time.Second)
	_ = os.RemoveAll(s.dir)
}

// logRun is what one run gave; CPU in seconds, memory in MiB.
type logRun struct {
	agentCPU, agentMemory   float64
	serverCPU, serverMemory float64
	took                    time.Duration
	diskBytes, youngBytes   int64              // of merged parts, and of those that were there when all was quiet
	queries                 map[string]float64 // seconds
}

// runLogs lets one side read a folder from the first byte, and asks its server.
func runLogs(ctx context.Context, b *bench, s side, programs string, f *logFolder, until time.Time, word string) (out logRun, err error) {
	p, err := s.start(ctx, b)
	if err != nil {
		return out, err
	}
	defer func() { p.end() }()
	start := time.Now()
	before, err := testbed.UsageOf(p.PID())
	if err != nil {
		return out, err
	}
	agent, err := s.agent(p.dir, p.address, f)
	if err != nil {
		return out, err
	}
	defer agent.Stop(20 * time.Second)
	look := func() error {
		server, err := testbed.UsageOf(p.PID())
		if err != nil {
			return err
		}
		agent, err := testbed.UsageOf(agent.PID())
		if err != nil {
			return err
		}
		out.serverCPU, out.agentCPU = (server.CPU - before.CPU).Seconds(), agent.CPU.Seconds()
		out.serverMemory, out.agentMemory = max(out.serverMemory, float64(server.RSS)/mib), max(out.agentMemory, float64(agent.RSS)/mib)
		return nil
	}
	if err := testbed.Await(ctx, 5*time.Minute, 500*time.Millisecond, func(ctx context.Context) error {
		if err := look(); err != nil {
			return err
		}
		n, err := metric(ctx, p.api, s.metric)
		if err == nil && n < float64(f.lines) {
			err = fmt.Errorf("%.0f of %d lines came", n, f.lines)
		}
		return err
	}); err != nil {
		return out, fmt.Errorf("%w\n%s\n%s", err, agent.Tail(20), p.Tail(20))
	}
	out.took = time.Since(start)
	agentCPU := out.agentCPU
	// What came is written and merged: part of its cost. The peer writes it after 5
	// to 10 s.
	for last, quiet := out.serverCPU, 0; quiet < 6; last = out.serverCPU {
		select {
		case <-ctx.Done():
			return out, ctx.Err()
		case <-time.After(2 * time.Second):
		}
		if err := look(); err != nil {
			return out, err
		}
		if quiet++; out.serverCPU-last > 0.1 {
			quiet = 0
		}
	}
	out.agentCPU = agentCPU
	_ = agent.Stop(20 * time.Second)
	lines := filepath.Join(p.dir, "data", s.data)
	if out.youngBytes, err = diskUsage(lines); err != nil {
		return out, err
	}
	if err := s.merged(ctx, programs, &p); err != nil {
		return out, fmt.Errorf("merge: %w", err)
	}
	if out.diskBytes, err = diskUsage(lines); err != nil {
		return out, err
	}
	out.queries, err = askLogs(ctx, s, p.api, word, until)
	return out, err
}

// metric sums a server's self-metric.
func metric(ctx context.Context, server *testbed.Server, name string) (sum float64, err error) {
	raw, err := server.Do(ctx, "GET", "/metrics", nil)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' ')+1:]), 64)
		if err != nil {
			return 0, fmt.Errorf("metric %s: %w", name, err)
		}
		sum += v
	}
	return sum, nil
}

func diskUsage(dir string) (bytes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Name() != "reserve" { // room that is kept, not used
			bytes += info.Size()
		}
		return err
	})
	return bytes, err
}

// logQueries are asked of both; POD is the field of the pod's name, WORD a word
// that some lines have.
var logQueries = []struct{ name, path, query, step string }{
	{"word_in_pod", "query", `{POD="cart-7"} WORD | stats count() n`, ""},
	{"newest_in_pod", "query", `{POD="cart-7"} WORD`, ""},
	{"word", "query", `WORD | stats count() n`, ""},
	{"newest", "query", `WORD`, ""},
	{"hits", "hits", `*`, "1m"},
	{"hits_of_word", "hits", `WORD`, "1m"},
}

// askings are as many as it takes until a median of 30 ms is the same one next time,
// within some percent.
const askings = 41

// askLogs gives the median seconds of each query.
func askLogs(ctx context.Context, s side, server *testbed.Server, word string, until time.Time) (map[string]float64, error) {
	out := map[string]float64{}
	for _, q := range logQueries {
		text := strings.NewReplacer("POD", `"`+s.pod+`"`, "WORD", word).Replace(q.query)
		form := url.Values{"query": {text}, "start": {until.Add(-time.Hour).UTC().Format(time.RFC3339)}, "end": {until.UTC().Format(time.RFC3339)}}
		if q.path == "query" {
			form.Set("limit", "100")
		} else {
			form.Set("step", q.step)
		}
		var took []float64
		for range askings {
			start := time.Now()
			raw, err := server.Do(ctx, "POST", "/select/logsql/"+q.path, form)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", q.name, err)
			}
			took = append(took, time.Since(start).Seconds())
			if len(raw) < 10 {
				return nil, fmt.Errorf("%s: %s found nothing: %q", q.name, text, raw)
			}
		}
		out[q.name] = median(took)
	}
	return out, nil
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// medianOf gives the median of one figure of several runs.
func medianOf(runs []logRun, figure func(logRun) float64) float64 {
	v := make([]float64, len(runs))
	for i, r := range runs {
		v[i] = figure(r)
	}
	return median(v)
}

// logsNextToPeer compares on the same lines of one kind, in turns.
func logsNextToPeer(kind logKind) func(ctx context.Context, b *bench) ([]Result, error) {
	return func(ctx context.Context, b *bench) ([]Result, error) {
		programs, version, err := victoria(ctx, b)
		if err != nil {
			return nil, err
		}
		dir := filepath.Join(b.dir, "lines-"+kind.name)
		f, err := newLogFolder(dir)
		if err != nil {
			return nil, err
		}
		defer f.api.close()
		until := time.Now().UTC().Truncate(time.Second)
		if err := f.fill(logFiles, linesPerFile, until, kind.line); err != nil {
			return nil, err
		}
		var runs [2][]logRun
		for round := range b.rounds {
			for i, s := range [2]side{ourSide(b), peerSide(programs)} {
				r, err := runLogs(ctx, b, s, programs, f, until, kind.word)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", s.name, err)
				}
				b.say("%s %s %d: agent %.2f s, server %.2f s, %d bytes (%d before they were merged), %.1f s, %v", kind.name, s.name, round, r.agentCPU, r.serverCPU, r.diskBytes, r.youngBytes, r.took.Seconds(), r.queries)
				runs[i] = append(runs[i], r)
			}
		}
		return compareRuns(kind, f, runs, version), os.RemoveAll(dir)
	}
}

func compareRuns(kind logKind, f *logFolder, runs [2][]logRun, version string) (results []Result) {
	millions := float64(f.lines) / 1e6
	note := fmt.Sprintf("%d lines of %d bytes on average with CRI's prefix, of %d files, as fast as they come; median of %d runs in turns. %s.", f.lines, f.bytes/int64(f.lines), logFiles, len(runs[0]), machine())
	add := func(name, unit, bar, more string, figure func(logRun) float64) {
		peer := round(medianOf(runs[1], figure))
		results = append(results, Result{Name: "logs_" + kind.name + "_" + name, Unit: unit, Ours: medianOf(runs[0], figure), Peer: &peer, PeerVersion: "VictoriaLogs " + version, Bar: bar, Note: strings.TrimSpace(more + " " + note)})
	}
	add("agent_cpu", "CPU s/M lines", "ratio <= 1", "The whole collector from its start, measuring its node besides; the peer is vlagent, which joins no lines and masks no secrets. Debian has no Fluent Bit to measure beside them.", func(r logRun) float64 { return r.agentCPU / millions })
	add("agent_memory", "MiB", "", "RSS, the most that was seen.", func(r logRun) float64 { return r.agentMemory })
	add("store_cpu", "CPU s/M lines", "ratio <= 1.1", "The whole server until all is written and merged. It acknowledges what survives a kill, twice a second; the peer, in its default, loses up to 5 s.", func(r logRun) float64 { return r.serverCPU / millions })
	add("store_memory", "MiB", "", "RSS, the most that was seen.", func(r logRun) float64 { return r.serverMemory })
	add("store_disk_young", "bytes per raw byte", "", "Before the merge, when both were quiet: parts of a commit of half a second compress less than those of the peer's 5 s.", func(r logRun) float64 { return float64(r.youngBytes) / float64(f.bytes) })
	add("store_disk", "bytes per raw byte", "ratio <= 1.1", "Both merged by VictoriaLogs' /internal/force_merge, as parts are once they are older; queries are asked after that.", func(r logRun) float64 { return float64(r.diskBytes) / float64(f.bytes) })
	for _, q := range logQueries {
		add("query_"+q.name, "s", "ratio <= 1.1", fmt.Sprintf("`%s` by /select/logsql/%s over the hour, median of %d, warm.", q.query, q.path, askings), func(r logRun) float64 { return r.queries[q.name] })
	}
	return results
}

const (
	steadyLines = 10_000 // a second, over all files
	steadyFor   = 40 * time.Second
)

// logsFresh measures, while 10,000 lines a second come, how long a line takes
// from being written to being found: the first one of a new pod, and one of a pod
// that is followed; and what the agent uses.
func logsFresh(ctx context.Context, b *bench) ([]Result, error) {
	programs, version, err := victoria(ctx, b)
	if err != nil {
		return nil, err
	}
	var figures [2]map[string]float64
	for i, s := range [2]side{ourSide(b), peerSide(programs)} {
		if figures[i], err = freshness(ctx, b, s); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		b.say("%s: %v", s.name, figures[i])
	}
	results := freshResults("logs_fresh_", figures[0], "ratio <= 1", "The whole collector, measuring its node besides; the peer is vlagent.")
	for i, name := range freshNames {
		peer := round(figures[1][name])
		results[i].Peer, results[i].PeerVersion = &peer, "VictoriaLogs "+version
	}
	return results, nil
}

// logsFreshAPI measures the same of ours where the API server is asked for the lines. The peer's
// agent reads files alone.
func logsFreshAPI(ctx context.Context, b *bench) ([]Result, error) {
	figures, err := freshness(ctx, b, apiSide(b))
	if err != nil {
		return nil, err
	}
	return freshResults("logs_fresh_api_", figures, "", "The whole collector, which follows a cluster of one node besides. The API server is a fake one, which looks at each file every 20 ms."), nil
}

// freshNames are the figures of freshness.
var freshNames = []string{"new_pod", "new_pod_median", "line", "line_median", "agent_cpu", "agent_memory"}

// freshResults are in the order of their names.
func freshResults(prefix string, figures map[string]float64, bar, agent string) (results []Result) {
	note := fmt.Sprintf("%d lines/s into %d files for %s, a new pod every 2 s. %s.", steadyLines, logFiles, steadyFor, machine())
	for i, r := range []struct{ unit, bar, more string }{
		{"s", "<= 2", "From writing the first line of a new pod until a query finds it, the longest."},
		{"s", "", "The same, the median."},
		{"s", "<= 2", "From writing a line of a pod that is followed until a query finds it, the longest."},
		{"s", "", "The same, the median."},
		{"CPU s/M lines", bar, agent},
		{"MiB", "", "RSS, the most that was seen."},
	} {
		results = append(results, Result{Name: prefix + freshNames[i], Unit: r.unit, Ours: figures[freshNames[i]], Bar: r.bar, Note: r.more + " " + note})
	}
	return results
}

func freshness(ctx context.Context, b *bench, s side) (map[string]float64, error) {
	files, err := os.MkdirTemp(b.dir, "fresh-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(files)
	f, err := newLogFolder(files)
	if err != nil {
		return nil, err
	}
	defer f.api.close()
	p, err := s.start(ctx, b)
	if err != nil {
		return nil, err
	}
	defer p.end()
	var outs []*os.File
	defer func() {
		for _, o := range outs {
			_ = o.Close()
		}
	}()
	create := func(n int) (*os.File, error) {
		path, err := f.addPod(n)
		if err != nil {
			return nil, err
		}
		return os.Create(path)
	}
	for n := range logFiles {
		o, err := create(n)
		if err != nil {
			return nil, err
		}
		outs = append(outs, o)
	}
	agent, err := s.agent(p.dir, p.address, f)
	if err != nil {
		return nil, err
	}
	defer agent.Stop(20 * time.Second)
	write := func(o *os.File, text string) (time.Time, error) {
		at := time.Now().UTC()
		_, err := o.WriteString(criLine(at, text))
		return at, err
	}
	found := func(n int, text string, at time.Time) (float64, error) {
		query := fmt.Sprintf("{%q=%q} %q | limit 1", s.pod, podName(n), text)
		err := testbed.Await(ctx, time.Minute, 20*time.Millisecond, func(ctx context.Context) error {
			rows, err := p.api.Logs(ctx, query, 1)
			if err == nil && len(rows) == 0 {
				err = errors.New("the line is not found")
			}
			return err
		})
		return time.Since(at).Seconds(), err
	}
	// Until the first line is there, programs start.
	at, err := write(outs[0], "started")
	if err != nil {
		return nil, err
	}
	if _, err := found(0, "started", at); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, agent.Tail(20))
	}
	before, err := testbed.UsageOf(agent.PID())
	if err != nil {
		return nil, err
	}
	writeCtx, end := context.WithTimeout(ctx, steadyFor)
	defer end()
	written, wrote := make(chan error, 1), 0
	go func() { // the lines of every 20 ms
		r, start := rand.New(rand.NewPCG(1, 2)), time.Now()
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-writeCtx.Done():
				tick.Stop()
				written <- nil
				return
			case <-tick.C:
			}
			for want := int(time.Since(start).Seconds() * steadyLines); wrote < want; wrote++ {
				if _, err := write(outs[wrote%logFiles], jsonLine(r, time.Now().UTC())); err != nil {
					written <- err
					return
				}
			}
		}
	}()
	var fresh, steady []float64
	memory := 0.0
	for n := logFiles; writeCtx.Err() == nil; n++ {
		o, err := create(n)
		if err != nil {
			return nil, err
		}
		outs = append(outs, o)
		at, err := write(o, "hello")
		if err != nil {
			return nil, err
		}
		took, err := found(n, "hello", at)
		if err != nil {
			return nil, err
		}
		fresh = append(fresh, took)
		text := fmt.Sprint("marker-", n)
		if at, err = write(outs[1], text); err != nil {
			return nil, err
		}
		if took, err = found(1, text, at); err != nil {
			return nil, err
		}
		steady = append(steady, took)
		if now, err := testbed.UsageOf(agent.PID()); err == nil {
			memory = max(memory, float64(now.RSS)/mib)
		}
		select {
		case <-writeCtx.Done():
		case <-time.After(max(0, 2*time.Second-time.Since(at))):
		}
	}
	if err := <-written; err != nil {
		return nil, err
	}
	after, err := testbed.UsageOf(agent.PID())
	if err != nil {
		return nil, err
	}
	return map[string]float64{
		"new_pod": slices.Max(fresh), "new_pod_median": median(fresh), "line": slices.Max(steady), "line_median": median(steady),
		"agent_cpu": (after.CPU - before.CPU).Seconds() / float64(wrote) * 1e6, "agent_memory": memory,
	}, nil
}
