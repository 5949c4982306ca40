CREATE TABLE IF NOT EXISTS client_active_hours (
    client_id text NOT NULL,
    hour timestamptz NOT NULL,
    PRIMARY KEY (client_id, hour)
);
