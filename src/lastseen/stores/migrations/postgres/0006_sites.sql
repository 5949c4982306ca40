-- The write key is public. The secret keys the visitors of imported lines and never leaves the database's own process.
-- The rule is JSON: a setting that is not in it has its default.
CREATE TABLE lastseen_sites (
    id text COLLATE "C" PRIMARY KEY,
    name text NOT NULL,
    domains jsonb NOT NULL,
    rule jsonb NOT NULL,
    write_key text COLLATE "C" NOT NULL UNIQUE,
    import_secret bytea NOT NULL,
    created_at timestamptz NOT NULL
);
-- A member of a group sees this group's devices and keys only; the group may be gone, then nothing.
ALTER TABLE lastseen_accounts ADD COLUMN group_id text COLLATE "C";
