-- +goose Up
-- Times are Unix milliseconds, UTC. NULL is "not yet" or "never".
CREATE TABLE clusters (
  id         TEXT PRIMARY KEY,
  name       TEXT NOT NULL,
  kind       TEXT NOT NULL DEFAULT '',
  labels     TEXT NOT NULL DEFAULT '{}', -- JSON object
  created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE tokens (
  id           TEXT PRIMARY KEY,
  kind         TEXT NOT NULL, -- api | ingest
  name         TEXT NOT NULL,
  cluster      TEXT NOT NULL DEFAULT '',
  hash         BLOB NOT NULL UNIQUE, -- SHA-256 of the token; the token itself is never stored
  created_at   INTEGER NOT NULL,
  last_used_at INTEGER
) STRICT;

CREATE TABLE resources ( -- what users write: policies and targets
  id         TEXT PRIMARY KEY,
  kind       TEXT NOT NULL, -- Policy | Target
  project    TEXT NOT NULL,
  name       TEXT NOT NULL,
  revision   INTEGER NOT NULL,
  labels     TEXT NOT NULL DEFAULT '{}',
  spec       TEXT NOT NULL, -- JSON
  sealed     BLOB,          -- secrets, encrypted by whoever owns the kind
  managed_by TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  updated_by TEXT NOT NULL,
  UNIQUE (kind, project, name)
) STRICT;

CREATE TABLE incidents (
  id         TEXT PRIMARY KEY,
  group_key  TEXT NOT NULL,
  cluster    TEXT NOT NULL,
  state      TEXT NOT NULL, -- open | resolved
  severity   TEXT NOT NULL,
  started_at INTEGER NOT NULL,
  ended_at   INTEGER,
  data       TEXT NOT NULL -- JSON of alerting/incident
) STRICT;
CREATE INDEX incidents_by_group ON incidents (group_key, started_at);
CREATE INDEX incidents_by_state ON incidents (state, started_at);

CREATE TABLE alerts ( -- one firing; while it fires, also its latches
  id          TEXT PRIMARY KEY,
  policy_id   TEXT NOT NULL,
  incident_id TEXT NOT NULL REFERENCES incidents (id) ON DELETE CASCADE,
  cluster     TEXT NOT NULL,
  key         TEXT NOT NULL, -- of the object and its dimensions, within policy and cluster
  state       TEXT NOT NULL, -- firing | ended
  severity    TEXT NOT NULL,
  started_at  INTEGER NOT NULL,
  ended_at    INTEGER,
  cause       TEXT NOT NULL DEFAULT '',
  data        TEXT NOT NULL -- JSON of alerting/incident
) STRICT;
CREATE UNIQUE INDEX alerts_firing ON alerts (policy_id, cluster, key) WHERE state = 'firing';
CREATE INDEX alerts_by_incident ON alerts (incident_id);
CREATE INDEX alerts_by_end ON alerts (ended_at);

CREATE TABLE threads ( -- what one target was told about one incident
  incident_id TEXT NOT NULL REFERENCES incidents (id) ON DELETE CASCADE,
  target_id   TEXT NOT NULL,
  sequence    INTEGER NOT NULL,
  flush_at    INTEGER, -- when something is due to be told
  data        TEXT NOT NULL, -- JSON of alerting/incident
  PRIMARY KEY (incident_id, target_id)
) STRICT;
CREATE INDEX threads_due ON threads (flush_at) WHERE flush_at IS NOT NULL;

CREATE TABLE outbox ( -- a notification is a row before it is an attempt
  position    INTEGER PRIMARY KEY AUTOINCREMENT,
  id          TEXT NOT NULL UNIQUE,
  incident_id TEXT NOT NULL,
  target_id   TEXT NOT NULL,
  type        TEXT NOT NULL,
  sequence    INTEGER NOT NULL,
  body        BLOB NOT NULL, -- the same bytes on every attempt
  state       TEXT NOT NULL, -- pending | delivered | dead | superseded | skipped
  created_at  INTEGER NOT NULL,
  next_at     INTEGER NOT NULL, -- of a pending row: no attempt before
  give_up_at  INTEGER NOT NULL,
  attempts    INTEGER NOT NULL DEFAULT 0,
  maybe       INTEGER NOT NULL DEFAULT 0, -- 1 when some attempt may have been received
  done_at     INTEGER,
  error       TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX outbox_pending ON outbox (target_id, incident_id, position) WHERE state = 'pending';
CREATE INDEX outbox_by_thread ON outbox (incident_id, target_id, position);

CREATE TABLE attempts (
  position    INTEGER PRIMARY KEY AUTOINCREMENT,
  outbox_id   TEXT NOT NULL REFERENCES outbox (id) ON DELETE CASCADE,
  at          INTEGER NOT NULL,
  took_millis INTEGER NOT NULL,
  result      TEXT NOT NULL, -- delivered | retry | final
  status      INTEGER NOT NULL DEFAULT 0, -- HTTP status; 0 when there was no answer
  error       TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX attempts_by_outbox ON attempts (outbox_id, position);
