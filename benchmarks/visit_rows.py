"""Millions of visits and events for the measurements of reports, made by DuckDB itself: the same ones every time."""

from __future__ import annotations

from pathlib import Path

import duckdb

from lastseen.stores.columnar import duckdb_feed as feed
from lastseen.stores.columnar import duckdb_settling as settling
from lastseen.stores.columnar.duckdb import DuckDBCopy

DAYS = 90
FIRST_DAY = 20_454
"""2026-01-01, in days since 1970."""
EVENTS_A_VISIT = 4

# A share drawn from a number and a salt: hash() is the same in every run. The rank N^u of u is Zipf's law.
MACROS = """
CREATE OR REPLACE TEMP MACRO share(number, salt) AS hash(number * 1000 + salt) / 18446744073709551616.0;
CREATE OR REPLACE TEMP MACRO rank(number, salt, most) AS floor(pow(most, share(number, salt)))::BIGINT;
"""
VISITS = """
CREATE TEMP TABLE drawn AS
SELECT number,
    (({first} + share(number, 1) * {days}) * 86400000000)::BIGINT AS start,
    'v' || rank(number, 2, {visitors}) AS visitor_id,
    least(1 + floor(-ln(1 - share(number, 3)) * 3.5), 60)::INTEGER AS size,
    share(number, 4) < 0.03 AS is_bot,
    list_extract(['google.com', 'bing.com', 'news.example', 'x.com', NULL], rank(number, 5, 5)::INTEGER) AS source,
    list_extract(['DE', 'US', 'FR', 'GB', 'JP', 'BR', 'IN', 'PL'], rank(number, 6, 8)::INTEGER) AS country,
    list_extract(['desktop', 'mobile', 'tablet'], rank(number, 7, 3)::INTEGER) AS device,
    list_extract(['Chrome', 'Firefox', 'Safari', 'Edge'], rank(number, 8, 4)::INTEGER) AS browser,
    list_extract(['Windows', 'Android', 'iOS', 'Linux'], rank(number, 9, 4)::INTEGER) AS os
FROM range({visits}) AS numbers(number)
"""
EVENTS = """
CREATE TEMP TABLE happened AS
SELECT drawn.*, place, number * 100 + place AS event,
    start + place * 45000000 + (share(number * 100 + place, 10) * 40000000)::BIGINT AS moment,
    '/page/' || rank(number * 100 + place, 11, 5000) AS page,
    place = 0 OR share(number * 100 + place, 12) < 0.75 AS is_page_view
FROM drawn, LATERAL unnest(range(size)) AS places(place)
"""
FILL_EVENTS = """
INSERT INTO events
SELECT 'default', 'e' || event, md5_number('default:' || visitor_id), md5_number('default:' || visitor_id),
    CASE WHEN place = 0 THEN start ELSE moment END,
    CASE WHEN is_page_view THEN '$pageview' ELSE 'event ' || event % 7 END, page, is_page_view, false, is_bot,
    CASE WHEN event % 3 = 0
        THEN json_object('plan', ['free', 'pro', 'team'][1 + event // 3 % 3], 'team', 't' || event % 50)::VARIANT
        ELSE '{{}}'::JSON::VARIANT END,
    md5_number('default:e' || number * 100), start, is_bot,
    row_number() OVER (PARTITION BY number, page ORDER BY moment) = 1
FROM happened ORDER BY moment
"""
ENDED = """
CREATE TEMP TABLE ended AS
SELECT number, end_moment, end_moment - start AS duration, pages <= 1 AND size < 2 AS is_bounce, entry, last_page
FROM (
    SELECT number, any_value(start) AS start, any_value(size) AS size,
        max(CASE WHEN place = 0 THEN start ELSE moment END) AS end_moment,
        count(*) FILTER (WHERE is_page_view) AS pages, arg_min(page, place) AS entry, arg_max(page, place) AS last_page
    FROM happened GROUP BY number
)
"""
FILL_VISITS = """
INSERT INTO visits
SELECT 'default', 'e' || number * 100, md5_number('default:e' || number * 100), md5_number('default:' || visitor_id),
    start, end_moment, 'e' || number * 100 + size - 1, duration, size * 9000, is_bounce, is_bot,
    entry, last_page, source, 'https://' || source || '/', CASE WHEN source IS NULL THEN 'direct' ELSE 'search' END,
    NULL, NULL, NULL, NULL, NULL, country, NULL, NULL, device, browser, os, false
FROM drawn JOIN ended USING (number)
ORDER BY start
"""
# As many visits as ever wait to be settled, in the midst of what is asked for.
LATELY = """
CREATE TEMP TABLE touched AS
SELECT visitor, start AS low, start AS high FROM visits WHERE start < $before ORDER BY start DESC LIMIT $count
"""


def fill(path: Path, events: int) -> int:
    """Make a copy with about that many events over 90 days, by visitors after Zipf's law; return how many."""
    DuckDBCopy(path).close()
    connection = duckdb.connect(str(path))
    connection.execute(MACROS)
    visits = events // EVENTS_A_VISIT
    names = {"first": FIRST_DAY, "days": DAYS, "visits": visits, "visitors": max(visits // 3, 10)}
    for statement in (VISITS, EVENTS, ENDED, FILL_EVENTS, FILL_VISITS):
        connection.execute(statement.format(**names))
    settling.build(connection, settling.QUIET)
    connection.execute(LATELY, {"before": (FIRST_DAY + DAYS * 5 // 6) * 86_400_000_000, "count": settling.SETTLE_FROM})
    settling.unsettle(connection, *connection.execute("SELECT min(low), max(high) FROM touched").fetchall()[0])
    feed.put_fact(connection, "is_built", "yes")
    found = connection.execute("SELECT count(*) FROM events").fetchall()[0][0]
    connection.close()
    return int(found)
