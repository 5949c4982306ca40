CREATE TABLE IF NOT EXISTS client_active_hours (
    client_id TEXT NOT NULL,
    hour TIMESTAMP NOT NULL,
    PRIMARY KEY (client_id, hour)
) WITHOUT ROWID;
