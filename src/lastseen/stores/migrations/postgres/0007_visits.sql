-- Moments are microseconds since 1970 UTC, as events and visits carry them. Text is compared bytewise, so that every
-- database sorts and locks in the same order. `tx` and `seq` say which transaction wrote a row last, and as which one of
-- its rows: copies follow them, see postgres/visit_feed.py. The epoch changes when the numbers of transactions begin
-- anew, in a database that was restored from a dump.
CREATE TABLE lastseen_visit_epoch (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    epoch text NOT NULL
);
INSERT INTO lastseen_visit_epoch (epoch) VALUES (replace(gen_random_uuid()::text, '-', ''));
CREATE SEQUENCE lastseen_identity_numbers;
-- `visitor` is the identity that stands for all of one visitor's; its row knows the place of the visitor's newest event,
-- and whoever changes a visitor holds it. `marks` are earlier states of a long visit, so that a late event need not read
-- all of it. `tx` and `seq` are set when the visitor has changed.
CREATE TABLE lastseen_identities (
    no bigint PRIMARY KEY,
    site_id text COLLATE "C" NOT NULL,
    distinct_id text COLLATE "C" NOT NULL,
    visitor bigint NOT NULL,
    newest_at bigint,
    newest_id text COLLATE "C",
    marks text,
    tx xid8,
    seq integer,
    UNIQUE (site_id, distinct_id)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX lastseen_identities_visitor ON lastseen_identities (visitor);
CREATE INDEX lastseen_identities_tx ON lastseen_identities (tx, seq) WHERE tx IS NOT NULL;
-- Links only grow. Which of them count is for the rule of identities, which sees all that hang together; `owner` is the
-- known user whom the other id of a refused one belongs to.
CREATE TABLE lastseen_identity_links (
    site_id text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    one text COLLATE "C" NOT NULL,
    other text COLLATE "C",
    owner text COLLATE "C",
    link text NOT NULL,
    PRIMARY KEY (site_id, event_id)
);
CREATE INDEX lastseen_identity_links_one ON lastseen_identity_links (site_id, one);
CREATE INDEX lastseen_identity_links_other ON lastseen_identity_links (site_id, other) WHERE other IS NOT NULL;
CREATE TABLE lastseen_events (
    tx xid8 NOT NULL DEFAULT pg_current_xact_id(),
    seq integer NOT NULL,
    site_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    identity bigint NOT NULL,
    at bigint NOT NULL,
    name text NOT NULL,
    received_at bigint NOT NULL,
    flags integer NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (site_id, id)
);
CREATE INDEX lastseen_events_tx ON lastseen_events (tx, seq);
CREATE INDEX lastseen_events_identity ON lastseen_events (identity, at);
CREATE INDEX lastseen_events_at ON lastseen_events (site_id, at);
-- A visit is written again with every event. While no column of an index changes by it, its row is replaced within its
-- page and no index is written, which is four times as fast
-- (https://www.postgresql.org/docs/current/storage-hot.html). So the moment of the last activity is found by its ten
-- minutes, and what a transaction wrote by a list of its own.
CREATE TABLE lastseen_visits (
    tx xid8 NOT NULL DEFAULT pg_current_xact_id(),
    seq integer NOT NULL,
    site_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    visitor bigint NOT NULL,
    started_at bigint NOT NULL,
    last_activity_at bigint NOT NULL,
    is_open boolean NOT NULL,
    is_bot boolean NOT NULL,
    start_reason text NOT NULL,
    entry_url text,
    active_slot bigint NOT NULL GENERATED ALWAYS AS (last_activity_at / 600000000) STORED,
    body text NOT NULL,
    PRIMARY KEY (site_id, id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX lastseen_visits_visitor ON lastseen_visits (visitor, started_at);
CREATE INDEX lastseen_visits_started ON lastseen_visits (site_id, started_at);
CREATE INDEX lastseen_visits_active ON lastseen_visits (site_id, active_slot);
CREATE INDEX lastseen_visits_open ON lastseen_visits (site_id, started_at) WHERE is_open;
-- Which visits a transaction wrote, by visitor and start. Those that bear its number have not been written since.
CREATE TABLE lastseen_visit_writes (
    tx xid8 NOT NULL DEFAULT pg_current_xact_id(),
    size integer NOT NULL,
    visitors bigint[] NOT NULL,
    starts bigint[] NOT NULL
);
ALTER TABLE lastseen_visit_writes ALTER COLUMN visitors SET STORAGE EXTERNAL, ALTER COLUMN starts SET STORAGE EXTERNAL;
CREATE INDEX lastseen_visit_writes_tx ON lastseen_visit_writes (tx);
-- What was there once and is no more, for copies.
CREATE TABLE lastseen_visits_removed (
    tx xid8 NOT NULL DEFAULT pg_current_xact_id(),
    seq integer NOT NULL,
    site_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    PRIMARY KEY (site_id, id)
);
CREATE INDEX lastseen_visits_removed_tx ON lastseen_visits_removed (tx, seq);
