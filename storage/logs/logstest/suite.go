package logstest

import (
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/logs"
	"github.com/crowsnest-dev/crowsnest/storage/logs/remote"
)

// Engine makes an engine without rows for one test, and gives what opens a store on
// it: again after a Close, too, with the same folder and rows. Stores are closed at
// the test's end.
type Engine func(t *testing.T) (open func(change ...func(*logs.Options)) *logs.Store)

// Run is what every store of log lines must do, wherever it keeps the rows. A line is
// to show in a tail soon after it came.
func Run(t *testing.T, engine Engine, soon time.Duration) {
	f := fixture{engine, soon}
	t.Run("appended lines are found with their fields", f.appendedLinesAreFoundWithTheirFields)
	t.Run("same batch is stored once", f.sameBatchIsStoredOnce)
	t.Run("batches without times come again", f.batchesWithoutTimesComeAgain)
	t.Run("forgotten batches are asked for", f.forgottenBatchesAreAskedFor)
	t.Run("lines outside the retention are dropped and counted", f.linesOutsideTheRetentionAreDroppedAndCounted)
	t.Run("what is dropped is told", f.whatIsDroppedIsTold)
	t.Run("what was too far ahead comes again", f.whatWasTooFarAheadComesAgain)
	t.Run("field bounds", f.fieldBounds)
	t.Run("hostile lines", f.hostileLines)
	t.Run("events are stored once whoever sends them", f.eventsAreStoredOnceWhoeverSendsThem)
	t.Run("events go on", f.eventsGoOn)
	t.Run("events not committed yet", f.eventsNotCommittedYet)
	t.Run("positions are kept with the lines", f.positionsAreKeptWithTheLines)
	t.Run("positions of two at once", f.positionsOfTwoAtOnce)
	t.Run("positions of nodes", f.positionsOfNodes)
	t.Run("delete cluster", f.deleteCluster)
	t.Run("a closed store says so", f.aClosedStoreSaysSo)
	t.Run("clusters are apart", f.clustersAreApart)
	t.Run("hidden fields stay hidden", f.hiddenFieldsStayHidden)
	t.Run("limit gives the newest", f.limitGivesTheNewest)
	t.Run("limit gives the newest of many streams", f.limitGivesTheNewestOfManyStreams)
	t.Run("wrong queries are invalid", f.wrongQueriesAreInvalid)
	t.Run("a cancelled query is no answer", f.aCancelledQueryIsNoAnswer)
	t.Run("hits and stats", f.hitsAndStats)
	t.Run("tail gives each line once and soon", f.tailGivesEachLineOnceAndSoon)
	t.Run("surroundings are the lines of the stream", f.surroundingsAreTheLinesOfTheStream)
	t.Run("export is complete and by time", f.exportIsCompleteAndByTime)
	t.Run("facets hide what is ours", f.facetsHideWhatIsOurs)
	t.Run("counts by window and object", f.countsByWindowAndObject)
	t.Run("counts occurrences", f.countsOccurrences)
	t.Run("counts share passes", f.countsSharePasses)
}

type fixture struct {
	engine Engine
	soon   time.Duration
}

// Opener gives what opens stores in a folder of the test's own. far makes the
// client of an engine elsewhere; nil where the rows are in the folder.
func Opener(t *testing.T, o logs.Options, far func() *remote.Client) func(change ...func(*logs.Options)) *logs.Store {
	o.Dir = t.TempDir()
	return func(change ...func(*logs.Options)) *logs.Store {
		t.Helper()
		o := o
		for _, c := range change {
			c(&o)
		}
		if far != nil {
			o.Remote = far()
		}
		s, err := logs.Open(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	}
}

const (
	day          = 24 * time.Hour
	hiddenPrefix = "__crowsnest_"
	fieldSender  = hiddenPrefix + "sender"
	fieldBatch   = hiddenPrefix + "batch"
)

// Counted reads a counter; label is the value of its only label, if it has one.
func Counted(t *testing.T, reg prometheus.Gatherer, name, label string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("there is no %s %s", name, label)
	return 0
}

// dayStart is a time early in the current UTC day, so that a batch of some
// minutes lies within one day; noon of yesterday, to be safe at any hour. It is the
// same throughout, though midnight may pass.
func dayStart() time.Time { return started.Truncate(day).Add(-12 * time.Hour) }

var started = time.Now().UTC()

// Batch is one of the sender node/n-1, of one container.
func Batch(id string, at time.Time, messages ...string) *wire.LogBatch {
	g := wire.LogGroup{Stream: wire.LogStream{
		Namespace: "shop", Pod: "cart-1", Container: "app", Stream: "stdout",
		WorkloadType: "deployment", Workload: "cart", Node: "n-1",
	}}
	for i, m := range messages {
		g.Lines = append(g.Lines, wire.LogLine{Time: at.Add(time.Duration(i) * time.Millisecond).UnixNano(), Message: m})
	}
	return &wire.LogBatch{Sender: "node/n-1", ID: id, Groups: []wire.LogGroup{g}}
}

func appendOK(t testing.TB, s *logs.Store, cluster string, b *wire.LogBatch) {
	t.Helper()
	if err := s.Append(t.Context(), cluster, b); err != nil {
		t.Fatal(err)
	}
}

func rows(t testing.TB, s *logs.Store, q logs.Query) []logs.Row {
	t.Helper()
	var out []logs.Row
	if err := s.Query(t.Context(), q, func(r logs.Row) error { out = append(out, r.Clone()); return nil }); err != nil {
		t.Fatalf("query %q: %v", q.Text, err)
	}
	return out
}

func messages(rs []logs.Row) []string {
	out := make([]string, len(rs))
	for i, r := range rs {
		out[i] = r.Get("_msg")
	}
	return out
}

func count(t testing.TB, s *logs.Store, cluster string) int {
	t.Helper()
	rs := rows(t, s, logs.Query{Text: "* | stats count() n", Clusters: []string{cluster}})
	n, err := strconv.Atoi(rs[0].Get("n"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func events(id string, at time.Time, uids ...string) *wire.LogBatch {
	g := wire.LogGroup{Stream: wire.LogStream{Namespace: "shop", Stream: wire.StreamEvents}}
	for i, uid := range uids {
		g.Lines = append(g.Lines, wire.LogLine{Time: at.Add(time.Duration(i)).UnixNano(), Message: "Back-off", Fields: wire.FieldsOf(map[string]string{"uid": uid, "count": "1"})})
	}
	return &wire.LogBatch{Sender: "cluster", ID: id, Groups: []wire.LogGroup{g}}
}
