-- Text is compared bytewise, so that every database sorts and locks in the same order. No index on a deadline or on the
-- last activity: it would end HOT updates, for which each page has free room.
CREATE TABLE lastseen_users (
    id text COLLATE "C" PRIMARY KEY,
    provider_id text COLLATE "C" NOT NULL UNIQUE,
    created_at timestamptz NOT NULL,
    signed_in_at timestamptz,
    sessions_ended_at timestamptz
) WITH (fillfactor = 85);
CREATE TABLE login_sessions (
    id text COLLATE "C" PRIMARY KEY,
    digest bytea NOT NULL UNIQUE,
    user_id text COLLATE "C" NOT NULL REFERENCES lastseen_users (id) ON DELETE CASCADE,
    idle_deadline timestamptz NOT NULL,
    absolute_deadline timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    authenticated_at timestamptz NOT NULL,
    last_activity_at timestamptz NOT NULL,
    credential_kind text NOT NULL,
    device text NOT NULL,
    address text NOT NULL,
    label text NOT NULL
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX login_sessions_user_id ON login_sessions (user_id);
CREATE TABLE login_devices (
    user_id text COLLATE "C" NOT NULL,
    device_hash bytea NOT NULL,
    first_seen_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, device_hash)
);
