-- +goose Up
-- A row is a run of states of one object that are over, packed together: what one
-- state has in common with the one before takes next to no room.
CREATE TABLE lives (
  id         INTEGER PRIMARY KEY,
  cluster    INTEGER NOT NULL REFERENCES clusters (id),
  kind       TEXT    NOT NULL,
  namespace  TEXT    NOT NULL,
  name       TEXT    NOT NULL,
  valid_from INTEGER NOT NULL, -- of the first state
  valid_to   INTEGER NOT NULL, -- of the last one
  body       BLOB    NOT NULL  -- JSON of the states
);
CREATE INDEX lives_object ON lives (cluster, kind, namespace, name, valid_from);
CREATE INDEX lives_ended ON lives (cluster, kind, valid_to, valid_from);
DROP INDEX versions_present;
CREATE INDEX versions_present ON versions (cluster, kind) WHERE valid_to IS NULL;
DROP INDEX versions_ended;
CREATE INDEX versions_ended ON versions (cluster, kind, valid_to) WHERE valid_to IS NOT NULL;
