-- A digest or a hash is all that is kept of a link or a password. No statement changes a row of the trail.
CREATE TABLE lastseen_accounts (
    user_id text COLLATE "C" PRIMARY KEY,
    name text NOT NULL,
    name_key text COLLATE "C" NOT NULL UNIQUE,
    role text NOT NULL,
    created_at timestamptz NOT NULL,
    disabled_at timestamptz,
    password_hash text,
    link_digest bytea UNIQUE,
    link_expires_at timestamptz
);
CREATE TABLE lastseen_audit_trail (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    action text NOT NULL,
    actor_id text,
    actor_name text NOT NULL,
    subject_id text,
    subject_name text NOT NULL,
    address text NOT NULL,
    detail text NOT NULL
);
