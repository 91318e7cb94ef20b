package metrics

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
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

// logged is told by the TSDB when a commit is in the log, and not in the head yet.
type logged func()

func (l logged) Notify() { l() }

// A start takes the samples of a series in the order of the log. So two senders of one series, of
// whom the second one's are older, are not in the log in one order and in the head in the other:
// the head would hold them all for samples in order, and a start drop the second one's.
func TestTheHeadTakesCommitsInTheOrderOfTheLog(t *testing.T) {
	for name, begin := range map[string]func(*DB, time.Time) storage.AppenderTransaction{
		"float": func(db *DB, at time.Time) storage.AppenderTransaction {
			app := db.Appender(t.Context())
			if _, err := app.Append(0, numbered("x", 0), at.UnixMilli(), 1); err != nil {
				t.Fatal(err)
			}
			return app
		},
		"newer interface": func(db *DB, at time.Time) storage.AppenderTransaction {
			app := db.AppenderV2(t.Context())
			if _, err := app.Append(0, numbered("x", 0), 0, at.UnixMilli(), 1, nil, nil, storage.AppendV2Options{}); err != nil {
				t.Fatal(err)
			}
			return app
		},
	} {
		t.Run(name, func(t *testing.T) {
			db := still(t, t.TempDir())
			put(t, db, numbered("x", 0), t0, 1)
			older, newer := begin(db, t0.Add(time.Second)), begin(db, t0.Add(2*time.Second))
			done := make(chan error, 1)
			var second atomic.Bool
			db.tsdb.SetWriteNotified(logged(func() {
				if second.Swap(true) {
					return
				}
				go func() { done <- older.Commit() }()
				select { // it overtakes, or waits
				case err := <-done:
					done <- err
				case <-time.After(100 * time.Millisecond):
				}
			}))
			if err := errors.Join(newer.Commit(), <-done); err != nil {
				t.Fatal(err)
			}
			if n := len(perTime(t, still(t, killedNow(t, db)), "x")); n != 3 {
				t.Errorf("%d of 3 acknowledged samples are there after a kill", n)
			}
		})
	}
}

// A late sample is in the head before it is in the log of such, so a second sender of it, who finds
// it there, is not told that it is stored before it is logged.
func TestALateSampleSentTwiceIsLoggedOnceAcknowledged(t *testing.T) {
	db := still(t, t.TempDir())
	const series, each = 1000, 30 // which take a while to insert
	late := t0.Add(-19 * time.Hour)
	put(t, db, numbered("first", 0), t0, 1)
	if err := send(db, "x", series, t0); err != nil {
		t.Fatal(err)
	}
	app := db.Appender(t.Context()).(*appender)
	_, err := app.AppendNewest(0, numbered("first", 0), late.UnixMilli(), 1) // all in one commit
	for n := 0; n < series*each && err == nil; n++ {
		_, err = app.AppendNewest(0, numbered("x", n%series), late.Add(time.Duration(n/series)*time.Second).UnixMilli(), 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- app.Commit() }()
	for began := time.Now(); samplesOf(t, db, "first", late) == 0; runtime.Gosched() {
		if time.Since(began) > 10*time.Second {
			t.Fatal("nothing is inserted")
		}
	}
	if err := sendOne(db, numbered("first", 0), late); err != nil {
		t.Fatal(err)
	}
	if size, err := db.lateLogBytes(); err != nil || size == 0 {
		t.Errorf("acknowledged, and the log of late samples has %d bytes: %v", size, err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
