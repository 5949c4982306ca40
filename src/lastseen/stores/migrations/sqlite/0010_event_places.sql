-- Where to find events by their id and by their visitor. As indexes both were written at a random place for each event: two
-- thirds of the pages that a transaction of single events wrote. Now `indexed` is the number up to which events are in
-- these tables; those behind it, a few thousand at most, are looked for in the table of events itself, and go in together.
CREATE TABLE lastseen_event_ids (
    id TEXT NOT NULL,
    site_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (id, site_id)
) WITHOUT ROWID;
INSERT INTO lastseen_event_ids (id, site_id, seq) SELECT id, site_id, seq FROM lastseen_events ORDER BY id, site_id;
DROP INDEX lastseen_events_id;
CREATE TABLE lastseen_event_moments (
    identity INTEGER NOT NULL,
    at INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (identity, at, seq)
) WITHOUT ROWID;
INSERT INTO lastseen_event_moments (identity, at, seq)
SELECT identity, at, seq FROM lastseen_events ORDER BY identity, at, seq;
DROP INDEX lastseen_events_identity;
ALTER TABLE lastseen_visit_counter ADD COLUMN indexed INTEGER NOT NULL DEFAULT 0;
UPDATE lastseen_visit_counter SET indexed = value;
-- As of an index: whoever removes an event removes it from both.
CREATE TRIGGER lastseen_events_removed AFTER DELETE ON lastseen_events
BEGIN
    DELETE FROM lastseen_event_ids WHERE id = OLD.id AND site_id = OLD.site_id AND seq = OLD.seq;
    DELETE FROM lastseen_event_moments WHERE identity = OLD.identity AND at = OLD.at AND seq = OLD.seq;
END;
