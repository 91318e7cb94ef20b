-- +goose Up
CREATE TABLE clusters (
  id        INTEGER PRIMARY KEY,
  name      TEXT    NOT NULL UNIQUE,
  kind      TEXT    NOT NULL DEFAULT '',
  version   TEXT    NOT NULL DEFAULT '',
  session   TEXT    NOT NULL DEFAULT '', -- of the collector that reports
  sequence  INTEGER NOT NULL DEFAULT 0,  -- newest batch of the session that is stored
  complete  INTEGER NOT NULL DEFAULT 0,  -- the session's snapshot is complete
  synced    INTEGER NOT NULL DEFAULT 0,  -- some session's snapshot was complete
  last_seen INTEGER NOT NULL DEFAULT 0   -- Unix milliseconds
);

-- A row is one state of one object, from valid_from to before valid_to (Unix
-- milliseconds). valid_to is NULL for the present. gone tells the last state of
-- an object that was deleted from one that was followed by another.
CREATE TABLE versions (
  id         INTEGER PRIMARY KEY,
  cluster    INTEGER NOT NULL REFERENCES clusters (id),
  kind       TEXT    NOT NULL,
  namespace  TEXT    NOT NULL,
  name       TEXT    NOT NULL,
  valid_from INTEGER NOT NULL,
  valid_to   INTEGER,
  gone       INTEGER NOT NULL DEFAULT 0,
  body       BLOB    NOT NULL -- JSON of the object
);
CREATE INDEX versions_present ON versions (cluster) WHERE valid_to IS NULL;
CREATE INDEX versions_object ON versions (cluster, kind, namespace, name, valid_from);
CREATE INDEX versions_ended ON versions (valid_to) WHERE valid_to IS NOT NULL;
CREATE INDEX versions_gone ON versions (valid_to) WHERE gone = 1;
