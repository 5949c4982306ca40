-- Text is compared bytewise, so that every database sorts and locks in the same order. Of the secret of a key a digest is
-- all that is kept. Properties are json and not jsonb, which gives some numbers back in another way than they came. No
-- index on a time: it would end HOT updates, for which each page has free room.
CREATE TABLE lastseen_device_groups (
    id text COLLATE "C" PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE TABLE lastseen_devices (
    id text COLLATE "C" PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    platform text NOT NULL,
    owner_id text COLLATE "C",
    group_id text COLLATE "C" REFERENCES lastseen_device_groups (id),
    properties json NOT NULL,
    created_at timestamptz NOT NULL,
    last_seen_at timestamptz
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX lastseen_devices_group_id ON lastseen_devices (group_id);
CREATE TABLE lastseen_api_keys (
    id text COLLATE "C" PRIMARY KEY,
    name text NOT NULL,
    prefix text COLLATE "C" NOT NULL UNIQUE,
    digest bytea NOT NULL,
    scopes text NOT NULL,
    device_id text COLLATE "C" REFERENCES lastseen_devices (id) ON DELETE CASCADE,
    group_id text COLLATE "C" REFERENCES lastseen_device_groups (id) ON DELETE CASCADE,
    site_id text COLLATE "C",
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX lastseen_api_keys_device_id ON lastseen_api_keys (device_id);
CREATE INDEX lastseen_api_keys_group_id ON lastseen_api_keys (group_id);
