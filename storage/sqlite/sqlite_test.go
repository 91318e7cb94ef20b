package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func migrations(bodies ...string) fstest.MapFS {
	out := fstest.MapFS{}
	for i, b := range bodies {
		name := "0000" + string(rune('1'+i)) + "_step.sql"
		out[name] = &fstest.MapFile{Data: []byte("-- +goose Up\n" + b + "\n")}
	}
	return out
}

const (
	first  = "CREATE TABLE a (id INTEGER PRIMARY KEY);"
	second = "ALTER TABLE a ADD COLUMN name TEXT NOT NULL DEFAULT 'none';"
)

func TestOpenMigratesAndKeepsData(t *testing.T) {
	path := filepath.Join(t.TempDir(), "odd name?#%.db")
	db, err := Open(path, migrations(first))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("INSERT INTO a (id) VALUES (7)"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to migrate
		db, err = Open(path, migrations(first, second))
		if err != nil {
			t.Fatal(err)
		}
		var name string
		if err := db.QueryRow("SELECT name FROM a WHERE id = 7").Scan(&name); err != nil || name != "none" {
			t.Errorf("got %q, %v, want the row of before with the new column", name, err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenRefusesNewerSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	db, err := Open(path, migrations(first, second))
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	_, err = Open(path, migrations(first))
	if !errors.Is(err, ErrNewerSchema) {
		t.Fatalf("got %v, want ErrNewerSchema", err)
	}
	for _, want := range []string{"version 2", "up to 1", "restore a backup"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
}

func TestOpenUndoesAFailedMigration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	if _, err := Open(path, migrations(first, "CREATE TABLE b (id INTEGER); CREATE TABLE a (id INTEGER);")); err == nil {
		t.Fatal("a migration that fails must fail the start")
	}
	db, err := Open(path, migrations(first))
	if err != nil {
		t.Fatalf("what was there before the failure must open: %v", err)
	}
	defer db.Close()
	var n int
	if err := db.QueryRow("SELECT count(*) FROM sqlite_master WHERE name = 'b'").Scan(&n); err != nil || n != 0 {
		t.Errorf("half of the failed migration stayed: %d tables, %v", n, err)
	}
}

func TestPragmas(t *testing.T) {
	for name, tc := range map[string]struct {
		options []Option
		want    string
	}{
		"durable": {[]Option{Durable()}, "2"},
		"default": {nil, "1"},
	} {
		t.Run(name, func(t *testing.T) {
			db, err := Open(filepath.Join(t.TempDir(), "x.db"), migrations(first), tc.options...)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": tc.want, "foreign_keys": "1", "busy_timeout": "10000"} {
				var got string
				if err := db.QueryRow("PRAGMA " + pragma).Scan(&got); err != nil || got != want {
					t.Errorf("%s = %q, %v, want %q", pragma, got, err, want)
				}
			}
		})
	}
}

func TestReadersDoNotWaitForAWriter(t *testing.T) {
	db, err := Open(filepath.Join(t.TempDir(), "x.db"), migrations(first))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec("INSERT INTO a (id) VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	ro, err := db.BeginTx(context.Background(), &sql.TxOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer ro.Rollback()
	var n int
	if err := ro.QueryRow("SELECT count(*) FROM a").Scan(&n); err != nil || n != 0 {
		t.Errorf("got %d, %v, want what was committed", n, err)
	}
}

func TestFilesAreTheOwnersAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	db, err := Open(path, migrations(first))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) < 2 {
		t.Fatalf("files are %q, %v, want the database and what SQLite keeps beside it", files, err)
	}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != 0o600 {
			t.Errorf("%s has mode %o, want 600", filepath.Base(f), got)
		}
	}
}
