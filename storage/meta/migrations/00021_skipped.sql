-- +goose Up
ALTER TABLE skipped_rounds ADD COLUMN arrived_at INTEGER NOT NULL DEFAULT 0; -- before that nobody knew its samples
