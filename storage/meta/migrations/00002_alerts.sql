-- +goose Up
CREATE TABLE resource_revisions ( -- every version of what users wrote, without its secrets
  id         TEXT NOT NULL, -- of the resource
  revision   INTEGER NOT NULL,
  kind       TEXT NOT NULL,
  project    TEXT NOT NULL,
  name       TEXT NOT NULL,
  labels     TEXT NOT NULL,
  spec       TEXT NOT NULL,
  managed_by TEXT NOT NULL,
  at         INTEGER NOT NULL,
  by         TEXT NOT NULL,
  deleted    INTEGER NOT NULL DEFAULT 0, -- 1: this is its end; spec is that of the version before
  PRIMARY KEY (id, revision)
) STRICT;
CREATE INDEX resource_revisions_by_name ON resource_revisions (kind, project, name, at);
INSERT INTO resource_revisions (id, revision, kind, project, name, labels, spec, managed_by, at, by)
  SELECT id, revision, kind, project, name, labels, spec, managed_by, updated_at, updated_by FROM resources;

CREATE TABLE incident_events ( -- the timeline
  position    INTEGER PRIMARY KEY AUTOINCREMENT,
  incident_id TEXT NOT NULL REFERENCES incidents (id) ON DELETE CASCADE,
  at          INTEGER NOT NULL,
  type        TEXT NOT NULL,
  who         TEXT NOT NULL DEFAULT '', -- empty: the engine
  text        TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX incident_events_by_incident ON incident_events (incident_id, position);

ALTER TABLE incidents ADD COLUMN acknowledged_at INTEGER; -- for the first time
ALTER TABLE incidents ADD COLUMN assignee TEXT NOT NULL DEFAULT '';
CREATE INDEX incidents_by_start ON incidents (started_at);

CREATE TABLE skipped_rounds ( -- arrivals that were stored but not evaluated at their own time: a replay leaves them out too
  cluster TEXT NOT NULL,
  sender  TEXT NOT NULL,
  at      INTEGER NOT NULL,
  reason  TEXT NOT NULL,
  PRIMARY KEY (cluster, sender, at)
) STRICT, WITHOUT ROWID;

CREATE TABLE leases ( -- who may do what only one may do
  name       TEXT PRIMARY KEY,
  holder     TEXT NOT NULL,
  token      INTEGER NOT NULL, -- one more with each new holder: writes with an older one are refused
  expires_at INTEGER NOT NULL
) STRICT;
