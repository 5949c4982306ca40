-- An existing table of this shape is adopted as it is. Times are UTC text, so that they compare and read as they are.
CREATE TABLE IF NOT EXISTS client_activity (
    client_id TEXT NOT NULL PRIMARY KEY,
    last_seen TIMESTAMP NOT NULL,
    created_at TIMESTAMP NOT NULL
) WITHOUT ROWID;
