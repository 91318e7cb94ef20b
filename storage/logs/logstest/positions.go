package logstest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/logs"
)

// taken is a batch that brings a container from one line to another.
func taken(id, key string, at time.Time, from, to int64) *wire.LogBatch {
	var lines []string
	for i := from; i < to; i++ {
		lines = append(lines, fmt.Sprintf("line %d of %s", i, key))
	}
	b := Batch(id, at, lines...)
	b.Positions = []wire.LogPosition{{LogSource: wire.LogSource{Key: key, Namespace: "shop", Pod: "cart-1", Container: "app"}, From: from, Taken: to, State: fmt.Sprintf(`{"line":%d}`, to)}}
	return b
}

// Whoever asks learns how far a container was taken, over a restart too, and nobody
// begins before that.
func (f fixture) positionsAreKeptWithTheLines(t *testing.T) {
	open := f.engine(t)
	s := open()
	now := time.Now().UTC()
	if now.Truncate(day).Equal(now.Add(-time.Minute).Truncate(day)) {
		now = now.Add(-time.Minute)
	}
	long := now.Add(-30 * time.Hour) // far from midnight or not, a batch lies in one day
	if long.Truncate(day) != long.Add(time.Second).Truncate(day) {
		long = long.Add(-time.Minute)
	}
	source := func(key string) wire.LogSource {
		return wire.LogSource{Key: key, Namespace: "shop", Pod: "cart-1", Container: "app"}
	}
	check := func(s *logs.Store, want map[string]int64) {
		t.Helper()
		got, err := s.Positions(t.Context(), "prod", []wire.LogSource{source("new/app"), source("old/app"), source("none/app"), {Key: "new/other", Namespace: "shop", Pod: "cart-1", Container: "other"}})
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(want) {
			t.Errorf("got %+v, want %v", got, want)
		}
		for _, p := range got {
			if p.Taken != want[p.Key] || p.State != fmt.Sprintf(`{"line":%d}`, want[p.Key]) || p.Pod != "cart-1" {
				t.Errorf("got %+v, want line %d", p, want[p.Key])
			}
		}
	}
	check(s, map[string]int64{})
	// A pod of a StatefulSet keeps its name; what was before it was long silent.
	var together sync.WaitGroup
	together.Go(func() { appendOK(t, s, "prod", taken("1", "old/app", long, 0, 12)) })
	together.Go(func() { appendOK(t, s, "prod", taken("2", "new/app", now, 0, 3)) })
	together.Wait()
	appendOK(t, s, "prod", taken("3", "new/app", now.Add(-time.Second), 3, 20)) // a little out of order
	appendOK(t, s, "other", taken("4", "new/app", now, 0, 99))
	known := map[string]int64{"old/app": 12, "new/app": 20}
	check(s, known)

	late := taken("5", "new/app", now, 3, 7)
	for range 2 {
		if err := s.Append(t.Context(), "prod", late); !errors.Is(err, fault.ErrConflict) {
			t.Errorf("a batch from before what is stored: %v", err)
		}
	}
	appendOK(t, s, "prod", taken("3", "new/app", now.Add(-time.Second), 3, 20)) // the same again is the same
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open()
	if err := s.Append(t.Context(), "prod", late); !errors.Is(err, fault.ErrConflict) {
		t.Errorf("after a restart, a batch from before what is stored: %v", err)
	}
	check(s, known)
	appendOK(t, s, "prod", taken("6", "new/app", now.Add(time.Second), 25, 26)) // what was between was refused for good
	check(s, map[string]int64{"old/app": 12, "new/app": 26})
	if got := count(t, s, "prod"); got != 12+20+1 {
		t.Errorf("%d lines, want 33", got)
	}
	for _, r := range rows(t, s, logs.Query{Text: `* | field_names`, Clusters: []string{"prod"}}) {
		if name := r.Get("name"); len(name) > len(hiddenPrefix) && name[:len(hiddenPrefix)] == hiddenPrefix {
			t.Errorf("field %s is shown", name)
		}
	}
}

// Of two that read the same container at once, one batch is stored for each part.
func (f fixture) positionsOfTwoAtOnce(t *testing.T) {
	open := f.engine(t)
	s := open()
	at := dayStart()
	errs := make([]error, 8)
	var together sync.WaitGroup
	for i := range errs {
		together.Go(func() {
			errs[i] = s.Append(t.Context(), "prod", taken(fmt.Sprint("b", i), "k/app", at.Add(time.Duration(i)*time.Second), 0, int64(5+i)))
		})
	}
	together.Wait()
	stored := -1
	for i, err := range errs {
		switch {
		case err == nil && stored < 0:
			stored = i
		case err == nil || !errors.Is(err, fault.ErrConflict):
			t.Errorf("batch %d: %v, after batch %d was stored", i, err, stored)
		}
	}
	if got := count(t, s, "prod"); stored < 0 || got != 5+stored {
		t.Errorf("%d lines, batch %d was stored", got, stored)
	}
}

// A node's collector says how far it came, and is refused by nobody's position; who comes
// after it learns the newest, and is refused before that, over a restart too.
func (f fixture) positionsOfNodes(t *testing.T) {
	open := f.engine(t)
	s := open()
	at := time.Now().UTC().Add(-2 * time.Second)
	if at.Truncate(day) != at.Add(3*time.Second).Truncate(day) {
		at = at.Add(-time.Minute)
	}
	source := []wire.LogSource{{Key: "k/app", Namespace: "shop", Pod: "cart-1", Container: "app"}}
	said := func(id string, row time.Time, taken int64) *wire.LogBatch {
		b := Batch(id, row, "line "+id)
		b.Sender = "node/n1"
		b.Positions = []wire.LogPosition{{LogSource: source[0], From: taken, Taken: taken, State: fmt.Sprintf(`{"line":%d}`, taken)}}
		return b
	}
	check := func(s *logs.Store, want int64) {
		t.Helper()
		got, err := s.Positions(t.Context(), "prod", source)
		if err != nil || len(got) != 1 || got[0].Taken != want || got[0].State != fmt.Sprintf(`{"line":%d}`, want) {
			t.Errorf("got %+v, %v; want %d", got, err, want)
		}
	}
	appendOK(t, s, "prod", taken("1", "k/app", at, 0, 12))
	appendOK(t, s, "prod", said("2", at.Add(10*time.Millisecond), at.Add(10*time.Millisecond).UnixNano()))
	appendOK(t, s, "prod", said("3", at.Add(time.Millisecond), at.Add(10*time.Millisecond).UnixNano()+1)) // a record that was open for longer
	newest := at.Add(10*time.Millisecond).UnixNano() + 1
	check(s, newest)
	if err := s.Append(t.Context(), "prod", taken("4", "k/app", at, 3, 7)); !errors.Is(err, fault.ErrConflict) {
		t.Errorf("a batch from before what others claimed: %v", err)
	}
	unheard := taken("5", "k/app", at, 12, 13) // of one who did not hear of the node's collector
	if err := s.Append(t.Context(), "prod", unheard); !errors.Is(err, fault.ErrConflict) {
		t.Errorf("a batch from before what the node's collector took: %v", err)
	}
	check(s, newest)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open()
	if err := s.Append(t.Context(), "prod", unheard); !errors.Is(err, fault.ErrConflict) {
		t.Errorf("after a restart, a batch from before what the node's collector took: %v", err)
	}
	check(s, newest)
	appendOK(t, s, "prod", taken("6", "k/app", at.Add(20*time.Millisecond), newest, newest+2))
	check(s, newest+2)
	appendOK(t, s, "prod", said("7", at.Add(30*time.Millisecond), at.Add(30*time.Millisecond).UnixNano()))
	check(s, at.Add(30*time.Millisecond).UnixNano())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open()
	check(s, at.Add(30*time.Millisecond).UnixNano())
	if got := count(t, s, "prod"); got != 12+2+2+1 {
		t.Errorf("%d lines, want 17", got)
	}
}
