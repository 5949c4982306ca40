-- An existing table of this shape is adopted as it is. Never index last_seen: the index ends HOT updates (measured:
-- 99.8 % of updates to 0 %, 2.2 times the write-ahead log); the free room in each page is for them.
CREATE TABLE IF NOT EXISTS client_activity (
    client_id text PRIMARY KEY,
    last_seen timestamptz NOT NULL,
    created_at timestamptz NOT NULL
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02);
