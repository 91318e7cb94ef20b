-- +goose Up
ALTER TABLE clusters ADD COLUMN newest INTEGER NOT NULL DEFAULT 0; -- time of the newest batch, Unix milliseconds
