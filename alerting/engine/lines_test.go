package engine

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/logs"
	"github.com/crowsnest-dev/crowsnest/storage/logs/logstest"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// logScene is a scene with a real log store, whose watermarks carry the scene's
// clock.
type logScene struct {
	*scene
	store *logs.Store
	seen  map[string]time.Time // by node
	batch int
}

func newLogScene(t *testing.T) *logScene {
	return newScene(t).withLogs()
}

// withLogs gives the scene a log store, if it has none yet.
func (s *scene) withLogs() *logScene {
	if s.logs == nil {
		s.logs = &logScene{scene: s, store: logstest.Open(s.t), seen: map[string]time.Time{}}
	}
	s.engine.opts.Lines = s.logs
	return s.logs
}

func (s *logScene) Counts(ctx context.Context, qs []logs.CountQuery) ([]logs.Count, error) {
	return s.store.Counts(ctx, qs)
}

func (s *logScene) Watermarks(cluster string) []logs.Watermark {
	out := s.store.Watermarks(cluster)
	for i := range out {
		out[i].SeenAt = s.seen[out[i].Node]
	}
	return out
}

// write stores lines of a pod, and says that its node's are complete until then.
func (s *logScene) write(node, pod, stream string, lines map[time.Time]string, through time.Time) {
	s.t.Helper()
	s.batch++
	b := &wire.LogBatch{Sender: "node/" + node, ID: fmt.Sprint("b", s.batch)}
	if len(lines) > 0 {
		g := wire.LogGroup{Stream: wire.LogStream{Namespace: "shop", Stream: stream}}
		if stream != wire.StreamEvents {
			g.Stream.Pod, g.Stream.Container, g.Stream.WorkloadType, g.Stream.Workload, g.Stream.Node = pod, "app", "deployment", "cart", node
		}
		for at, text := range lines {
			g.Lines = append(g.Lines, wire.LogLine{Time: at.UnixNano(), Message: text})
		}
		b.Groups = []wire.LogGroup{g}
	}
	if !through.IsZero() {
		b.Complete = []wire.LogMark{{Node: node, Through: through.UnixNano()}}
		s.seen[node] = s.now
	}
	if err := s.store.Append(context.Background(), "prod-1", b); err != nil {
		s.t.Fatal(err)
	}
}

// written writes as many lines of a word and a pod as the rows say of one
// interval, and that the node's are complete until its end.
func (s *logScene) written(node string, end time.Time, rows [][]string, column int) {
	s.t.Helper()
	for _, r := range rows {
		n, _ := strconv.Atoi(r[column+2])
		lines := map[time.Time]string{}
		for i := range n {
			lines[end.Add(-interval+time.Duration(i+1)*time.Millisecond)] = r[0] + " line"
		}
		if n > 0 {
			s.write(node, r[1], "stdout", lines, time.Time{})
		}
	}
	s.write(node, "", "", nil, end)
}

// at lets the clock come so far and looks at the lines.
func (s *logScene) at(d time.Duration) {
	s.now = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC).Add(d)
	s.engine.countLines(context.Background(), s.now)
	s.tick()
}

func (s *logScene) cart() {
	s.object("node", []string{"n-1"})
	s.object("node", []string{"n-2"})
	s.object("workload", []string{"cart", "desired=2"})
	s.object("pod", []string{"cart-1", "age=1h", "node=n-1"})
	s.object("pod", []string{"cart-2", "age=1h", "node=n-2"})
}

func TestKeywordInLogs(t *testing.T) {
	s := newLogScene(t)
	s.cart()
	s.resource(meta.KindTarget, "team", "")
	s.resource(meta.KindPolicy, "p", `  level: log
  conditions: [{query: "panic", count: {}, period: 1m, op: ">", thresholds: {warning: 1, critical: 3}, groupBy: workload}]
  notify: {targets: [team]}
  recoverAfter: 1`)
	start := s.now
	lines := func(from time.Duration, texts ...string) map[time.Time]string {
		out := map[time.Time]string{}
		for i, text := range texts {
			out[start.Add(from+time.Duration(i)*time.Second)] = text
		}
		return out
	}
	s.write("n-1", "cart-1", "stdout", lines(time.Second, "panic: a", "ok"), start.Add(30*time.Second))
	s.write("n-2", "cart-2", "stdout", lines(2*time.Second, "panic: b"), start.Add(30*time.Second))
	s.write("", "", wire.StreamEvents, lines(3*time.Second, "panic in an event"), start.Add(30*time.Second))
	s.at(31 * time.Second)
	s.expect("firing", "cart warning")
	s.expect("explanation", "the number of lines matching panic in 1m was 2 in the last period; warning above 1")
	s.expect("sent", "team firing")
	s.write("n-1", "cart-1", "stdout", lines(40*time.Second, "panic", "panic"), start.Add(time.Minute))
	s.at(61 * time.Second) // n-2 is not complete, and the count is over the threshold all the same: it waits for n-2 up to 5 min
	s.expect("firing", "cart warning")
	s.write("n-2", "", "", nil, start.Add(time.Minute))
	s.at(62 * time.Second)
	s.expect("firing", "cart critical")
	s.write("n-1", "", "", nil, start.Add(2*time.Minute))
	s.write("n-2", "", "", nil, start.Add(2*time.Minute))
	s.at(121 * time.Second)
	s.expect("firing", "none")
	s.expect("ended", "cart value_normal")
	s.expect("sent", "team severity, team severity, team resolved") // at 90 s it had fallen to warning
}

// No line for two minutes fires where it is known that there is none, and
// nowhere else.
func TestLogSilence(t *testing.T) {
	s := newLogScene(t)
	s.cart()
	s.object("pod", []string{"young", "age=10s", "node=n-1"})
	s.object("pod", []string{"done", "age=1h", "node=n-1", "phase=Succeeded"})
	s.resource(meta.KindPolicy, "p", `  level: log
  conditions: [{query: "*", period: 2m, op: "<", thresholds: {critical: 1}, groupBy: pod}]
  recoverAfter: 1`)
	start := s.now
	s.at(10 * time.Second)
	s.expect("firing", "none") // nobody says that lines are complete
	st, err := s.engine.Status(s.policyRow("p"), nil)
	if err != nil || !strings.Contains(strings.Join(st.Reasons, " "), "none cannot be told from late ones") {
		t.Fatalf("got %+v, %v", st, err)
	}
	s.write("n-1", "cart-1", "stdout", map[time.Time]string{start: "hello"}, start.Add(90*time.Second))
	s.write("n-2", "cart-2", "stdout", map[time.Time]string{start: "hello"}, start.Add(30*time.Second))
	s.at(91 * time.Second)
	s.expect("firing", "none")
	s.write("n-1", "", "", nil, start.Add(150*time.Second))
	s.at(151 * time.Second)
	s.expect("firing", "cart-1 critical, young critical")
	s.expect("explanation", "the number of lines in 2m was 0 in the last period; critical below 1")
	// n-2 catches up: its lines were late, not missing.
	s.write("n-2", "cart-2", "stdout", map[time.Time]string{start.Add(140 * time.Second): "late"}, start.Add(150*time.Second))
	s.at(152 * time.Second)
	s.expect("firing", "cart-1 critical, young critical")
	s.write("n-1", "cart-1", "stdout", map[time.Time]string{start.Add(170 * time.Second): "hello again"}, start.Add(180*time.Second))
	s.at(181 * time.Second)
	s.expect("firing", "young critical")
	s.gone("pod", "young")
	s.write("n-1", "", "", nil, start.Add(210*time.Second))
	s.at(211 * time.Second)
	s.expect("firing", "none")
	// A node that falls silent: what was not sent is no silence of its pods.
	s.at(20 * time.Minute)
	s.expect("firing", "none")
}

func TestEventPolicy(t *testing.T) {
	s := newLogScene(t)
	s.inv.put(&object.Namespace{Meta: object.Meta{UID: "ns", Name: "shop", CreatedAt: s.now.Add(-time.Hour)}})
	s.resource(meta.KindPolicy, "p", `  level: event
  conditions: [{query: "BackOff", period: 1m, op: ">=", thresholds: {info: 2}}]
  recoverAfter: 1`)
	start := s.now
	s.write("n-1", "cart-1", "stdout", map[time.Time]string{start.Add(time.Second): "BackOff in a line", start.Add(2 * time.Second): "BackOff"}, time.Time{})
	s.write("", "", wire.StreamEvents, map[time.Time]string{start.Add(5 * time.Second): "BackOff a"}, time.Time{})
	s.at(41 * time.Second)
	s.expect("firing", "none")
	s.write("", "", wire.StreamEvents, map[time.Time]string{start.Add(45 * time.Second): "BackOff b"}, time.Time{})
	s.at(71 * time.Second)
	s.expect("firing", "shop info")
	s.expect("explanation", "the number of events matching BackOff in 1m was 2")
	s.at(131 * time.Second)
	s.expect("ended", "shop value_normal")
}

// An event that the API server tells of once for many counts as often as it occurred.
func TestEventPolicyCountsOccurrences(t *testing.T) {
	s := newLogScene(t)
	s.inv.put(&object.Namespace{Meta: object.Meta{UID: "ns", Name: "shop", CreatedAt: s.now.Add(-time.Hour)}})
	s.resource(meta.KindPolicy, "p", `  level: event
  conditions: [{query: "BackOff", period: 1m, op: ">=", thresholds: {info: 17}}]
  recoverAfter: 1`)
	for i, n := range []string{"16", "17"} {
		b := &wire.LogBatch{Sender: "cluster", ID: n, Groups: []wire.LogGroup{{Stream: wire.LogStream{Namespace: "shop", Stream: wire.StreamEvents}, Lines: []wire.LogLine{
			{Time: s.now.Add(time.Duration(i)*time.Minute + 5*time.Second).UnixNano(), Message: "BackOff a", Fields: wire.LogFields{{Name: wire.FieldOccurrences, Value: n}}},
		}}}}
		if err := s.store.Append(t.Context(), "prod-1", b); err != nil {
			t.Fatal(err)
		}
	}
	s.at(71 * time.Second)
	s.expect("firing", "none")
	s.at(131 * time.Second)
	s.expect("firing", "shop info")
	s.expect("explanation", "the number of events matching BackOff in 1m was 17")
}

func (s *scene) policyRow(name string) (row meta.Resource) {
	s.t.Helper()
	if err := s.meta.View(context.Background(), func(tx *meta.Tx) (err error) { row, err = tx.Resource(meta.KindPolicy, "default", name); return err }); err != nil {
		s.t.Fatal(err)
	}
	return row
}
