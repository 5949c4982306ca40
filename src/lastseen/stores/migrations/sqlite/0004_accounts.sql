-- A digest or a hash is all that is kept of a link or a password. No statement changes a row of the trail.
CREATE TABLE lastseen_accounts (
    user_id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    created_at TEXT NOT NULL,
    disabled_at TEXT,
    password_hash TEXT,
    link_digest BLOB UNIQUE,
    link_expires_at TEXT
);
CREATE TABLE lastseen_audit_trail (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL,
    action TEXT NOT NULL,
    actor_id TEXT,
    actor_name TEXT NOT NULL,
    subject_id TEXT,
    subject_name TEXT NOT NULL,
    address TEXT NOT NULL,
    detail TEXT NOT NULL
);
