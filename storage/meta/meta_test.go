package meta

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var t0 = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

func open(t *testing.T) *DB {
	t.Helper()
	db, err := Open(filepath.Join(t.TempDir(), "meta.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func TestTokens(t *testing.T) {
	db, ctx := open(t), context.Background()
	hash := sha256.Sum256([]byte("secret"))
	tok := Token{ID: "tok_1", Kind: TokenIngest, Name: "prod", Cluster: "prod-1", Hash: hash[:], CreatedAt: t0}
	if err := db.CreateToken(ctx, tok); err != nil {
		t.Fatal(err)
	}
	if err := db.CreateToken(ctx, tok); !errors.Is(err, fault.ErrConflict) {
		t.Errorf("twice: %v, want conflict", err)
	}
	if err := db.CreateToken(ctx, Token{ID: "x", Kind: TokenIngest, Hash: []byte{1}}); !errors.Is(err, fault.ErrInvalid) {
		t.Errorf("ingest token without a cluster: %v, want invalid", err)
	}
	got, err := db.TokenByHash(ctx, hash[:])
	if err != nil || got.Cluster != "prod-1" || !got.LastUsedAt.IsZero() || !got.CreatedAt.Equal(t0) {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := db.TouchToken(ctx, "tok_1", t0.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if all, err := db.ListTokens(ctx); err != nil || len(all) != 1 || !all[0].LastUsedAt.Equal(t0.Add(time.Minute)) {
		t.Errorf("got %+v, %v", all, err)
	}
	if err := db.DeleteToken(ctx, "tok_1"); err != nil {
		t.Fatal(err)
	}
	if err := db.DeleteToken(ctx, "tok_1"); !errors.Is(err, fault.ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	if _, err := db.TokenByHash(ctx, hash[:]); !errors.Is(err, fault.ErrNotFound) {
		t.Errorf("after revocation: %v, want not found", err)
	}
}

func TestClusters(t *testing.T) {
	db, ctx := open(t), context.Background()
	if err := db.UpsertCluster(ctx, ClusterRow{ID: "b", CreatedAt: t0, Labels: map[string]string{"env": "prod"}}); err != nil {
		t.Fatal(err)
	}
	if err := db.UpsertCluster(ctx, ClusterRow{ID: "b", Name: "Bee", Kind: "edge", CreatedAt: t0.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	got, err := db.GetCluster(ctx, "b")
	if err != nil || got.Name != "Bee" || got.Kind != "edge" || !got.CreatedAt.Equal(t0) || len(got.Labels) != 0 {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := db.CreateToken(ctx, Token{ID: "t", Kind: TokenIngest, Cluster: "b", Hash: []byte{1}, CreatedAt: t0}); err != nil {
		t.Fatal(err)
	}
	settings := Resource{ID: "set_1", Kind: KindClusterSettings, Project: "default", Name: "b", Spec: json.RawMessage(`{}`), CreatedAt: t0, UpdatedAt: t0}
	if err := db.Update(ctx, func(tx *Tx) error { return tx.CreateResource(settings) }); err != nil {
		t.Fatal(err)
	}
	if err := db.DeleteCluster(ctx, "b"); err != nil {
		t.Fatal(err)
	}
	if all, _ := db.ListTokens(ctx); len(all) != 0 {
		t.Errorf("the deleted cluster's tokens still work: %v", all)
	}
	if err := db.View(ctx, func(tx *Tx) error { _, err := tx.Resource(KindClusterSettings, "default", "b"); return err }); !errors.Is(err, fault.ErrNotFound) {
		t.Errorf("the deleted cluster's settings: %v", err)
	}
	if _, err := db.GetCluster(ctx, "b"); !errors.Is(err, fault.ErrNotFound) {
		t.Errorf("got %v, want not found", err)
	}
}

func TestResourceRevisions(t *testing.T) {
	db, ctx := open(t), context.Background()
	r := Resource{ID: "pol_1", Kind: KindPolicy, Project: "default", Name: "cart", Spec: json.RawMessage(`{}`), ManagedBy: "console", CreatedAt: t0, UpdatedAt: t0}
	err := db.Update(ctx, func(tx *Tx) error { return tx.CreateResource(r) })
	if err != nil {
		t.Fatal(err)
	}
	twice := r
	twice.ID = "pol_2"
	if err := db.Update(ctx, func(tx *Tx) error { return tx.CreateResource(twice) }); !errors.Is(err, fault.ErrConflict) {
		t.Errorf("a taken name: %v, want conflict", err)
	}
	update := func(from int64) (rev int64, err error) {
		err = db.Update(ctx, func(tx *Tx) error {
			r.Revision = from
			rev, err = tx.UpdateResource(r)
			return err
		})
		return rev, err
	}
	if rev, err := update(1); err != nil || rev != 2 {
		t.Errorf("got %d, %v", rev, err)
	}
	if _, err := update(1); !errors.Is(err, fault.ErrConflict) {
		t.Errorf("an old revision: %v, want conflict", err)
	}
}

func TestOutboxKeepsOrderWithinAThread(t *testing.T) {
	db, ctx := open(t), context.Background()
	put := func(id, incident, target, typ string) {
		t.Helper()
		err := db.Update(ctx, func(tx *Tx) error {
			return tx.Enqueue(Notification{ID: id, IncidentID: incident, TargetID: target, Type: typ, Body: []byte(id), CreatedAt: t0, NextAt: t0, GiveUpAt: t0.Add(time.Hour)})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	heads := func() (ids string) {
		t.Helper()
		err := db.View(ctx, func(tx *Tx) error {
			targets, err := tx.PendingTargets()
			if err != nil {
				return err
			}
			for _, target := range targets {
				hs, err := tx.Heads(target, "", 10)
				if err != nil {
					return err
				}
				for _, h := range hs {
					ids += h.ID + " "
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	put("a1", "a", "x", "incident.firing")
	put("a2", "a", "x", "incident.updated")
	put("a3", "a", "x", "incident.resolved")
	put("b1", "b", "x", "incident.firing")
	put("a4", "a", "y", "incident.firing")
	if got := heads(); got != "a1 b1 a4 " {
		t.Errorf("got %q: one head for each incident and target", got)
	}
	err := db.Update(ctx, func(tx *Tx) error {
		n, err := tx.Notification("a1")
		if err != nil {
			return err
		}
		if err := tx.Supersede("a", "x", "incident.updated", t0); err != nil {
			return err
		}
		n.State, n.Attempts, n.Maybe, n.DoneAt = NotificationDelivered, 1, true, t0
		return tx.SaveAttempt(n, Attempt{NotificationID: "a1", At: t0, Took: time.Second, Result: "delivered", Status: 200})
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := heads(); got != "a3 b1 a4 " {
		t.Errorf("got %q, want the superseded one left out", got)
	}
	err = db.View(ctx, func(tx *Tx) error {
		for id, want := range map[string]bool{"a3": true, "b1": false} {
			n, err := tx.Notification(id)
			if err != nil {
				return err
			}
			if told, err := tx.MaybeTold(n); err != nil || told != want {
				t.Errorf("%s: told before = %v, %v", id, told, err)
			}
		}
		as, err := tx.Attempts("a1")
		if len(as) != 1 || as[0].Took != time.Second || as[0].Status != 200 {
			t.Errorf("got %+v", as)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestUpdateTakesEverythingBack(t *testing.T) {
	db, ctx := open(t), context.Background()
	wrong := errors.New("wrong")
	err := db.Update(ctx, func(tx *Tx) error {
		if err := tx.UpsertCluster(ClusterRow{ID: "a", CreatedAt: t0}); err != nil {
			return err
		}
		return wrong
	})
	if !errors.Is(err, wrong) {
		t.Fatal(err)
	}
	func() {
		defer func() { _ = recover() }()
		_ = db.Update(ctx, func(tx *Tx) error {
			_ = tx.UpsertCluster(ClusterRow{ID: "b", CreatedAt: t0})
			panic("bug in a caller")
		})
	}()
	if all, err := db.ListClusters(ctx); err != nil || len(all) != 0 {
		t.Errorf("got %v, %v, want nothing", all, err)
	}
	if err := db.UpsertCluster(ctx, ClusterRow{ID: "c", CreatedAt: t0}); err != nil {
		t.Errorf("the next writer must not wait forever: %v", err)
	}
}

func TestOneFiringAlertPerPolicyAndObject(t *testing.T) {
	db, ctx := open(t), context.Background()
	put := func(id, state string) error {
		return db.Update(ctx, func(tx *Tx) error {
			if err := tx.PutIncident(Incident{ID: "inc_1", GroupKey: "g", Cluster: "c", State: IncidentOpen, StartedAt: t0, Data: json.RawMessage("{}")}); err != nil {
				return err
			}
			a := Alert{ID: id, PolicyID: "p", IncidentID: "inc_1", Cluster: "c", Key: "k", State: state, StartedAt: t0, Data: json.RawMessage("{}")}
			if state == AlertEnded {
				a.EndedAt = t0.Add(time.Minute)
			}
			return tx.PutAlert(a)
		})
	}
	if err := put("alt_1", AlertFiring); err != nil {
		t.Fatal(err)
	}
	if err := put("alt_2", AlertFiring); !errors.Is(err, fault.ErrConflict) {
		t.Errorf("a second firing alert for the same object: %v, want conflict", err)
	}
	if err := put("alt_1", AlertEnded); err != nil {
		t.Fatal(err)
	}
	if err := put("alt_2", AlertFiring); err != nil {
		t.Errorf("after the first has ended: %v", err)
	}
}

func TestLateRanges(t *testing.T) {
	t.Parallel()
	db := open(t)
	at := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	round := func(cluster, sender string, minute int, reason string) SkippedRound {
		return SkippedRound{Cluster: cluster, Sender: sender, At: at.Add(time.Duration(minute) * time.Minute), Reason: reason, ArrivedAt: at.Add(time.Hour + time.Duration(minute)*time.Second)}
	}
	ranges := func() (out []LateRange) {
		t.Helper()
		if err := db.View(t.Context(), func(tx *Tx) (err error) { out, err = tx.LateRanges(); return err }); err != nil {
			t.Fatal(err)
		}
		return out
	}
	update := func(fn func(tx *Tx) error) {
		t.Helper()
		if err := db.Update(t.Context(), fn); err != nil {
			t.Fatal(err)
		}
	}
	update(func(tx *Tx) error {
		return tx.AddSkippedRounds([]SkippedRound{
			round("a", "node/1", 3, ReasonLate), round("a", "rollup", 5, ReasonLate), round("a", "node/1", 1, "order"), round("b", "all", 7, "overtaken"),
		})
	})
	want := LateRange{"a", at.Add(3 * time.Minute), at.Add(5 * time.Minute), at.Add(time.Hour + 3*time.Second), at.Add(time.Hour + 5*time.Second)}
	if got := ranges(); len(got) != 1 || got[0] != want {
		t.Fatalf("got %v, want %v", got, want)
	}
	// One that came while the others were stepped through is left for later.
	update(func(tx *Tx) error {
		if err := tx.AddSkippedRounds([]SkippedRound{round("a", "node/2", 9, ReasonLate)}); err != nil {
			return err
		}
		return tx.StepLate("a", want.LastArrived)
	})
	if got := ranges(); len(got) != 1 || !got[0].From.Equal(at.Add(9*time.Minute)) {
		t.Fatalf("got %v", got)
	}
	update(func(tx *Tx) error { return tx.StepLate("a", at.Add(2*time.Hour)) })
	if got := ranges(); len(got) != 0 {
		t.Fatalf("got %v", got)
	}
}
