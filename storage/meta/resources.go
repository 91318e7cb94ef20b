package meta

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// Kinds of a resource.
const (
	KindPolicy      = "Policy"
	KindTarget      = "Target"
	KindRoute       = "Route"
	KindSilence     = "Silence"
	KindMaintenance = "Maintenance"
	KindInhibition  = "Inhibition"
	KindBoard       = "Board"
	KindRuleGroups  = "RuleGroups"
	KindMetric      = "Metric"
	// KindClusterSettings is what the collectors of a cluster are told; its name is
	// the cluster's id.
	KindClusterSettings = "ClusterSettings"
)

// Resource is an object that a user wrote.
type Resource struct {
	ID        string
	Kind      string // Policy | Target | …
	Project   string
	Name      string // unique per kind and project
	Revision  int64  // from 1, one more with each change
	Labels    map[string]string
	Spec      json.RawMessage
	Sealed    []byte // secrets, encrypted by whoever owns the kind; nil: none
	ManagedBy string
	CreatedAt time.Time
	UpdatedAt time.Time
	UpdatedBy string
}

const resourceColumns = "id, kind, project, name, revision, labels, spec, sealed, managed_by, created_at, updated_at, updated_by"

func scanResource(s scanner) (Resource, error) {
	var r Resource
	var labels, spec string
	var created, updated sql.NullInt64
	if err := s.Scan(&r.ID, &r.Kind, &r.Project, &r.Name, &r.Revision, &labels, &spec, &r.Sealed, &r.ManagedBy, &created, &updated, &r.UpdatedBy); err != nil {
		return r, err
	}
	r.Spec, r.CreatedAt, r.UpdatedAt = json.RawMessage(spec), fromMillis(created), fromMillis(updated)
	var err error
	r.Labels, err = decodeLabels(labels)
	return r, err
}

// Resources gives all of a kind by project and name.
func (tx *Tx) Resources(kind string) ([]Resource, error) {
	return all(tx, "list "+kind, scanResource, "SELECT "+resourceColumns+" FROM resources WHERE kind = ? ORDER BY project, name", kind)
}

// Resource gives one; fault.ErrNotFound when there is none.
func (tx *Tx) Resource(kind, project, name string) (Resource, error) {
	return one(tx, fmt.Sprintf("%s %q", kind, name), scanResource,
		"SELECT "+resourceColumns+" FROM resources WHERE kind = ? AND project = ? AND name = ?", kind, project, name)
}

// CreateResource stores a new one with revision 1; fault.ErrConflict when the
// name is taken.
func (tx *Tx) CreateResource(r Resource) error {
	labels, err := encodeLabels(r.Labels)
	if err != nil {
		return fmt.Errorf("create %s %q: %w", r.Kind, r.Name, err)
	}
	_, err = tx.exec(fmt.Sprintf("create %s %q", r.Kind, r.Name), "INSERT INTO resources ("+resourceColumns+") VALUES (?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?)",
		r.ID, r.Kind, r.Project, r.Name, labels, string(r.Spec), r.Sealed, r.ManagedBy, millis(r.CreatedAt), millis(r.UpdatedAt), r.UpdatedBy)
	if err != nil {
		return err
	}
	return tx.remember(r.ID)
}

// remember keeps the present version of a resource for its history.
func (tx *Tx) remember(id string) error {
	_, err := tx.exec("keep version", `INSERT INTO resource_revisions (id, revision, kind, project, name, labels, spec, managed_by, at, by)
		SELECT id, revision, kind, project, name, labels, spec, managed_by, updated_at, updated_by FROM resources WHERE id = ?`, id)
	return err
}

// Version is a resource as it once was, without its secrets.
type Version struct {
	Resource      // CreatedAt is zero; UpdatedAt and UpdatedBy are of this version
	Deleted  bool // this is its end
}

// VersionsOf gives all versions of the resources of a kind, those that are gone
// included, the oldest first.
func (tx *Tx) VersionsOf(kind string) ([]Version, error) {
	return all(tx, "list versions", scanVersion, `SELECT id, revision, kind, project, name, labels, spec, managed_by, at, by, deleted FROM resource_revisions
		WHERE kind = ? ORDER BY at, revision`, kind)
}

// Versions gives all versions of the resources that had a name, the newest
// first.
func (tx *Tx) Versions(kind, project, name string, limit int) ([]Version, error) {
	return all(tx, "list versions", scanVersion, `SELECT id, revision, kind, project, name, labels, spec, managed_by, at, by, deleted FROM resource_revisions
		WHERE kind = ? AND project = ? AND name = ? ORDER BY at DESC, revision DESC LIMIT ?`, kind, project, name, limit)
}

// VersionAt gives the version of a resource that was in force at a time;
// fault.ErrNotFound when there was none.
func (tx *Tx) VersionAt(id string, at time.Time) (Version, error) {
	return one(tx, fmt.Sprintf("version of %q", id), scanVersion, `SELECT id, revision, kind, project, name, labels, spec, managed_by, at, by, deleted FROM resource_revisions
		WHERE id = ? AND at <= ? ORDER BY revision DESC LIMIT 1`, id, millis(at))
}

func scanVersion(s scanner) (Version, error) {
	var v Version
	var labels, spec string
	var at sql.NullInt64
	if err := s.Scan(&v.ID, &v.Revision, &v.Kind, &v.Project, &v.Name, &labels, &spec, &v.ManagedBy, &at, &v.UpdatedBy, &v.Deleted); err != nil {
		return v, err
	}
	v.Spec, v.UpdatedAt = json.RawMessage(spec), fromMillis(at)
	var err error
	v.Labels, err = decodeLabels(labels)
	return v, err
}

// UpdateResource stores labels, spec, sealed, managedBy and who changed it when
// of the resource with r.ID, and gives the new revision. r.Revision is the one
// that the change was made from: another one in the store is fault.ErrConflict.
func (tx *Tx) UpdateResource(r Resource) (int64, error) {
	what := fmt.Sprintf("update %s %q", r.Kind, r.Name)
	labels, err := encodeLabels(r.Labels)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	n, err := tx.exec(what, `UPDATE resources SET revision = revision + 1, labels = ?, spec = ?, sealed = ?, managed_by = ?, updated_at = ?, updated_by = ?
		WHERE id = ? AND revision = ?`, labels, string(r.Spec), r.Sealed, r.ManagedBy, millis(r.UpdatedAt), r.UpdatedBy, r.ID, r.Revision)
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, fault.Because(fault.ErrConflict, fault.Changed, r.Kind, r.Name)
	}
	return r.Revision + 1, tx.remember(r.ID)
}

// RemoveResource deletes r and keeps in its history who did when;
// fault.ErrNotFound when there is none, fault.ErrConflict when it was changed
// meanwhile.
func (tx *Tx) RemoveResource(r Resource, at time.Time, by string) error {
	what := fmt.Sprintf("delete %s %q", r.Kind, r.Name)
	n, err := tx.exec(what, `INSERT INTO resource_revisions (id, revision, kind, project, name, labels, spec, managed_by, at, by, deleted)
		SELECT id, revision + 1, kind, project, name, labels, spec, managed_by, ?, ?, 1 FROM resources WHERE id = ? AND revision = ?`, millis(at), by, r.ID, r.Revision)
	if err != nil {
		return err
	}
	if n == 0 {
		return fault.Because(fault.ErrConflict, fault.Changed, r.Kind, r.Name)
	}
	return tx.DeleteResource(r.Kind, r.Project, r.Name)
}

// DeleteResource removes one; fault.ErrNotFound when there is none.
func (tx *Tx) DeleteResource(kind, project, name string) error {
	n, err := tx.exec("delete "+kind, "DELETE FROM resources WHERE kind = ? AND project = ? AND name = ?", kind, project, name)
	if err == nil && n == 0 {
		err = fault.Because(fault.ErrNotFound, fault.Missing, kind, name)
	}
	return err
}

// ResourceByID gives one; fault.ErrNotFound when there is none.
func (tx *Tx) ResourceByID(id string) (Resource, error) {
	return one(tx, fmt.Sprintf("resource %q", id), scanResource, "SELECT "+resourceColumns+" FROM resources WHERE id = ?", id)
}
