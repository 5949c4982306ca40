-- Moments are microseconds since 1970 UTC, as events and visits carry them. Integers name identities in the indexes: with
-- text there they are twice as large, and every insert half as slow again. One counter numbers what happens to events and
-- visits; SQLite has one writer, so its order is that of the commits, and copies follow it.
CREATE TABLE lastseen_visit_counter (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    value INTEGER NOT NULL
);
INSERT INTO lastseen_visit_counter (one, value) VALUES (1, 0);
-- `visitor` is the identity that stands for all of one visitor's; its row knows the place of the visitor's newest event.
-- `marks` are earlier states of a long visit, so that a late event need not read all of it. `seq` is when the identity
-- last changed its visitor.
CREATE TABLE lastseen_identities (
    no INTEGER PRIMARY KEY,
    site_id TEXT NOT NULL,
    distinct_id TEXT NOT NULL,
    visitor INTEGER NOT NULL,
    newest_at INTEGER,
    newest_id TEXT,
    marks TEXT,
    seq INTEGER,
    UNIQUE (site_id, distinct_id)
);
CREATE INDEX lastseen_identities_visitor ON lastseen_identities (visitor);
CREATE UNIQUE INDEX lastseen_identities_seq ON lastseen_identities (seq) WHERE seq IS NOT NULL;
-- Links only grow. Which of them count is for the rule of identities, which sees all that hang together; `owner` is the
-- known user whom the other id of a refused one belongs to.
CREATE TABLE lastseen_identity_links (
    site_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    one TEXT NOT NULL,
    other TEXT,
    owner TEXT,
    link TEXT NOT NULL,
    PRIMARY KEY (site_id, event_id)
) WITHOUT ROWID;
CREATE INDEX lastseen_identity_links_one ON lastseen_identity_links (site_id, one);
CREATE INDEX lastseen_identity_links_other ON lastseen_identity_links (site_id, other);
CREATE TABLE lastseen_events (
    seq INTEGER PRIMARY KEY,
    site_id TEXT NOT NULL,
    id TEXT NOT NULL,
    identity INTEGER NOT NULL,
    at INTEGER NOT NULL,
    name TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    body TEXT NOT NULL
);
CREATE UNIQUE INDEX lastseen_events_id ON lastseen_events (site_id, id);
CREATE INDEX lastseen_events_identity ON lastseen_events (identity, at);
CREATE INDEX lastseen_events_at ON lastseen_events (site_id, at);
CREATE TABLE lastseen_visits (
    no INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL,
    site_id TEXT NOT NULL,
    id TEXT NOT NULL,
    visitor INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    last_activity_at INTEGER NOT NULL,
    is_open INTEGER NOT NULL,
    is_bot INTEGER NOT NULL,
    start_reason TEXT NOT NULL,
    entry_url TEXT,
    body TEXT NOT NULL
);
CREATE UNIQUE INDEX lastseen_visits_seq ON lastseen_visits (seq);
CREATE UNIQUE INDEX lastseen_visits_id ON lastseen_visits (site_id, id);
CREATE INDEX lastseen_visits_visitor ON lastseen_visits (visitor, started_at);
CREATE INDEX lastseen_visits_started ON lastseen_visits (site_id, started_at);
CREATE INDEX lastseen_visits_active ON lastseen_visits (site_id, last_activity_at);
CREATE INDEX lastseen_visits_open ON lastseen_visits (site_id, started_at) WHERE is_open = 1;
-- What was there once and is no more, for copies.
CREATE TABLE lastseen_visits_removed (
    site_id TEXT NOT NULL,
    id TEXT NOT NULL,
    seq INTEGER NOT NULL UNIQUE,
    PRIMARY KEY (site_id, id)
) WITHOUT ROWID;
