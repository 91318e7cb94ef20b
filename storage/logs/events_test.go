package logs

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

func events(id string, at time.Time, uids ...string) *wire.LogBatch {
	g := wire.LogGroup{Stream: wire.LogStream{Namespace: "shop", Stream: wire.StreamEvents}}
	for i, uid := range uids {
		g.Lines = append(g.Lines, wire.LogLine{Time: at.Add(time.Duration(i)).UnixNano(), Message: "Back-off", Fields: wire.FieldsOf(map[string]string{"uid": uid, "count": "1"})})
	}
	return &wire.LogBatch{Sender: "cluster", ID: id, Groups: []wire.LogGroup{g}}
}

// A replica that takes over lists the events of the last hour in batches of its
// own; each is stored once, over restarts of the server, too.
func TestEventsAreStoredOnceWhoeverSendsThem(t *testing.T) {
	dir, at := t.TempDir(), dayStart()
	s := open(t, dir)
	appendOK(t, s, "c1", events("a", at, "e1", "e2", "e3"))
	appendOK(t, s, "c1", events("b", at, "e1", "e2", "e3"))
	appendOK(t, s, "c1", events("c", at, "e1", "e2", "e3", "e4", "e4"))
	more := events("d", at, "e2")
	more.Groups[0].Lines[0].Fields = wire.FieldsOf(map[string]string{"uid": "e2", "count": "2"}) // it happened again
	appendOK(t, s, "c1", more)
	appendOK(t, s, "c2", events("a", at, "e1"))
	if n := count(t, s, "c1"); n != 5 {
		t.Errorf("%d events, want 4 and a repeated one", n)
	}
	if n := testutil.ToFloat64(s.metrics.events); n != 3+4 {
		t.Errorf("counted %v doubles, want 7", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	appendOK(t, s, "c1", events("e", at, "e1", "e2", "e3", "e4", "e5"))
	if n := count(t, s, "c1"); n != 6 {
		t.Errorf("%d events after a restart, want one more", n)
	}
	// Lines of containers are not events, whatever their fields say.
	b := batch("f", at, "x", "x")
	for i := range b.Groups[0].Lines {
		b.Groups[0].Lines[i].Fields = wire.FieldsOf(map[string]string{"uid": "e1", "count": "1"})
	}
	appendOK(t, s, "c1", b)
	if n := count(t, s, "c1"); n != 8 {
		t.Errorf("%d rows, want the two lines, too", n)
	}
}

// Another replica's batches come while those of the one before are not committed.
func TestEventsNotCommittedYet(t *testing.T) {
	s, at := open(t, t.TempDir(), func(o *Options) { o.CommitInterval = 2 * time.Second }), dayStart()
	appendOK(t, s, "c1", batch("first", at, "the next commit is an interval away"))
	uids := make([]string, 500)
	for i := range uids {
		uids[i] = fmt.Sprint("uid-", i)
	}
	errs := make(chan error)
	for i := range 4 {
		go func() { errs <- s.Append(t.Context(), "c1", events(fmt.Sprint("batch-", i), at, uids...)) }()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	if n := count(t, s, "c1"); n != len(uids)+1 {
		t.Errorf("%d events, want %d", n, len(uids))
	}
}
