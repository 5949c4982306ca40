-- Times are UTC text, so that they compare and read as they are. Of the secret of a key a digest is all that is kept. No
-- index on a time: it would have to be written with every activity.
CREATE TABLE lastseen_device_groups (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    created_at TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE lastseen_devices (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    platform TEXT NOT NULL,
    owner_id TEXT,
    group_id TEXT REFERENCES lastseen_device_groups (id),
    properties TEXT NOT NULL,
    created_at TEXT NOT NULL,
    last_seen_at TEXT
);
CREATE INDEX lastseen_devices_group_id ON lastseen_devices (group_id);
CREATE TABLE lastseen_api_keys (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    prefix TEXT NOT NULL UNIQUE,
    digest BLOB NOT NULL,
    scopes TEXT NOT NULL,
    device_id TEXT REFERENCES lastseen_devices (id) ON DELETE CASCADE,
    group_id TEXT REFERENCES lastseen_device_groups (id) ON DELETE CASCADE,
    site_id TEXT,
    created_at TEXT NOT NULL,
    expires_at TEXT,
    revoked_at TEXT,
    last_used_at TEXT
);
CREATE INDEX lastseen_api_keys_device_id ON lastseen_api_keys (device_id);
CREATE INDEX lastseen_api_keys_group_id ON lastseen_api_keys (group_id);
