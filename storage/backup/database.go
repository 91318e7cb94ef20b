package backup

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // registers the driver "sqlite"
)

// copyDatabase writes a consistent copy of a SQLite file that may be in use.
func copyDatabase(ctx context.Context, from, to string) (err error) {
	abs, err := filepath.Abs(from)
	if err != nil {
		return err
	}
	if _, err := os.Stat(abs); err != nil {
		return err // SQLite would make an empty one
	}
	// VACUUM INTO wants an empty file or none; this one only its owner can read.
	if err := writeSynced(to, nil); err != nil {
		return err
	}
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(abs), RawQuery: url.Values{"_pragma": {"busy_timeout(10000)"}}.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, "VACUUM INTO ?", to); err != nil {
		return err
	}
	return check(ctx, to)
}

// check has SQLite look through a file.
func check(ctx context.Context, path string) (err error) {
	abs, err := filepath.Abs(path) // what is relative would be read as a host
	if err != nil {
		return err
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: filepath.ToSlash(abs), RawQuery: "mode=ro"}).String())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var said string
	if err := db.QueryRowContext(ctx, "PRAGMA integrity_check").Scan(&said); err != nil {
		return err
	}
	if said != "ok" {
		return fmt.Errorf("%s is damaged: %s", path, said)
	}
	return nil
}
