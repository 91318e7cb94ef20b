-- +goose Up
ALTER TABLE outbox ADD COLUMN copy_of TEXT NOT NULL DEFAULT '';   -- the notification that another target was to get
ALTER TABLE outbox ADD COLUMN copied INTEGER NOT NULL DEFAULT 0;  -- 1 when another target was told too
CREATE INDEX outbox_by_target ON outbox (target_id, position);
CREATE INDEX outbox_dead ON outbox (target_id, created_at) WHERE state = 'dead';
CREATE INDEX outbox_copies ON outbox (copy_of) WHERE copy_of <> '';

ALTER TABLE attempts ADD COLUMN request TEXT NOT NULL DEFAULT '';  -- what was sent, secrets masked
ALTER TABLE attempts ADD COLUMN response TEXT NOT NULL DEFAULT ''; -- the answer's first KiB, secrets masked
