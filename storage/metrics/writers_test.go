package metrics

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// A head is compacted only once those who are writing into what becomes the block are
// done: what they commit after that would go with the head.
func TestACompactionWaitsForWriters(t *testing.T) {
	db := open(t, Options{Dir: t.TempDir(), CheckEvery: time.Hour, BlockRange: time.Hour})
	<-db.settled
	const series = 100
	at := t0.Add(10 * time.Minute)
	ls := make([]labels.Labels, series)
	for i := range ls {
		ls[i] = labels.FromStrings(labels.MetricName, "x", "n", strconv.Itoa(i))
		put(t, db, ls[i], t0, 1)
	}
	app := db.Appender(context.Background())
	for _, l := range ls {
		if _, err := app.Append(0, l, at.UnixMilli(), 2); err != nil {
			t.Fatal(err)
		}
	}
	// Another sender is hours further, so that the head is due.
	put(t, db, labels.FromStrings(labels.MetricName, "y"), t0.Add(3*time.Hour), 1)
	done := make(chan error, 1)
	go func() { done <- db.compact(context.Background()) }()
	select {
	case err := <-done:
		t.Fatalf("the head was compacted while somebody wrote into it: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	q, err := db.Querier(at.UnixMilli(), at.UnixMilli())
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	n := 0
	set := q.Select(t.Context(), false, nil, labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, "x"))
	for set.Next() {
		for it := set.At().Iterator(nil); it.Next() != chunkenc.ValNone; {
			n++
		}
	}
	if n != series || set.Err() != nil {
		t.Errorf("%d of %d samples that were acknowledged are there, %v", n, series, set.Err())
	}
}
