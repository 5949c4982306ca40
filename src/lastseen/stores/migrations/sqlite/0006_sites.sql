-- The write key is public. The secret keys the visitors of imported lines and never leaves the database's own process.
-- The rule is JSON: a setting that is not in it has its default.
CREATE TABLE lastseen_sites (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    domains TEXT NOT NULL,
    rule TEXT NOT NULL,
    write_key TEXT NOT NULL UNIQUE,
    import_secret BLOB NOT NULL,
    created_at TEXT NOT NULL
) WITHOUT ROWID;
-- A member of a group sees this group's devices and keys only; the group may be gone, then nothing.
ALTER TABLE lastseen_accounts ADD COLUMN group_id TEXT;
