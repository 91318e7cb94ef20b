package meta

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// ClusterRow is a cluster that this server knows. Its ID is the value of the
// cluster label and never changes.
type ClusterRow struct {
	ID        string
	Name      string // for people; the ID when none was given
	Kind      string // set by hand; empty: as detected
	Labels    map[string]string
	CreatedAt time.Time
}

const clusterColumns = "id, name, kind, labels, created_at"

func scanCluster(s scanner) (ClusterRow, error) {
	var c ClusterRow
	var labels string
	var created sql.NullInt64
	if err := s.Scan(&c.ID, &c.Name, &c.Kind, &labels, &created); err != nil {
		return c, err
	}
	c.CreatedAt = fromMillis(created)
	var err error
	c.Labels, err = decodeLabels(labels)
	return c, err
}

// UpsertCluster makes the cluster or changes its name, kind and labels. The
// time of creation of one that is there stays.
func (db *DB) UpsertCluster(ctx context.Context, c ClusterRow) error {
	return db.Update(ctx, func(tx *Tx) error { return tx.UpsertCluster(c) })
}

// UpsertCluster is as DB.UpsertCluster.
func (tx *Tx) UpsertCluster(c ClusterRow) error {
	if c.ID == "" || c.CreatedAt.IsZero() {
		return fmt.Errorf("save cluster: %w", fault.Field{Path: "id", Reason: "a cluster needs an id and its time of creation"})
	}
	if c.Name == "" {
		c.Name = c.ID
	}
	labels, err := encodeLabels(c.Labels)
	if err != nil {
		return fmt.Errorf("save cluster %q: %w", c.ID, err)
	}
	_, err = tx.exec("save cluster", `INSERT INTO clusters (`+clusterColumns+`) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, kind = excluded.kind, labels = excluded.labels`,
		c.ID, c.Name, c.Kind, labels, millis(c.CreatedAt))
	return err
}

// ListClusters gives all clusters by id.
func (db *DB) ListClusters(ctx context.Context) (out []ClusterRow, err error) {
	err = db.View(ctx, func(tx *Tx) error { out, err = tx.ListClusters(); return err })
	return out, err
}

// ListClusters is as DB.ListClusters.
func (tx *Tx) ListClusters() ([]ClusterRow, error) {
	return all(tx, "list clusters", scanCluster, "SELECT "+clusterColumns+" FROM clusters ORDER BY id")
}

// GetCluster gives one; fault.ErrNotFound when there is none.
func (db *DB) GetCluster(ctx context.Context, id string) (c ClusterRow, err error) {
	err = db.View(ctx, func(tx *Tx) error {
		c, err = one(tx, fmt.Sprintf("cluster %q", id), scanCluster, "SELECT "+clusterColumns+" FROM clusters WHERE id = ?", id)
		return err
	})
	return c, err
}

// DeleteCluster forgets a cluster, its ingest tokens and its settings; fault.ErrNotFound when
// there is none.
func (db *DB) DeleteCluster(ctx context.Context, id string) error {
	return db.Update(ctx, func(tx *Tx) error {
		n, err := tx.exec("delete cluster", "DELETE FROM clusters WHERE id = ?", id)
		if err != nil {
			return err
		}
		if n == 0 {
			return fault.Because(fault.ErrNotFound, fault.Missing, "cluster", id)
		}
		_, err = tx.exec("delete the cluster's tokens", "DELETE FROM tokens WHERE cluster = ?", id)
		if err != nil {
			return err
		}
		_, err = tx.exec("delete the cluster's settings", "DELETE FROM resources WHERE kind = ? AND name = ?", KindClusterSettings, id)
		return err
	})
}
