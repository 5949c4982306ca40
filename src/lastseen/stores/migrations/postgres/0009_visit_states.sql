-- The log is told of a row what lies between the first and the last byte that change: so these are together, and half of a
-- page is kept for the next states of its visits.
ALTER TABLE lastseen_visits RENAME TO lastseen_visits_before;
CREATE TABLE lastseen_visits (
    site_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    visitor bigint NOT NULL,
    started_at bigint NOT NULL,
    start_reason text NOT NULL,
    entry_url text,
    is_bot boolean NOT NULL,
    is_open boolean NOT NULL,
    tx xid8 NOT NULL DEFAULT pg_current_xact_id(),
    seq integer NOT NULL,
    active_slot bigint NOT NULL GENERATED ALWAYS AS (last_activity_at / 600000000) STORED,
    last_activity_at bigint NOT NULL,
    body text NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
INSERT INTO lastseen_visits
    (site_id, id, visitor, started_at, start_reason, entry_url, is_bot, is_open, tx, seq, last_activity_at, body)
SELECT site_id, id, visitor, started_at, start_reason, entry_url, is_bot, is_open, tx, seq, last_activity_at, body
FROM lastseen_visits_before;
DROP TABLE lastseen_visits_before;
ALTER TABLE lastseen_visits ADD PRIMARY KEY (site_id, id);
CREATE INDEX lastseen_visits_visitor ON lastseen_visits (visitor, started_at, id);
CREATE INDEX lastseen_visits_started ON lastseen_visits (site_id, started_at);
CREATE INDEX lastseen_visits_active ON lastseen_visits (site_id, active_slot);
CREATE INDEX lastseen_visits_open ON lastseen_visits (site_id, started_at) WHERE is_open;
