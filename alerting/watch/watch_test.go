package watch

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/notify"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/bubbletest"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sender notes what is sent, and fails while it is told to.
type sender struct {
	mu   sync.Mutex
	fail error
	got  []incident.Message
}

func (s *sender) Direct(_ context.Context, _ notify.Sealed, id, typ string, body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var m incident.Message
	if err := json.Unmarshal(body, &m); err != nil || m.ID != id || string(m.Type) != typ {
		return errors.New("malformed")
	}
	s.got = append(s.got, m)
	return s.fail
}

func (s *sender) take() (out []incident.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out, s.got = s.got, nil
	return out
}

func types(list []incident.Message) string {
	var out []string
	for _, m := range list {
		out = append(out, string(m.Type))
	}
	return strings.Join(out, " ")
}

type brokenRows struct{}

func (brokenRows) View(context.Context, func(*meta.Tx) error) error { return errors.New("disk full") }

func TestTargetsHearOfTheServer(t *testing.T) {
	dir := t.TempDir()
	db, err := meta.Open(filepath.Join(dir, "meta.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	keys, err := notify.OpenKeyring(filepath.Join(dir, "secrets.key"))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	every := policy.Duration(time.Minute)
	spec, sealed, err := notify.Seal(keys, "tgt_1", &notify.Target{Spec: notify.TargetSpec{Type: "webhook", URL: "https://x.example", Heartbeat: &notify.Heartbeat{Every: every}, SelfWatch: true}}, notify.Sealed{Secret: notify.NewSecret()})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(context.Background(), func(tx *meta.Tx) error {
		return tx.CreateResource(meta.Resource{ID: "tgt_1", Kind: meta.KindTarget, Project: "default", Name: "ops", Revision: 1, Spec: spec, Sealed: sealed, ManagedBy: "console", CreatedAt: now, UpdatedAt: now})
	}); err != nil {
		t.Fatal(err)
	}
	var trouble error
	var kept []byte
	s := &sender{}
	w, err := New(Options{
		Rows: db, Keyring: keys, Sender: s, Now: func() time.Time { return now }, Save: func(raw []byte) error { kept = raw; return nil },
		Checks: []Check{{Name: "log store", After: 30 * time.Second, Vital: true, Ask: func(context.Context) error { return trouble }}, {Name: "collectors", After: time.Hour, Ask: func(context.Context) error { return errors.New("edge-1 is away") }}},
	})
	if err != nil {
		t.Fatal(err)
	}
	step := func(want string) []incident.Message {
		t.Helper()
		w.look(t.Context())
		got := s.take()
		if types(got) != want {
			t.Fatalf("%s: sent %q, want %q", now.Format(time.TimeOnly), types(got), want)
		}
		now = now.Add(15 * time.Second)
		return got
	}
	step("heartbeat")
	step("")
	step("")
	step("")
	step("heartbeat")
	trouble = errors.New("it is read-only")
	step("")
	step("")
	s.fail = errors.New("no connection")
	first := step("incident.firing")
	// The table goes away too: whom to tell is still known.
	w.opts.Rows = brokenRows{}
	again := step("incident.firing")
	s.fail = nil
	last := step("incident.firing")
	if first[0].ID != again[0].ID || first[0].ID != last[0].ID || first[0].Sequence != last[0].Sequence || !strings.Contains(first[0].Incident.Title, "log store: it is read-only") {
		t.Errorf("got %+v, then %+v", first[0], last[0])
	}
	step("")
	trouble = nil
	end := step("incident.resolved heartbeat")
	if end[0].Incident.ID != first[0].Incident.ID || end[0].Incident.EndedAt == nil || end[0].Sequence <= first[0].Sequence {
		t.Errorf("got %+v", end[0])
	}
	// A restart neither tells what was told again, nor forgets to end it.
	w.opts.Rows, s.fail = db, nil
	trouble = errors.New("it is full")
	step("")
	step("")
	begun := step("incident.firing")[0]
	restart := func() {
		t.Helper()
		o := w.opts
		o.Load = func() ([]byte, error) { return kept, nil }
		if w, err = New(o); err != nil {
			t.Fatal(err)
		}
		w.started = now
		w.restore()
	}
	restart()
	step("") // no heartbeat: the part is vital
	step("")
	restart()
	trouble = nil
	step("heartbeat") // it may only not be found yet
	step("")
	step("")
	if over := step("incident.resolved")[0]; over.Incident.ID != begun.Incident.ID || over.Sequence <= begun.Sequence {
		t.Errorf("got %+v", over)
	}
	kept = []byte("{torn")
	restart()
	step("heartbeat")
	// Trouble that was over before anybody had to know is not told.
	trouble = errors.New("busy")
	step("")
	trouble = nil
	step("")
}

func TestAPartThatHangsIsInTrouble(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		s := &sender{}
		hang := make(chan struct{})
		w, err := New(Options{Rows: brokenRows{}, Keyring: &notify.Keyring{}, Sender: s, Checks: []Check{{Name: "evaluation", Ask: func(context.Context) error { <-hang; return nil }}}})
		if err != nil {
			t.Fatal(err)
		}
		w.targets = []target{{id: "tgt_1", Sealed: notify.Sealed{Spec: &notify.TargetSpec{SelfWatch: true}}}}
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() {
			if err := w.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(time.Minute) // of the bubble's clock
		if got := s.take(); types(got) != "incident.firing" || !strings.Contains(got[0].Incident.Title, "no answer within 5s") {
			t.Errorf("got %+v", got)
		}
		close(hang)
		time.Sleep(time.Minute)
		if got := s.take(); types(got) != "incident.resolved" {
			t.Errorf("got %s", types(got))
		}
		cancel()
		run.Wait()
	})
}
