"""B9: the fold of events into visits, in bulk and event by event, beside loops that only find the gaps."""

from __future__ import annotations

import gzip
import random
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

import duckdb

from benchmarks.measure import Row, rate, take_turns
from lastseen.visits.event import Device, Event
from lastseen.visits.fold import fold_sorted, resume
from lastseen.visits.rule import VisitRule
from lastseen.visits.visit import Visit

EVENTS = 200_000
ROUNDS = 7
BULK = 1_000_000
LIVE = 150_000
MESSAGES = Path(__file__).parent.parent / "tests" / "data" / "CollegeMsg.txt.gz"
SECOND = 1_000_000
TIMEOUT = 1_800 * SECOND
START = 1_767_225_600 * SECOND

SESSIONS = """
SELECT visitor, min(moment), max(moment), count(*)
FROM (SELECT *, sum(starts) OVER (PARTITION BY visitor ORDER BY moment ROWS UNBOUNDED PRECEDING) AS session
      FROM (SELECT visitor, moment, coalesce(moment - lag(moment) OVER before > 1800000000, true)::INT AS starts
            FROM events WINDOW before AS (PARTITION BY visitor ORDER BY moment)))
GROUP BY visitor, session
"""

Visitors = Sequence[tuple[str, Sequence[Event]]]
Moments = Sequence[tuple[str, Sequence[int]]]


def run() -> list[Row]:
    """Fold pages with clicks, ten events a visit, and the messages of a community, two to three a visit."""
    browsing = _browsing()
    century = VisitRule(max_duration=timedelta(days=36_500))
    return [
        _bulk("ten events a visit", browsing, VisitRule(), least=BULK),
        _bulk("two to three messages a visit (CollegeMsg): what a visit costs", _messages(), century, least=BULK),
        _live(browsing),
    ]


def _bulk(case: str, visitors: Visitors, rule: VisitRule, *, least: int) -> Row:
    moments = [(visitor, [event.at for event in events]) for visitor, events in visitors]
    number = sum(len(events) for _, events in visitors)
    connection = _database(moments)
    contenders: Mapping[str, Callable[[], int]] = {
        "fold": lambda: sum(len(fold_sorted(events, rule, visitor)) for visitor, events in visitors),
        "loop": lambda: len(_gap_loop(moments)),
        "duckdb": lambda: len(connection.execute(SESSIONS).fetchall()),
    }
    if rule.max_duration > timedelta(days=1):
        found = {name: contender() for name, contender in contenders.items()}
        assert len(set(found.values())) == 1, found
    rounds = take_turns({name: partial(_timed, work, number) for name, work in contenders.items()}, ROUNDS)
    peers = (
        f"bare Python gap loop {rate(rounds.median('loop'), 'events')}, "
        f"DuckDB window functions on one thread {rate(rounds.median('duckdb'), 'events')}"
    )
    speed = 1 / rounds.median("fold")
    return Row(
        bar="B9",
        case=f"fold in bulk, {case}",
        figure=rate(rounds.median("fold"), "events"),
        limit=f"at least {least:,} events/s",
        peer=peers,
        ratio=f"{1 / rounds.ratio('fold', 'loop'):.2f}",
        spread=rounds.ratio_spread("fold", "loop", inverted=True),
        met=speed >= least,
    )


def _live(visitors: Visitors) -> Row:
    """Continue each visitor's newest visit with one event at a time, in the order in which all events happened."""
    stream = sorted(((visitor, event) for visitor, events in visitors for event in events), key=lambda one: one[1].at)
    rule = VisitRule()
    rounds = take_turns(
        {
            "live": partial(_timed, lambda: _one_by_one(stream, rule), len(stream)),
            "loop": partial(_timed, lambda: _one_by_one_loop(stream), len(stream)),
        },
        ROUNDS,
    )
    speed = 1 / rounds.median("live")
    return Row(
        bar="B9",
        case="fold live, one event at a time, ten events a visit",
        figure=rate(rounds.median("live"), "events"),
        limit=f"at least {LIVE:,} events/s",
        peer=f"bare Python gap loop over a dictionary {rate(rounds.median('loop'), 'events')}",
        ratio=f"{1 / rounds.ratio('live', 'loop'):.2f}",
        spread=rounds.ratio_spread("live", "loop", inverted=True),
        met=speed >= LIVE,
    )


def _timed(work: Callable[[], int], number: int) -> float:
    """Return the processor time of one event: nobody waits for anything here, and a busy machine changes it less."""
    began = time.process_time()
    work()
    return (time.process_time() - began) / number


def _gap_loop(visitors: Moments) -> list[tuple[str, int, int, int]]:
    """Return start, end and length of each session: the least that a session is."""
    sessions = []
    for visitor, moments in visitors:
        start = last = moments[0]
        count = 0
        for at in moments:
            if at - last > TIMEOUT:
                sessions.append((visitor, start, last, count))
                start, count = at, 0
            last = at
            count += 1
        sessions.append((visitor, start, last, count))
    return sessions


def _one_by_one(stream: Sequence[tuple[str, Event]], rule: VisitRule) -> int:
    newest: dict[str, Visit] = {}
    for visitor, event in stream:
        newest[visitor] = resume(newest.get(visitor), (event,), rule, visitor)[-1]
    return len(newest)


def _one_by_one_loop(stream: Sequence[tuple[str, Event]]) -> int:
    newest: dict[str, tuple[int, int, int]] = {}
    for visitor, event in stream:
        start, last, count = newest.get(visitor, (event.at, event.at, 0))
        newest[visitor] = (event.at, event.at, 1) if event.at - last > TIMEOUT else (start, event.at, count + 1)
    return len(newest)


def _database(visitors: Moments) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    connection.execute("CREATE TABLE events (visitor VARCHAR, moment BIGINT)")
    names = [visitor for visitor, moments in visitors for _ in moments]
    times = [at for _, moments in visitors for at in moments]
    connection.execute("INSERT INTO events SELECT unnest(?), unnest(?)", [names, times])
    return connection


def _browsing() -> Visitors:
    """Return visitors of one to four visits with one to nineteen events; six of ten are page views."""
    chance = random.Random(9)
    pages = [f"https://example.org/products/{number}" for number in range(50)]
    device = Device(type="desktop", os="Linux", browser="Firefox", screen_resolution="1920x1080")
    visitors: list[tuple[str, list[Event]]] = []
    number = 0
    while number < EVENTS:
        visitor, at, events = f"visitor-{len(visitors)}", START + chance.randrange(86_400 * SECOND), list[Event]()
        for _ in range(chance.randint(1, 4)):
            for position in range(chance.randint(1, 19)):
                events.append(
                    Event(
                        id=f"{number:012d}",
                        site_id="default",
                        distinct_id=visitor,
                        name="$pageview" if chance.random() < 0.6 else "click",
                        at=at,
                        received_at=at,
                        url=chance.choice(pages),
                        referrer_domain="google.com" if position == 0 and chance.random() < 0.4 else None,
                        window_id=f"window of {visitor}",
                        engaged_ms=chance.randrange(30_000),
                        device=device,
                    )
                )
                number += 1
                at += chance.randrange(1, 120) * SECOND
            at += chance.randrange(2_000, 90_000) * SECOND
        visitors.append((visitor, events))
    return visitors


def _messages() -> Visitors:
    """Return the messages of each sender, made one sender after the other, as a store hands them out."""
    found: dict[str, list[tuple[int, int]]] = {}
    with gzip.open(MESSAGES, "rt") as lines:
        for number, line in enumerate(lines):
            sender, _, second = line.split()
            found.setdefault(sender, []).append((int(second), number))
    return [(sender, [_message(sender, *each) for each in sorted(sent)]) for sender, sent in found.items()]


def _message(sender: str, second: int, number: int) -> Event:
    at = second * SECOND
    return Event(id=f"{number:06d}", site_id="default", distinct_id=sender, name="message", at=at, received_at=at)
