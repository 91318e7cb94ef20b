-- +goose Up
ALTER TABLE skipped_rounds ADD COLUMN stepped INTEGER NOT NULL DEFAULT 0; -- late ones are stepped through once all are there, for what began and ended meanwhile
CREATE INDEX skipped_rounds_late ON skipped_rounds (cluster, at) WHERE stepped = 0 AND reason = 'late';
