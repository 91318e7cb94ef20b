package meta

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// Kinds of a token.
const (
	TokenAPI    = "api"
	TokenIngest = "ingest"
)

// Token is a credential. The token itself is never stored.
type Token struct {
	ID         string
	Kind       string // api | ingest
	Name       string
	Cluster    string // of an ingest token: the cluster label that it fixes
	Hash       []byte // SHA-256 of the token
	CreatedAt  time.Time
	LastUsedAt time.Time // zero: never
}

const tokenColumns = "id, kind, name, cluster, hash, created_at, last_used_at"

func scanToken(s scanner) (Token, error) {
	var t Token
	var created, used sql.NullInt64
	err := s.Scan(&t.ID, &t.Kind, &t.Name, &t.Cluster, &t.Hash, &created, &used)
	t.CreatedAt, t.LastUsedAt = fromMillis(created), fromMillis(used)
	return t, err
}

// CreateToken stores a token; fault.ErrConflict when its id or hash is there.
func (db *DB) CreateToken(ctx context.Context, t Token) error {
	if t.ID == "" || len(t.Hash) == 0 || (t.Kind != TokenAPI && t.Kind != TokenIngest) || (t.Kind == TokenIngest) != (t.Cluster != "") {
		return fmt.Errorf("create token: %w", fault.Field{Path: "kind", Reason: "an api token needs id and hash, an ingest token a cluster too", Value: t.Kind})
	}
	return db.Update(ctx, func(tx *Tx) error {
		_, err := tx.exec("create token", "INSERT INTO tokens ("+tokenColumns+") VALUES (?, ?, ?, ?, ?, ?, ?)",
			t.ID, t.Kind, t.Name, t.Cluster, t.Hash, millis(t.CreatedAt), millis(t.LastUsedAt))
		return err
	})
}

// ListTokens gives all tokens, the oldest first.
func (db *DB) ListTokens(ctx context.Context) (out []Token, err error) {
	err = db.View(ctx, func(tx *Tx) error {
		out, err = all(tx, "list tokens", scanToken, "SELECT "+tokenColumns+" FROM tokens ORDER BY created_at, id")
		return err
	})
	return out, err
}

// TokenByHash finds the token of a credential; fault.ErrNotFound when there is
// none.
func (db *DB) TokenByHash(ctx context.Context, hash []byte) (t Token, err error) {
	err = db.View(ctx, func(tx *Tx) error {
		t, err = one(tx, "token", scanToken, "SELECT "+tokenColumns+" FROM tokens WHERE hash = ?", hash)
		return err
	})
	return t, err
}

// TouchToken notes when a token was used. A token that is gone is no error.
// Callers do so once a minute at most: each call waits for the disk.
func (db *DB) TouchToken(ctx context.Context, id string, at time.Time) error {
	return db.Update(ctx, func(tx *Tx) error {
		_, err := tx.exec("touch token", "UPDATE tokens SET last_used_at = ? WHERE id = ?", millis(at), id)
		return err
	})
}

// DeleteToken revokes a token; fault.ErrNotFound when there is none.
func (db *DB) DeleteToken(ctx context.Context, id string) error {
	return db.Update(ctx, func(tx *Tx) error {
		n, err := tx.exec("delete token", "DELETE FROM tokens WHERE id = ?", id)
		if err == nil && n == 0 {
			err = fault.Because(fault.ErrNotFound, fault.Missing, "token", id)
		}
		return err
	})
}
