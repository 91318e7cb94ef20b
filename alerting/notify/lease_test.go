package notify

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// Of two outboxes on one database one sends. When another took the lease, what
// the first still made is refused; the other sends it, under the same id.
func TestTwoOutboxesOnOneDatabase(t *testing.T) {
	entered, release := make(chan string, 10), make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		entered <- r.Header.Get("webhook-id")
		<-release
	}))
	defer srv.Close()
	dir := t.TempDir()
	var dbs [2]*meta.DB
	for i := range dbs {
		db, err := meta.Open(filepath.Join(dir, "meta.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		dbs[i] = db
	}
	keyring, err := OpenKeyring(filepath.Join(dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	row := meta.Resource{ID: "tgt_1", Kind: meta.KindTarget, Project: "default", Name: "hook", ManagedBy: "console", CreatedAt: now, UpdatedAt: now, Revision: 1}
	if row.Spec, row.Sealed, err = Seal(keyring, "tgt_1", &Target{Spec: *hook(srv.URL).Spec}, Sealed{Secret: NewSecret()}); err != nil {
		t.Fatal(err)
	}
	if err := dbs[0].Update(context.Background(), func(tx *meta.Tx) error {
		if err := tx.CreateResource(row); err != nil {
			return err
		}
		return tx.Enqueue(meta.Notification{ID: "ntf_1", IncidentID: "inc_1", TargetID: "tgt_1", Type: "incident.firing", Body: []byte("x"), CreatedAt: now, NextAt: now, GiveUpAt: now.Add(time.Hour)})
	}); err != nil {
		t.Fatal(err)
	}
	run := func(holder string, db *meta.DB) (stop func()) {
		o, err := New(Options{Store: db, Holder: holder, Keyring: keyring, Allowed: loopback})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- o.Run(ctx) }()
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	stopA := run("a", dbs[0])
	if id := <-entered; id != "ntf_1" {
		t.Fatalf("sent %q", id)
	}
	// Somebody takes the lease while a waits for its answer.
	var l meta.Lease
	if err := dbs[1].Update(context.Background(), func(tx *meta.Tx) (err error) {
		l, _, err = tx.TakeLease(leaseName, "b", time.Now().Add(time.Minute), 0)
		return err
	}); err != nil || l.Token != 2 {
		t.Fatalf("got %+v, %v", l, err)
	}
	close(release)
	stopA()
	read := func() (n meta.Notification) {
		if err := dbs[1].View(context.Background(), func(tx *meta.Tx) (err error) { n, err = tx.Notification("ntf_1"); return err }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := read(); n.State != meta.NotificationPending || n.Attempts != 0 {
		t.Errorf("a stored what it had no right to: %+v", n)
	}
	stopB := run("b", dbs[1])
	defer stopB()
	select {
	case id := <-entered:
		if id != "ntf_1" {
			t.Errorf("sent %q", id)
		}
	case <-time.After(60 * time.Second):
		t.Fatal("b does not send")
	}
	for deadline := time.Now().Add(60 * time.Second); read().State != meta.NotificationDelivered; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("stays %+v", read())
		}
	}
}
