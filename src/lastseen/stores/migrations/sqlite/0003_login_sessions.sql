-- Times are UTC text, so that they compare and read as they are; not declared as times, which some connections convert.
CREATE TABLE lastseen_users (
    id TEXT NOT NULL PRIMARY KEY,
    provider_id TEXT NOT NULL UNIQUE,
    created_at TEXT NOT NULL,
    signed_in_at TEXT,
    sessions_ended_at TEXT
) WITHOUT ROWID;
CREATE TABLE login_sessions (
    id TEXT NOT NULL PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    user_id TEXT NOT NULL REFERENCES lastseen_users (id) ON DELETE CASCADE,
    idle_deadline TEXT NOT NULL,
    absolute_deadline TEXT NOT NULL,
    created_at TEXT NOT NULL,
    authenticated_at TEXT NOT NULL,
    last_activity_at TEXT NOT NULL,
    credential_kind TEXT NOT NULL,
    device TEXT NOT NULL,
    address TEXT NOT NULL,
    label TEXT NOT NULL
);
CREATE INDEX login_sessions_user_id ON login_sessions (user_id);
CREATE TABLE login_devices (
    user_id TEXT NOT NULL,
    device_hash BLOB NOT NULL,
    first_seen_at TEXT NOT NULL,
    PRIMARY KEY (user_id, device_hash)
) WITHOUT ROWID;
