"""Clocks that are set while people come: the server's, the visitors', and everybody's in spring and autumn."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from lastseen import LastSeen
from lastseen.activity.settings import TrackerSettings
from lastseen.activity.store import ClientQuery
from lastseen.activity.tracker import ActivityTracker
from lastseen.clock import to_micros
from lastseen.ingest.origin import Origin
from lastseen.ingest.own import decode_events
from lastseen.ingest.service import Ingest
from lastseen.reports.question import ask_for
from lastseen.testing import ManualClock
from lastseen.testing.visit_copies import stored
from lastseen.visits.event import Event
from lastseen.visits.recount import Recount
from lastseen.visits.site import DEFAULT_SITE_ID
from lastseen.visits.visit import Visit

BERLIN = ZoneInfo("Europe/Berlin")
MINUTE, HOUR, DAY = 60, 3_600, 86_400
NEVER_BY_ITSELF = TrackerSettings(flush_interval=timedelta(hours=1))
PEOPLE = ("ann", "ben", None)
"""The third sends no id and is named by the day's salt."""
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


class World:
    """A database, its trackers and its ingest, all by one clock."""

    def __init__(self, source: str, folder: Path, clock: ManualClock) -> None:
        self.clock = clock
        self.seen = LastSeen.open(source, migrate=True, clock=clock, tracking=NEVER_BY_ITSELF)
        self.ingest = Ingest(self.seen, folder / "spool", 1_000_000, clock=clock)
        self.sent = 0

    def close(self) -> None:
        """Save everything."""
        self.ingest.close()
        self.seen.close()

    def send(self, visitor: str | None = "ann", *, sent_at: object = None, **fields: object) -> None:
        """Let a browser tell of one page, as the server's route does, and wait until it is saved."""
        self.sent += 1
        page = {"name": "$pageview", "id": f"e{self.sent:05}", "distinct_id": visitor, **fields}
        body = json.dumps({"events": [page], "sent_at": sent_at}).encode()
        origin = Origin(received_at=round(self.clock.now() * 1_000_000), address="198.51.100.7", user_agent=BROWSER)
        received = decode_events(body, origin)
        assert not received.dropped
        intake = self.ingest.sites.look_up(self.seen.sites.get(DEFAULT_SITE_ID).write_key)
        assert intake is not None
        assert not asyncio.run(self.ingest.commit.save(intake.make, received.events))

    def visits(self) -> Mapping[str, Sequence[Visit]]:
        """Return all visits by visitor."""
        return stored(self.seen.store.visits)

    def all_visits(self) -> list[Visit]:
        """Return all visits."""
        return [visit for of_visitor in self.visits().values() for visit in of_visitor]

    def events(self) -> list[Event]:
        """Return all events in the order of their ids, in which they were sent."""
        return sorted(self.seen.store.visits.all_events(DEFAULT_SITE_ID), key=lambda event: event.id)

    def count_by(self, bucket: str, since: date, days: int = 1) -> dict[Any, Any]:
        """Ask how many pages were seen, on the clocks of Berlin."""
        question = ask_for("page_views", by=bucket, since=since, until=since + timedelta(days), time_zone=BERLIN.key)
        return {row.keys[0]: row.figures[0] for row in self.seen.reports.ask(question).rows}


@pytest.fixture(params=["memory", "sqlite"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """Return a world on an empty database; its clock says noon of a day in October, UTC."""
    source = "memory:" if request.param == "memory" else f"sqlite:///{tmp_path}/lastseen.db"
    world = World(source, tmp_path, ManualClock(datetime(2026, 10, 20, 12, tzinfo=UTC).timestamp()))
    yield world
    world.close()


def check(world: World) -> None:
    """No visit ends before it begins, and all are what their events fold into."""
    visits = world.all_visits()
    assert all(visit.duration >= timedelta(0) for visit in visits)
    assert all(visit.start <= visit.last_activity for visit in visits)
    rule = world.seen.sites.get(DEFAULT_SITE_ID).rule
    recounted = Recount(world.seen.store.visits, DEFAULT_SITE_ID, rule).run()
    assert [line for one in recounted if one.differs for line in one.differences()] == []
    assert sum(visit.event_count for visit in visits) == len(world.events())


def last_seen(world: World) -> dict[str, datetime]:
    """Return when each visitor and each client was last seen, by what is stored."""
    found = {visitor: max(visit.last_activity_at for visit in visits) for visitor, visits in world.visits().items()}
    clients = world.seen.store.clients.list_clients(ClientQuery())
    return found | {f"client {client.client_id}": client.last_seen_at for client in clients}


JUMPS = (-HOUR, HOUR, DAY, -DAY, -7 * MINUTE, 40 * MINUTE, -0.5, 3.0)


@pytest.mark.parametrize("seed", range(3))
def test_last_seen_never_goes_back(world: World, seed: int) -> None:
    """The server's clock is set an hour back, a day forward, here and there: nobody was last seen earlier than before.

    No visit has a negative duration, also of those that are ended and cleaned up meanwhile, and none lacks an event.
    """
    dice = random.Random(seed)
    before: dict[str, datetime] = {}
    for _ in range(40):
        world.clock.advance(dice.choice((1, 5, 300, 1_000, 2_000)))
        if dice.random() < 0.3:
            world.clock.jump(dice.choice(JUMPS))
        world.send(dice.choice(PEOPLE))
        world.seen.clients.record(dice.choice(("till", "door")))
        if dice.random() < 0.3:
            world.seen.clients.flush()
        if dice.random() < 0.2:
            world.seen.visits.cleanup()
        now = last_seen(world)
        assert {name for name in before if now[name] < before[name]} == set()
        before = now
    check(world)
    told = [event.at for event in world.events()]
    assert told != sorted(told), "the clock never went back: the test tested nothing"


def test_a_visitor_is_served_by_hand_whatever_the_clock(world: World) -> None:
    """Visits that an application begins, goes on with and ends itself have no negative duration either."""
    visits, ended = world.seen.visits, 0
    for jump in (0, -HOUR, DAY, -DAY, -10 * MINUTE, HOUR):
        world.clock.jump(jump)
        visit = visits.get_or_create("ann")
        world.clock.advance(MINUTE)
        assert visits.get_or_create("ann").id == visit.id
        if jump < 0:
            assert visits.end(visit.id) is not None
            ended += 1
        visits.cleanup()
    found = world.all_visits()
    assert all(visit.duration >= timedelta(0) for visit in found)
    assert sum(not visit.is_active for visit in found) >= ended


class Last:
    """Keeps of each key the time that was written last, without comparing."""

    def __init__(self) -> None:
        self.times: dict[str, datetime] = {}

    def batch_record_activity(self, updates: Mapping[str, datetime]) -> int:
        self.times.update(updates)
        return len(updates)


def test_whoever_writes_what_the_clock_says_goes_back() -> None:
    """The negative control: a recorder that does not compare moves last seen back with the same clock."""
    clock, recorder = ManualClock(), Last()
    tracker = ActivityTracker(recorder, NEVER_BY_ITSELF, clock=clock)
    seen = []
    for jump in (0, -HOUR):
        clock.jump(jump)
        tracker.record("till")
        tracker.flush()
        seen.append(recorder.times["till"])
    tracker.close()
    assert seen[1] < seen[0]


def test_an_order_by_arrival_has_negative_durations(world: World) -> None:
    """The negative control: the same events, each after the one that came before it, last less than nothing."""
    world.send()
    world.clock.jump(-10 * MINUTE)
    world.send()
    first, last = world.events()
    assert last.at - first.at < 0
    (visit,) = world.all_visits()
    assert (visit.duration, visit.id) == (timedelta(minutes=10), last.id)
    check(world)


def test_nobody_is_doubled_by_a_day_that_the_clock_was_ahead(world: World) -> None:
    """A visitor without an id has the day's name again when the clock is right again, and the visit goes on."""
    world.send(None)
    world.clock.jump(DAY)
    world.send(None)
    world.clock.jump(-DAY)
    world.clock.advance(MINUTE)
    world.send(None)
    today, tomorrow = sorted(world.visits().values(), key=lambda visits: visits[0].start)
    assert [visit.page_views for visit in (*today, *tomorrow)] == [2, 1]


# Visitors' clocks


def browse(world: World, *, says_when_it_sends: bool) -> None:
    """Send five pages, a minute apart, of a browser whose clock is an hour ahead, then right, then a day behind."""
    for off in (HOUR, HOUR, 0, -DAY, -DAY):
        world.clock.advance(MINUTE)
        at = world.clock.now() + off
        world.send(at=at - 2, sent_at=at if says_when_it_sends else None)


def test_a_visitor_whose_clock_is_set_is_in_one_visit(world: World) -> None:
    """A browser that says what its clock shows when it sends is believed about the difference only."""
    browse(world, says_when_it_sends=True)
    (visit,) = world.all_visits()
    assert (visit.page_views, visit.duration) == (5, timedelta(minutes=4))
    assert visit.last_activity_at == world.clock.utc() - timedelta(seconds=2)


def test_a_clock_that_nobody_knows_of_splits_the_visit(world: World) -> None:
    """The negative control: without that the same pages are two visits; and nothing lies in the future all the same."""
    browse(world, says_when_it_sends=False)
    assert len(world.all_visits()) == 2
    assert max(event.at for event in world.events()) <= to_micros(world.clock.utc())
    check(world)


# Spring and autumn


def walk(world: World, day: date) -> list[datetime]:
    """See a page every half hour of a day in Berlin and of an hour on either side; return the moments."""
    start = datetime(day.year, day.month, day.day, tzinfo=BERLIN).astimezone(UTC) - timedelta(hours=1)
    end = datetime(day.year, day.month, day.day, tzinfo=BERLIN) + timedelta(days=1)
    moments = [start]
    while (moment := moments[-1] + timedelta(minutes=30)) < end.astimezone(UTC) + timedelta(hours=1):
        moments.append(moment)
    for at in moments:
        world.clock.jump(at.timestamp() - world.clock.now())
        world.send()
    return moments


@pytest.mark.parametrize(
    ("day", "hours", "odd"),
    [
        (date(2026, 3, 29), 23, {}),
        (date(2026, 10, 25), 25, {"2026-10-25T02:00+02:00": 2, "2026-10-25T02:00+01:00": 2}),
        (date(2026, 7, 1), 24, {}),
    ],
)
def test_reports_of_the_day_on_which_clocks_are_changed(
    world: World, day: date, hours: int, odd: dict[str, int]
) -> None:
    """The day has 23 or 25 hours, each page is on the day and in the hour that the clocks showed, and visits go on."""
    moments = walk(world, day)
    expected = Counter(moment.astimezone(BERLIN).date().isoformat() for moment in moments)
    around = world.count_by("day", day - timedelta(days=1), 3)
    assert {str(key): count for key, count in around.items() if count} == expected
    assert expected[day.isoformat()] == 2 * hours
    by_hour = world.count_by("hour", day)
    assert set(by_hour.values()) == {2}
    assert len(by_hour) == hours
    assert odd.items() <= by_hour.items()
    assert not [hour for hour in by_hour if "2026-03-29T02" in hour]
    visits = sorted(world.all_visits(), key=lambda visit: visit.start)
    assert sum((visit.duration for visit in visits), timedelta(0)) + timedelta(minutes=30) * (len(visits) - 1) == (
        moments[-1] - moments[0]
    )
    check(world)


AUTUMN = ("2026-10-25T02:50:00+02:00", "2026-10-25T02:10:00+01:00")
"""Twenty minutes apart: the clocks went back at three."""


def test_a_visit_in_the_hour_that_comes_twice(world: World) -> None:
    """It lasts as long as it lasted."""
    world.clock.jump(datetime(2026, 10, 25, 4, tzinfo=UTC).timestamp() - world.clock.now())
    for text in AUTUMN:
        world.send(at=text)
    (visit,) = world.all_visits()
    assert (visit.duration, visit.id) == (timedelta(minutes=20), "e00001")


def test_times_without_an_offset_go_back_in_that_hour(world: World) -> None:
    """The negative control: the same times as the clocks showed them end the visit before it begins."""
    world.clock.jump(datetime(2026, 10, 25, 4, tzinfo=UTC).timestamp() - world.clock.now())
    for text in AUTUMN:
        world.send(at=text[:19])
    assert [visit.id for visit in sorted(world.all_visits(), key=lambda visit: visit.start)] == ["e00002", "e00001"]


def test_days_stay_right_while_the_clock_is_set(world: World) -> None:
    """Each page counts on the day that the clock showed when it came, once, whatever it showed before and after.

    The question of the last days ends with what is today then: what came from a wrong tomorrow is not in it.
    """
    jumps = (0, DAY, -DAY, -HOUR, HOUR, -13 * HOUR, 13 * HOUR)
    for jump in jumps:
        world.clock.jump(jump)
        world.send()
    wall = [datetime(2026, 10, 20, 12, tzinfo=UTC) + timedelta(seconds=each) for each in accumulate(jumps)]
    assert any(later < earlier for earlier, later in pairwise(wall))
    expected = Counter(moment.astimezone(BERLIN).date().isoformat() for moment in wall)
    found = {str(key): count for key, count in world.count_by("day", date(2026, 10, 18), 5).items() if count}
    assert found == expected
    last = ask_for("page_views", by="day", last=timedelta(days=2), time_zone=BERLIN.key)
    days = {str(row.keys[0]): row.figures[0] for row in world.seen.reports.ask(last).rows}
    assert days == {day: expected[day] for day in ("2026-10-19", "2026-10-20")}
    check(world)
