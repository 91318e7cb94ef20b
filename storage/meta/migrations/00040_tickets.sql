-- +goose Up
CREATE TABLE spent_tickets ( -- links of notifications that acted: each does so once
  id         TEXT PRIMARY KEY,
  expires_at INTEGER NOT NULL -- from then on the ticket itself is refused, and the row can go
) STRICT, WITHOUT ROWID;
