-- +goose Up
CREATE TABLE evidence ( -- what was around an alert when it began; apart from it, since it is large and seldom read
  alert_id TEXT PRIMARY KEY REFERENCES alerts (id) ON DELETE CASCADE,
  at       INTEGER NOT NULL,
  data     TEXT NOT NULL -- JSON of alerting/incident
) STRICT;

ALTER TABLE alerts ADD COLUMN muzzled INTEGER NOT NULL DEFAULT 0; -- 1: ended by hand while it was bad, and not good since
CREATE INDEX alerts_muzzled ON alerts (policy_id, cluster, key) WHERE muzzled = 1;
