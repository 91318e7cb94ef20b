// Package sqlite opens SQLite files the way all of our stores need them:
// write-ahead log, foreign keys, immediate write transactions, and a schema
// brought up to date by embedded, numbered migrations. It must not know what the
// tables hold.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // registers the driver "sqlite"
)

// ErrNewerSchema says that the file was written by a newer version of the
// product. Nothing in it was changed.
var ErrNewerSchema = errors.New("schema is newer than this version of crowsnest")

// busyTimeout is how long a statement waits for another connection's write.
const busyTimeout = 10 * time.Second

// migrateTimeout bounds all migrations of one start together.
const migrateTimeout = 10 * time.Minute

type config struct{ synchronous string }

// Option changes how a file is opened.
type Option func(*config)

// Durable makes a commit wait until it is on the disk (synchronous=FULL), so
// that it also survives a power cut. Without it a commit survives the kill of
// the process only, and the last ones may be gone after a power cut; the file is
// never damaged either way.
func Durable() Option { return func(c *config) { c.synchronous = "FULL" } }

// Open opens the file, makes it when it is not there, and applies the *.sql
// migrations (goose's format, names like 00001_first.sql) that it does not have
// yet. A file that has more migrations than are given is refused with
// ErrNewerSchema. Transactions that are not read-only begin immediate, so two
// writers queue up instead of failing half-way.
func Open(path string, migrations fs.FS, options ...Option) (*sql.DB, error) {
	c := config{synchronous: "NORMAL"}
	for _, o := range options {
		o(&c)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if err := makePrivate(abs); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	q := url.Values{"_txlock": {"immediate"}}
	for _, pragma := range []string{
		// First, since the others may have to wait for a lock.
		fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()),
		"journal_mode(WAL)",
		"synchronous(" + c.synchronous + ")",
		"foreign_keys(ON)",
	} {
		q.Add("_pragma", pragma)
	}
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(abs), RawQuery: q.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	// More connections only contend for the one write lock; the rest read.
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(8)
	if err := migrate(db, migrations); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), db.Close())
	}
	return db, nil
}

// makePrivate makes sure that the file is there and that only its owner can
// read it: it may hold hashes of tokens and secrets of targets, and the folder
// may be open to others. SQLite gives the files beside it the same rights.
func makePrivate(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(0o600), f.Close())
}

func migrate(db *sql.DB, migrations fs.FS) error {
	ctx, cancel := context.WithTimeout(context.Background(), migrateTimeout)
	defer cancel()
	p, err := goose.NewProvider(goose.DialectSQLite3, db, migrations,
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	has, knows, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if has > knows {
		return fmt.Errorf("%w: it has version %d, this one knows up to %d; start the newer crowsnest again, or restore a backup from before the upgrade", ErrNewerSchema, has, knows)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate schema from version %d to %d: %w", has, knows, err)
	}
	return nil
}
