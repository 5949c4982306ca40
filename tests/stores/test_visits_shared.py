"""What only databases can break: several processes, death in the middle, orders and copies of real streams."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from lastseen.clock import to_micros
from lastseen.errors import InvalidData
from lastseen.stores import Store, open_store
from lastseen.stores.memory import MemoryVisits
from lastseen.testing.streams import NOON, SECOND, SITE, batches, event, folded, stream
from lastseen.testing.visit_copies import RULE, Replica, save, stored
from lastseen.visits.event import Event
from lastseen.visits.rule import VisitRule
from lastseen.visits.store import EventQuery, VisitStore

DATA = Path(__file__).parent.parent / "data"
LINE = re.compile(r'(\S+) \S+ \S+ \[([^\]]+)\] "([^"]*)" \d{3} \S+ "([^"]*)" "([^"]*)"')
ONLY_TIME = VisitRule(new_visit_on_referrer_change=False, new_visit_on_utm_change=False)

# Each process saves its share of the batches, and says so batch by batch, when it is told to go.
WRITER = """
import sys
from lastseen.stores import open_store
from lastseen.testing.streams import batches, stream
from lastseen.testing.visit_copies import save

url, seed, count, share, shares = sys.argv[1], *map(int, sys.argv[2:6])
store = open_store(url)
store.visits.get("default", "nobody")
print("ready", flush=True)
sys.stdin.readline()
for number, batch in enumerate(batches(seed, stream(seed, count), most=12, repeats=0.5)):
    if number % shares == share:
        save(store.visits, *batch)
        print(number, flush=True)
store.close()
"""


@contextmanager
def _writers(url: str, seed: int, count: int, shares: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Start processes that are about to save their shares of one stream."""
    arguments = [sys.executable, "-c", WRITER, url, str(seed), str(count)]
    writers = [
        subprocess.Popen(
            [*arguments, str(share), str(shares)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for share in range(shares)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    try:
        yield writers
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()


def _go(writer: subprocess.Popen[str]) -> None:
    assert writer.stdin is not None
    writer.stdin.write("\n")
    writer.stdin.flush()


def test_several_processes_give_the_same_visits(any_store: Store) -> None:
    """Three of them, with events of the same visitors and with the same events; a copy follows meanwhile."""
    events, replica = stream(31, 150), Replica()
    with _writers(any_store.address, 31, 150, 3) as writers:
        for writer in writers:
            _go(writer)
        while any(writer.poll() is None for writer in writers):
            replica.follow(any_store.visits, limit=40)
        assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert stored(any_store.visits) == folded(events, RULE)
    replica.catch_up(any_store.visits)
    assert replica.visits_by_visitor() == stored(any_store.visits)
    assert len(replica.events) == len(events)


@pytest.mark.parametrize("rounds", [3, pytest.param(30, marks=pytest.mark.faults)])
def test_a_writer_that_is_killed_leaves_nothing_half(any_store: Store, rounds: int) -> None:
    """What it said it had saved is there, each batch is there whole or not at all, and the visits are those of it."""
    chance = random.Random(rounds)
    for seed in range(rounds):
        there = {each.id for each in any_store.visits.all_events(SITE)}
        with _writers(any_store.address, seed, 200, 1) as (writer,):
            _go(writer)
            assert writer.stdout is not None
            said = [int(writer.stdout.readline()) for _ in range(chance.randint(1, 15))][-1]
            writer.kill()
            said = max([said, *map(int, re.findall(r"^(\d+)\n", writer.stdout.read(), re.MULTILINE))])
            writer.wait()
        dealt = [
            {each.id for each in batch} - there for batch in batches(seed, stream(seed, 200), most=12, repeats=0.5)
        ]
        events = list(any_store.visits.all_events(SITE))
        found = {each.id for each in events} - there
        assert found in [set().union(*dealt[:number]) for number in range(said + 1, said + 3)]
        assert stored(any_store.visits) == folded(events, RULE)
    replica = Replica()
    replica.catch_up(any_store.visits)
    assert replica.visits_by_visitor() == stored(any_store.visits)


@pytest.mark.parametrize("count", [600, pytest.param(10_000, marks=pytest.mark.faults)])
def test_sent_three_times_shuffled_over_two_connections(any_store: Store, count: int) -> None:
    """The tables are those of one send in order."""
    events = stream(41, count, visitors=count // 10)
    thrice = [*events] * 3
    random.Random(41).shuffle(thrice)
    other = open_store(any_store.address)
    with ThreadPoolExecutor(2) as threads:
        sending = [
            threads.submit(_send, store.visits, thrice[half::2]) for half, store in enumerate((any_store, other))
        ]
    other.close()
    assert sum(each.result() for each in sending) == count
    once = MemoryVisits()
    _send(once, sorted(events, key=lambda each: each.order))
    assert _tables(any_store.visits) == _tables(once)


def _send(store: VisitStore, events: Sequence[Event], size: int = 100, rule: VisitRule = RULE) -> int:
    return sum(save(store, *events[first : first + size], rule=rule).new for first in range(0, len(events), size))


def _tables(store: VisitStore) -> tuple[object, ...]:
    visitors = store.visitor_ids(SITE, limit=1_000_000)
    events = store.events_of_visitors(SITE, visitors)
    return (
        {key: list(of_visitor) for key, of_visitor in events.items()},
        stored(store),
        store.count_events(EventQuery(site_id=SITE)),
    )


@pytest.fixture(scope="module")
def requests() -> list[Event]:
    """Every request of a real access log, by (address, user agent), in the order of the file."""
    found = []
    with (DATA / "apache_logs").open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            match = LINE.match(line)
            if match is not None:
                address, at, request, _, agent = match.groups()
                seconds = to_micros(datetime.strptime(at, "%d/%b/%Y:%H:%M:%S %z")) - NOON
                found.append(event(f"{number:05d}", f"{address} {agent}", seconds / SECOND, url=request[:200]))
    return found


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_a_real_log_in_any_order_and_any_batches(any_store: Store, requests: list[Event], size: int) -> None:
    """The same visits each time; a part of the log here, the whole in the long run."""
    part = requests[: 60 * min(size, 10)]
    random.Random(size).shuffle(part)
    _send(any_store.visits, part, size, ONLY_TIME)
    assert stored(any_store.visits) == folded(part, ONLY_TIME)


@pytest.mark.faults
@pytest.mark.parametrize("size", [1, 7, 1_000])
@pytest.mark.parametrize("seed", range(20))
def test_the_whole_log_in_twenty_orders(any_store: Store, requests: list[Event], size: int, seed: int) -> None:
    """3,223 visits of 9,999 requests, as an independent program counted; batches of one take a part of it."""
    events = requests[:1_000] if size == 1 else list(requests)
    random.Random(seed).shuffle(events)
    _send(any_store.visits, events, size, ONLY_TIME)
    visits = stored(any_store.visits)
    assert visits == folded(events, ONLY_TIME)
    if size > 1:
        assert sum(map(len, visits.values())) == 3_223


@pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800"])
def test_what_cannot_be_stored_is_refused(any_store: Store, text: str) -> None:
    """With its batch, as data that will never be taken; the rest can be saved without it."""
    visits = any_store.visits
    for bad in (event(text), event("e1", text)):
        with pytest.raises(InvalidData):
            save(visits, event("good"), bad)
    assert visits.count_events(EventQuery(site_id=SITE)) == 0
    assert save(visits, event("good")).new == 1
