package logs

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// cluster is an API server with one pod of one container, which writes lines.
type cluster struct {
	t       testing.TB
	server  *httptest.Server
	mu      sync.Mutex
	wrote   chan struct{} // closed at each write
	lines   [][]string    // by instance, with their times
	state   string
	next    int
	cut     int // bytes after which an answer breaks off; 0: never
	open    int // connections for logs now, as the collector sees it
	most    int // at most
	asked   int
	pods    int // more pods of the same content
	started time.Time
}

func newCluster(t testing.TB) *cluster {
	c := &cluster{t: t, wrote: make(chan struct{}), lines: [][]string{nil}, state: "running", pods: 1, started: time.Now()}
	c.server = httptest.NewServer(http.HandlerFunc(c.serve))
	t.Cleanup(c.server.Close)
	return c
}

func (c *cluster) serve(w http.ResponseWriter, r *http.Request) {
	name := strings.Split(strings.TrimPrefix(r.URL.Path, "/api/v1/namespaces/shop/pods/"), "/")[0]
	c.mu.Lock()
	var number int
	_, _ = fmt.Sscanf(name, "cart-%d", &number)
	gone := number > c.pods
	c.mu.Unlock()
	if gone {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","code":404,"reason":"NotFound"}`)
		return
	}
	if !strings.HasSuffix(r.URL.Path, "/log") {
		c.mu.Lock()
		p := corev1.Pod{TypeMeta: metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"}, ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID("uid-" + name)},
			Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "app", RestartCount: int32(len(c.lines) - 1)}}}}
		c.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(p)
		return
	}
	q := r.URL.Query()
	var since time.Time
	if s := q.Get("sinceTime"); s != "" {
		var err error
		if since, err = time.Parse(time.RFC3339, s); err != nil {
			c.t.Errorf("sinceTime %q", s)
		}
	}
	c.mu.Lock()
	c.asked++
	instance := len(c.lines) - 1
	budget := c.cut
	c.mu.Unlock()
	if q.Get("previous") == "true" {
		if instance--; instance < 0 {
			http.Error(w, `{"kind":"Status","code":400,"reason":"BadRequest"}`, http.StatusBadRequest)
			return
		}
	}
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	limited := budget > 0
	for i := 0; ; {
		c.mu.Lock()
		lines, wrote := c.lines[instance][i:], c.wrote
		over := instance < len(c.lines)-1 || c.state != "running"
		c.mu.Unlock()
		i += len(lines)
		for _, l := range lines {
			at, err := time.Parse(time.RFC3339Nano, l[:strings.IndexByte(l, ' ')])
			if err != nil {
				c.t.Error(err)
			}
			if at.Before(since) {
				continue
			}
			if limited && budget < len(l) {
				_, _ = w.Write([]byte(l[:max(0, budget)]))
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler) // in the middle of a line
			}
			budget -= len(l)
			if _, err := w.Write([]byte(l)); err != nil {
				return
			}
		}
		w.(http.Flusher).Flush()
		if over || q.Get("follow") != "true" {
			return
		}
		select {
		case <-wrote:
		case <-r.Context().Done():
			return
		}
	}
}

func (c *cluster) write(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := len(c.lines) - 1
	for range n {
		// Several lines share a time.
		at := c.started.Add(time.Duration(c.next/3)*100*time.Millisecond + time.Duration(last)*time.Millisecond).UTC()
		c.lines[last] = append(c.lines[last], fmt.Sprintf("%s line %d\n", at.Format(time.RFC3339Nano), c.next))
		c.next++
	}
	close(c.wrote)
	c.wrote = make(chan struct{})
}

func (c *cluster) restart() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lines = append(c.lines, nil)
	close(c.wrote)
	c.wrote = make(chan struct{})
}

func (c *cluster) set(fn func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn()
	close(c.wrote)
	c.wrote = make(chan struct{})
}

// Snapshot is the cluster as State.
func (c *cluster) Snapshot() *state.Snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &state.Snapshot{Synced: true, Pods: map[string]*object.Pod{}}
	for i := range c.pods {
		name := fmt.Sprintf("cart-%d", i+1)
		uid := "uid-" + name
		p := &object.Pod{Meta: object.Meta{UID: uid, Namespace: "shop", Name: name, CreatedAt: c.started.Add(time.Minute)}, Phase: object.PhaseRunning, Node: "n1",
			Workload: object.WorkloadRef{Type: "deployment", Name: "cart"}, StartedAt: c.started,
			Containers: []object.Container{{Name: "app", State: c.state, RestartCount: len(c.lines) - 1, ID: fmt.Sprint(len(c.lines)), StartedAt: c.started}}}
		if c.state == "terminated" {
			p.Phase = object.PhaseSucceeded
		}
		s.Pods[uid] = p
	}
	return s
}

func (c *cluster) options(s *server) APIOptions {
	client, err := kubernetes.NewForConfig(&rest.Config{Host: c.server.URL, QPS: -1, WrapTransport: func(rt http.RoundTripper) http.RoundTripper { return counted{c, rt} }})
	if err != nil {
		c.t.Fatal(err)
	}
	return APIOptions{Pods: clientPods{client}, State: c, Positions: s.ask, Sender: "all", Linger: 5 * time.Millisecond, Backoff: 5 * time.Millisecond, Poll: 5 * time.Millisecond, Turn: 20 * time.Millisecond, Rules: Rules{Join: JoinOptions{Hold: 20 * time.Millisecond}}}
}

// clientPods reads pods by Kubernetes' client.
type clientPods struct{ client kubernetes.Interface }

var _ Pods = clientPods{}

func (p clientPods) GetPod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	return p.client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
}

func (p clientPods) PodLogs(ctx context.Context, namespace, name string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	return p.client.CoreV1().Pods(namespace).GetLogs(name, o).Stream(ctx)
}

// counted counts the answers that are being read.
type counted struct {
	c  *cluster
	rt http.RoundTripper
}

func (t counted) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.rt.RoundTrip(r)
	if err == nil && strings.HasSuffix(r.URL.Path, "/log") {
		t.c.mu.Lock()
		t.c.open++
		t.c.most = max(t.c.most, t.c.open)
		t.c.mu.Unlock()
		resp.Body = countedBody{resp.Body, t.c}
	}
	return resp, err
}

type countedBody struct {
	io.ReadCloser
	c *cluster
}

func (b countedBody) Close() error {
	b.c.mu.Lock()
	b.c.open--
	b.c.mu.Unlock()
	return b.ReadCloser.Close()
}

func (c *cluster) run(o APIOptions, s *server) (a *API, stop func()) {
	c.t.Helper()
	return c.runAt(o, s)
}

func (c *cluster) runAt(o APIOptions, s Sink) (a *API, stop func()) {
	c.t.Helper()
	a, err := NewAPI(o)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx, s) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				c.t.Errorf("Run: %v", err)
			}
			http.DefaultClient.CloseIdleConnections()
		})
	}
	c.t.Cleanup(stop)
	return a, stop
}

// silence stops a collector, as a kill does, of which the server hears nothing any more.
func silence(s *server, stop func()) {
	s.set(func() { s.frozen = true })
	stop()
	s.set(func() { s.frozen = false })
}

func TestAPIFollowsFastWriters(t *testing.T) {
	c, s := newCluster(t), newServer(t)
	a, stop := c.run(c.options(s), s)
	for range 20 {
		c.write(1000)
	}
	s.await(key, 20_000)
	stop()
	numbered(t, s.got(key), 20_000)
	if h := a.Health(); h.Read != 20_000 || h.Sent != 20_000 {
		t.Errorf("health is %+v", h)
	}
	if g := s.groups[key]; g.Workload != "cart" || g.Node != "n1" {
		t.Errorf("stream is %+v", g)
	}
}

func TestAPIConnectionsThatBreakInTheMiddleOfALine(t *testing.T) {
	c, s := newCluster(t), newServer(t)
	c.cut = 1777
	_, stop := c.run(c.options(s), s)
	for i := range 10 {
		c.write(40)
		s.await(key, 40*i)
	}
	s.await(key, 400)
	stop()
	numbered(t, s.got(key), 400)
}

func TestAPIRestartsOfTheContainer(t *testing.T) {
	c, s := newCluster(t), newServer(t)
	_, stop := c.run(c.options(s), s)
	for range 5 {
		c.write(101)
		c.restart() // what was not read is the previous instance's
		c.write(3)
		s.await(key, c.next)
	}
	c.write(50)
	c.set(func() { c.state = "terminated" })
	s.await(key, c.next)
	stop()
	numbered(t, s.got(key), c.next)
}

func TestAPIContainerThatEndedBeforeItWasSeen(t *testing.T) {
	c, s := newCluster(t), newServer(t)
	o := c.options(s)
	c.state = "pending"
	_, stop := c.run(o, s)
	c.write(300)
	c.set(func() { c.state = "terminated" })
	s.await(key, 300)
	stop()
	numbered(t, s.got(key), 300)
}

func TestAPIRestartOfTheCollector(t *testing.T) {
	c, s := newCluster(t), newServer(t)
	o := c.options(s)
	for i := range 6 {
		_, stop := c.run(o, s)
		c.write(200)
		s.await(key, c.next)
		if i%2 == 0 { // a kill: nothing that it does after this is heard of
			silence(s, stop)
		}
		stop()
		c.write(30)
	}
	_, stop := c.run(o, s)
	s.await(key, c.next)
	stop()
	numbered(t, s.got(key), c.next)
}

// The answer to a batch is lost and the collector is killed.
func TestAPIKilledBetweenSendAndAnswer(t *testing.T) {
	c, s := newCluster(t), newServer(t)
	o := c.options(s)
	s.lost = 0
	c.write(300)
	_, stop := c.run(o, s)
	s.await(key, 1)
	silence(s, stop)
	c.write(100)
	s.set(func() { s.lost = -1 })
	_, stop = c.run(o, s)
	s.await(key, 400)
	stop()
	numbered(t, s.got(key), 400)
	if s.again != 0 || s.conflicts != 0 {
		t.Errorf("%d batches came twice, %d began too early: the next one did not ask", s.again, s.conflicts)
	}
}

func TestAPIConnectionsAreBoundedAndShared(t *testing.T) {
	c, s := newCluster(t), newServer(t)
	c.pods = 7
	o := c.options(s)
	o.MaxConnections = 2
	_, stop := c.run(o, s)
	c.write(100)
	for i := range c.pods {
		s.await(fmt.Sprintf("cart-%d/app/stdout", i+1), 100)
	}
	c.write(50)
	for i := range c.pods {
		numbered(t, s.await(fmt.Sprintf("cart-%d/app/stdout", i+1), 150), 150)
	}
	stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.most > 2 {
		t.Errorf("%d connections at once, want at most 2", c.most)
	}
}

func TestSeek(t *testing.T) {
	const t1, t2 = "2026-11-23T10:00:01Z", "2026-11-23T10:00:02Z"
	for name, tc := range map[string]struct{ before, answer, want string }{
		"goes on":                            {"1 a|1 b|2 c", "1 a|1 b|2 c|2 d", "d"},
		"same line again":                    {"1 a|1 a", "1 a|1 a|1 a|2 b", "a|b"},
		"answer begins later":                {"1 a|1 b", "2 c|2 d", "c|d"},
		"out of order, behind the last line": {"2 a", "2 a|1 late|2 b", "late|b"},
		"out of order, before it":            {"2 early|1 last", "2 early|1 last|2 new", "new"},
		"the kubelet's words":                {"", "x unable to retrieve container logs|1 a", "a"},
	} {
		stamp := strings.NewReplacer("1 ", t1+" ", "2 ", t2+" ")
		feed := func(s *seek, text string) (out []string) {
			for _, l := range strings.Split(text, "|") {
				if _, message, _, ok := s.next(stamp.Replace(l), 0); ok {
					out = append(out, message)
				}
			}
			return out
		}
		first := newSeek(apiPos{}, false, true)
		feed(first, tc.before)
		if got := strings.Join(feed(newSeek(first.pos, tc.before != "", true), tc.answer), "|"); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

// Lines of times further ahead than the server stores stand at the time of the one before them, or at
// the time that it is; one who goes on after one of them has the next.
func TestSeekTimesFarAhead(t *testing.T) {
	now := clock.Add(time.Hour)
	answer := []string{"2099-11-23T10:00:00Z first", "2099-11-23T10:00:00Z second", cri(1, "x", "y", "third"), "2099-11-23T10:00:00Z fourth", "2099-11-23T10:00:00Z fourth"}
	begin := func(from apiPos, known bool) *seek {
		s := newSeek(from, known, true)
		s.latest = latestBy(now)
		return s
	}
	s, after := begin(apiPos{}, false), []apiPos{{}}
	for i, text := range answer {
		at, message, pos, ok := s.next(text, 0)
		want := now
		if i >= 2 {
			want = clock.Add(time.Millisecond)
		}
		if far := strings.HasPrefix(text, "2099"); !ok || at != want.UnixNano() || far != (message == text) {
			t.Errorf("%q stands at %s as %q (%v), want %s", text, time.Unix(0, at).UTC(), message, ok, want)
		}
		after = append(after, pos)
	}
	for n := 1; n < len(after); n++ {
		s := begin(after[n], true)
		for i, text := range answer {
			if _, _, _, ok := s.next(text, 0); ok != (i >= n) {
				t.Errorf("one who took %d lines takes the %dth: %v", n, i+1, ok)
			}
		}
	}
}

// The second of two lines that are alike is known as such, whatever came between them.
func TestSeekCountsLinesThatAreAlike(t *testing.T) {
	const first, second = "2026-11-23T10:00:01.001Z", "2026-11-23T10:00:01Z"
	for name, between := range map[string][]string{
		"nothing":                 nil,
		"another line":            {first + " b"},
		"a line out of order":     {second + " b"},
		"some lines out of order": slices.Repeat([]string{second + " b", first + " c"}, likeLines),
	} {
		s, last := newSeek(apiPos{}, false, true), apiPos{}
		for _, l := range slices.Concat([]string{first + " a"}, between, []string{first + " a"}) {
			_, _, last, _ = s.next(l, 0)
		}
		if last.Seen != 2 {
			t.Errorf("%s: the last line was seen %d times, want 2", name, last.Seen)
		}
	}
	s := newSeek(apiPos{}, false, true)
	for i := range 10 * likeLines {
		s.next(clock.Add(time.Duration(i)*time.Second).Format(time.RFC3339Nano)+" a", 0)
	}
	if n := len(s.like) + len(s.before); n > 2*likeLines {
		t.Errorf("%d lines are told apart, want at most %d", n, 2*likeLines)
	}
	for i := range 10 * likeLines { // the clock was set back
		s.next(clock.Add(time.Duration(i-10*likeLines)*time.Second).Format(time.RFC3339Nano)+" a", 0)
	}
	if n := len(s.like) + len(s.before); n > 2*likeLines {
		t.Errorf("%d lines are told apart after the clock was set back, want at most %d", n, 2*likeLines)
	}
	for i := range 3 * mostLike { // by a little
		s.next(clock.Add(-time.Second).Format(time.RFC3339Nano)+" "+strconv.Itoa(i), 0)
	}
	if n := len(s.like) + len(s.before); n > 2*mostLike {
		t.Errorf("%d lines a little back are told apart, want at most %d", n, 2*mostLike)
	}
}

// What rotation takes while the first line after a gap waits to be sent is told, too.
func TestSeekTellsWhatGoesBehindAGap(t *testing.T) {
	const ( // the seconds that lines are of
		taken  = "2026-11-23T10:00:01Z a"
		first  = "2026-11-23T10:00:05Z b"
		second = "2026-11-23T10:00:09Z c"
	)
	at := func(line string) int64 { n, _ := parseTime(line[:len("2026-11-23T10:00:01Z")]); return n }
	s := newSeek(apiPos{}, false, true)
	_, _, from, _ := s.next(taken, 0)
	s = newSeek(from, true, true)
	if s.next(first, 0); s.gap.from != at(taken) || s.gap.until != at(first) {
		t.Fatalf("the gap is from %d to %d", s.gap.from, s.gap.until)
	}
	told := s.gapPos // the server has it, and not the line
	s = newSeek(told, true, true)
	if s.next(first, 0); s.gap.until != 0 {
		t.Errorf("a gap is told twice: from %d to %d", s.gap.from, s.gap.until)
	}
	s = newSeek(told, true, true)
	if s.next(second, 0); s.gap.from != at(first) || s.gap.until != at(second) {
		t.Errorf("the second gap is from %d to %d", s.gap.from, s.gap.until)
	}
	if m := s.gapPos.Missed; len(m) != 1 || m[0].After != at(taken) || m[0].Until != at(second) || told.Missed[0].Until != at(first) {
		t.Errorf("missed are %+v, were %+v", m, told.Missed)
	}
}

// Traces are joined, secrets masked, and no connection that breaks in the middle
// of a record doubles or loses a line of it.
func TestAPIJoinsAndMasks(t *testing.T) {
	c, s := newCluster(t), newServer(t)
	c.cut = 500
	var want []string
	c.mu.Lock()
	// Not at the beginning of a second: then a connection has to bring the one before, too,
	// and with it no line that ends the next record.
	began := c.started.Truncate(time.Second).Add(time.Second / 2)
	for i := range 40 {
		at := began.Add(time.Duration(i) * time.Second).UTC().Format(time.RFC3339Nano)
		for _, l := range []string{fmt.Sprintf("ERROR line %d password=x", i), "java.lang.Error: x", fmt.Sprintf("\tat a.B.c(D.java:%d)", i)} {
			c.lines[0] = append(c.lines[0], at+" "+l+"\n")
		}
		want = append(want, fmt.Sprintf("ERROR line %d password=***\njava.lang.Error: x\n\tat a.B.c(D.java:%d)", i, i))
	}
	c.mu.Unlock()
	a, stop := c.run(c.options(s), s)
	got := s.await(key, len(want))
	waitFor(t, func() bool { return a.Health().Sent == int64(3*len(want)) })
	stop()
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("record %d is %q, want %q", i, got[i], want[i])
		}
	}
}

// All answers together are read no faster than they may be, and whole.
func TestAPIBytesPerSecondAreBounded(t *testing.T) {
	c, s := newCluster(t), newServer(t)
	c.pods = 2
	o := c.options(s)
	o.MaxBytesPerSecond = readBytes // as many at once
	began := time.Now()
	_, stop := c.run(o, s)
	c.write(2000) // some 80 KiB of each
	for i := range c.pods {
		numbered(t, s.await(fmt.Sprintf("cart-%d/app/stdout", i+1), 2000), 2000)
	}
	stop()
	if took := time.Since(began); took < time.Second {
		t.Errorf("two answers of 80 KiB took %s at 64 KiB a second", took)
	}
}
