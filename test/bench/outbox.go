package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/notify"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// outboxRows wait in the table when the outbox starts, in threads of two: a
// firing and its resolve.
const outboxRows = 100_000

// outboxDrain measures how fast what has piled up is delivered: the outbox of the
// server on a real database, to one webhook on loopback that takes everything.
func outboxDrain(ctx context.Context, b *bench) ([]Result, error) {
	db, err := meta.Open(filepath.Join(b.dir, "outbox.db"))
	if err != nil {
		return nil, err
	}
	defer db.Close()
	var taken atomic.Int64
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	srv := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		taken.Add(1)
		w.WriteHeader(http.StatusNoContent)
	})}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()

	keyring, err := notify.NewKeyring(make([]byte, 32))
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	if err := fillOutbox(ctx, db, keyring, "http://"+l.Addr().String()+"/hook", now); err != nil {
		return nil, err
	}
	box, err := notify.New(notify.Options{Store: db, Keyring: keyring, Allowed: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}})
	if err != nil {
		return nil, err
	}
	runCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	before, err := testbed.UsageOf(os.Getpid())
	if err != nil {
		return nil, err
	}
	began := time.Now()
	go func() { done <- box.Run(runCtx) }()
	left := outboxRows
	for left > 0 && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(250 * time.Millisecond):
		}
		if taken.Load() < outboxRows {
			continue
		}
		if err := db.View(ctx, func(tx *meta.Tx) error {
			rows, err := tx.PendingOf("tgt_bench", "", 1)
			left = len(rows)
			return err
		}); err != nil {
			break
		}
	}
	took := time.Since(began)
	after, err := testbed.UsageOf(os.Getpid())
	if err != nil {
		return nil, err
	}
	cancel()
	if err := <-done; err != nil {
		return nil, err
	}
	if left > 0 {
		return nil, fmt.Errorf("%d of %d rows were delivered: %w", taken.Load(), outboxRows, ctx.Err())
	}
	return []Result{{
		Name: "outbox_drain", Unit: "rows/s", Ours: outboxRows / took.Seconds(), Bar: ">= 500",
		Note: fmt.Sprintf("%d rows, a firing and a resolve of each incident in order, to one webhook on loopback in the same process; %d requests; %.0f CPU-s in all. %s",
			outboxRows, taken.Load(), (after.CPU - before.CPU).Seconds(), machine()),
	}}, nil
}

func fillOutbox(ctx context.Context, db *meta.DB, keyring *notify.Keyring, url string, now time.Time) error {
	target, err := notify.ParseTarget([]byte(fmt.Sprintf(`{"apiVersion":"crowsnest.dev/v1","kind":"Target","metadata":{"name":"bench"},"spec":{"type":"webhook","url":%q}}`, url)),
		nil, &notify.Guard{Allowed: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}})
	if err != nil {
		return err
	}
	row := meta.Resource{ID: "tgt_bench", Kind: meta.KindTarget, Project: policy.DefaultProject, Name: "bench", Revision: 1, ManagedBy: "file", CreatedAt: now, UpdatedAt: now}
	if row.Spec, row.Sealed, err = notify.Seal(keyring, row.ID, target, notify.Sealed{Secret: notify.NewSecret()}); err != nil {
		return err
	}
	if err := db.Update(ctx, func(tx *meta.Tx) error { return tx.CreateResource(row) }); err != nil {
		return err
	}
	const each = 5_000
	for from := 0; from < outboxRows/2; from += each {
		err := db.Update(ctx, func(tx *meta.Tx) error {
			for i := from; i < from+each; i++ {
				id := fmt.Sprintf("inc_%08d", i)
				for sequence, typ := range []incident.Type{incident.Firing, incident.Resolved} {
					n := fmt.Sprintf("ntf_%08d_%d", i, sequence)
					body, err := json.Marshal(map[string]any{"version": incident.Version, "id": n, "type": typ, "sequence": sequence + 1, "incident": map[string]any{"id": id, "title": "a pod is not ready"}})
					if err != nil {
						return err
					}
					if err := tx.Enqueue(meta.Notification{
						ID: n, IncidentID: id, TargetID: row.ID, Type: string(typ), Sequence: int64(sequence + 1), Body: body, CreatedAt: now, NextAt: now, GiveUpAt: now.Add(incident.GiveUpAfter),
					}); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
