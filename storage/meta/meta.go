// Package meta owns what must never be lost and is small: clusters, tokens,
// policies and targets, alerts with their latches, incidents, and the outbox. A
// commit is on the disk when it returns. It must not know what a policy means,
// how an alert is evaluated or how a notification is sent; it keeps their JSON.
package meta

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	driver "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/sqlite"
)

//go:embed migrations/*.sql
var migrations embed.FS

// DB is the store. It is safe for concurrent use.
type DB struct {
	sql *sql.DB
	// writing queues writers in the process: SQLite's own queue polls, which
	// would add milliseconds between an alert and its notification.
	writing sync.Mutex
}

// Open opens or makes the file. A file of a newer version is refused with
// sqlite.ErrNewerSchema.
func Open(path string) (*DB, error) {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, fmt.Errorf("open meta store: %w", err)
	}
	db, err := sqlite.Open(path, sub, sqlite.Durable())
	if err != nil {
		return nil, fmt.Errorf("open meta store: %w", err)
	}
	return &DB{sql: db}, nil
}

// OpenScratch opens a file that nobody needs after a power cut, as a backtest's.
func OpenScratch(path string) (*DB, error) {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, fmt.Errorf("open scratch store: %w", err)
	}
	db, err := sqlite.Open(path, sub)
	if err != nil {
		return nil, fmt.Errorf("open scratch store: %w", err)
	}
	return &DB{sql: db}, nil
}

// Close closes the file; what was committed is there at the next Open.
func (db *DB) Close() error { return db.sql.Close() }

// Tx is one transaction. It must not be used after the function that got it
// has returned, nor by two goroutines.
type Tx struct {
	ctx context.Context
	tx  *sql.Tx
}

// Update runs fn in a transaction and commits it durably. Any error takes
// everything back. fn must not call Update: it would wait for itself. A full or
// unwritable disk is fault.ErrUnavailable.
func (db *DB) Update(ctx context.Context, fn func(tx *Tx) error) error {
	db.writing.Lock()
	defer db.writing.Unlock()
	return db.run(ctx, fn, false)
}

// View runs fn on one consistent state. fn must not write.
func (db *DB) View(ctx context.Context, fn func(tx *Tx) error) error {
	return db.run(ctx, fn, true)
}

func (db *DB) run(ctx context.Context, fn func(tx *Tx) error, readOnly bool) (err error) {
	tx, err := db.sql.BeginTx(ctx, &sql.TxOptions{ReadOnly: readOnly})
	if err != nil {
		return classify("begin", err)
	}
	defer func() {
		// Also after a panic in fn. After a commit it does nothing.
		if e := tx.Rollback(); e != nil && !errors.Is(e, sql.ErrTxDone) && ctx.Err() == nil {
			err = errors.Join(err, classify("roll back", e))
		}
	}()
	if err := fn(&Tx{ctx: ctx, tx: tx}); err != nil {
		return err
	}
	if readOnly {
		return nil
	}
	if err := tx.Commit(); err != nil {
		return classify("commit", err)
	}
	return nil
}

// classify gives driver errors the kind that a caller can act on.
func classify(what string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("%s: %w", what, fault.ErrNotFound)
	}
	var e *driver.Error
	if errors.As(err, &e) {
		switch e.Code() & 0xff { // the low byte is the kind, the rest its detail
		case lib.SQLITE_FULL, lib.SQLITE_READONLY, lib.SQLITE_IOERR, lib.SQLITE_CANTOPEN, lib.SQLITE_BUSY:
			return fmt.Errorf("%s: %w: %w", what, fault.ErrUnavailable, err)
		case lib.SQLITE_CONSTRAINT:
			return fmt.Errorf("%s: %w: %w", what, fault.ErrConflict, err)
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (tx *Tx) exec(what, query string, args ...any) (int64, error) {
	res, err := tx.tx.ExecContext(tx.ctx, query, args...)
	if err != nil {
		return 0, classify(what, err)
	}
	n, err := res.RowsAffected()
	return n, classify(what, err)
}

// scanner is a row or the current row of several.
type scanner interface{ Scan(dest ...any) error }

func one[T any](tx *Tx, what string, scan func(scanner) (T, error), query string, args ...any) (T, error) {
	v, err := scan(tx.tx.QueryRowContext(tx.ctx, query, args...))
	return v, classify(what, err)
}

func all[T any](tx *Tx, what string, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	rows, err := tx.tx.QueryContext(tx.ctx, query, args...)
	if err != nil {
		return nil, classify(what, err)
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, classify(what, err)
		}
		out = append(out, v)
	}
	return out, classify(what, rows.Err())
}

// millis stores a time; the zero time is NULL.
func millis(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMilli()
}

func fromMillis(n sql.NullInt64) time.Time {
	if !n.Valid {
		return time.Time{}
	}
	return time.UnixMilli(n.Int64).UTC()
}

func encodeLabels(l map[string]string) (string, error) {
	if l == nil {
		return "{}", nil
	}
	b, err := json.Marshal(l)
	return string(b), err
}

func decodeLabels(s string) (map[string]string, error) {
	var l map[string]string
	err := json.Unmarshal([]byte(s), &l)
	return l, err
}
