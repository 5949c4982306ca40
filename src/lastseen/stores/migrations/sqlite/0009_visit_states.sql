-- A visit is written again with nearly every event, and SQLite writes each index of whose columns one is set. So the
-- moment of the last activity is found by its ten minutes, and what a transaction wrote by a list of its own; the text
-- that grows stays the last column.
CREATE TABLE lastseen_visits_anew (
    no INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL,
    site_id TEXT NOT NULL,
    id TEXT NOT NULL,
    visitor INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    last_activity_at INTEGER NOT NULL,
    active_slot INTEGER NOT NULL,
    is_open INTEGER NOT NULL,
    is_bot INTEGER NOT NULL,
    start_reason TEXT NOT NULL,
    entry_url TEXT,
    body TEXT NOT NULL
);
INSERT INTO lastseen_visits_anew
SELECT no, seq, site_id, id, visitor, started_at, last_activity_at, last_activity_at / 600000000, is_open, is_bot,
    start_reason, entry_url, body
FROM lastseen_visits;
DROP TABLE lastseen_visits;
ALTER TABLE lastseen_visits_anew RENAME TO lastseen_visits;
CREATE UNIQUE INDEX lastseen_visits_id ON lastseen_visits (site_id, id);
CREATE INDEX lastseen_visits_visitor ON lastseen_visits (visitor, started_at);
CREATE INDEX lastseen_visits_started ON lastseen_visits (site_id, started_at);
CREATE INDEX lastseen_visits_active ON lastseen_visits (site_id, active_slot);
CREATE INDEX lastseen_visits_open ON lastseen_visits (site_id, started_at) WHERE is_open = 1;
-- Which visits a transaction wrote, as a list of their rows' numbers, and the numbers that these got of the counter, from
-- the first to the last. A visit whose `seq` is not among them has been written since.
CREATE TABLE lastseen_visit_writes (
    last INTEGER PRIMARY KEY,
    first INTEGER NOT NULL,
    size INTEGER NOT NULL,
    visits TEXT NOT NULL
);
INSERT INTO lastseen_visit_writes (last, first, size, visits)
SELECT max(seq), min(seq), count(*), json_group_array(no)
FROM (SELECT no, seq, (row_number() OVER (ORDER BY seq) - 1) / 1000 AS part FROM lastseen_visits)
GROUP BY part;
-- Ids of events that begin with their moment are appended; the site is the same for most.
DROP INDEX lastseen_events_id;
CREATE UNIQUE INDEX lastseen_events_id ON lastseen_events (id, site_id);
