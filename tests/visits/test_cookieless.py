"""Visitors without a cookie: who is the same, for how long, and that nothing leads back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from lastseen.clock import to_micros
from lastseen.stores import Store, open_store
from lastseen.stores.memory.salts import MemorySalts
from lastseen.visits.cookieless import CookielessVisitors, ImportedVisitors, Salts, visitor_hash

NOON = datetime(2026, 3, 28, 12, tzinfo=UTC)
BEFORE_MIDNIGHT = datetime(2026, 3, 28, 23, 50, tzinfo=UTC)
ADDRESS, AGENT = "198.51.100.7", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Make an empty store with its tables."""
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    else:
        url = "memory:" if request.param == "memory" else f"sqlite:///{tmp_path}/salts.db"
    opened = open_store(url)
    opened.migrate()
    yield opened
    opened.close()


def name(visitors: CookielessVisitors, at: datetime, address: str = ADDRESS, agent: str = AGENT) -> str:
    return visitors.visitor_id(address, agent, to_micros(at))


def test_a_day_has_one_salt(store: Store) -> None:
    """Whoever comes first makes the salt of a day, and everybody after gets the same."""
    day = date(2026, 3, 28)
    assert store.salts.get_salt(day) is None
    assert store.salts.ensure_salt(day, b"a" * 32) == b"a" * 32
    assert store.salts.ensure_salt(day, b"b" * 32) == b"a" * 32
    assert store.salts.get_salt(day) == b"a" * 32
    assert store.salts.ensure_salt(date(2026, 3, 29), b"c" * 32) == b"c" * 32


def test_many_at_once_get_the_same_salt(store: Store) -> None:
    """Twenty threads at the first event of a day agree."""
    day, got = date(2026, 3, 28), []
    start = threading.Barrier(20)

    def ask(number: int) -> None:
        start.wait()
        got.append(store.salts.ensure_salt(day, bytes([number]) * 32))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 20
    assert set(got) == {store.salts.get_salt(day)}


def test_salts_are_deleted_after_two_days(store: Store) -> None:
    """The salt of a day is gone with the first event two days later; that of the day before is still there."""
    salts = Salts(store.salts)
    salts.at(NOON)
    salts.at(NOON + timedelta(days=1))
    assert store.salts.get_salt(NOON.date()) is not None
    salts.at(NOON + timedelta(days=2))
    assert store.salts.get_salt(NOON.date()) is None
    assert store.salts.get_salt(NOON.date() + timedelta(days=1)) is not None


def test_salts_are_deleted_without_any_event(store: Store) -> None:
    """Pruning deletes them where no event comes, also from memory: the same day would get another salt."""
    salts = Salts(store.salts)
    before, _ = salts.at(NOON)
    assert salts.prune(NOON + timedelta(days=1)) == 0
    assert salts.at(NOON)[0] == before
    assert salts.prune(NOON + timedelta(days=2)) == 1
    assert salts.at(NOON)[0] != before


def test_a_visitor_is_the_same_all_day_and_another_the_next() -> None:
    """Within a day and site, address and user agent name one visitor; the next day nothing connects them."""
    salts = Salts(MemorySalts())
    visitors = CookielessVisitors("shop", salts)
    assert name(visitors, NOON) == name(visitors, NOON + timedelta(hours=11))
    assert name(visitors, NOON) != name(visitors, NOON + timedelta(days=1))
    assert name(visitors, NOON) != name(CookielessVisitors("blog", salts), NOON)
    assert name(visitors, NOON) != name(visitors, NOON, agent="curl/8")
    assert name(visitors, NOON) != name(visitors, NOON, address="198.51.100.8")


def test_texts_cannot_run_together() -> None:
    """Moving a letter from one text to the next gives another name."""
    key = b"k" * 32
    assert visitor_hash(key, "a", "bc", "d") != visitor_hash(key, "ab", "c", "d") != visitor_hash(key, "ab", "cd", "")


def test_a_visit_goes_on_past_midnight() -> None:
    """While a visit of yesterday is open its visitor keeps the name; a visitor without one gets today's."""
    open_visits: set[str] = set()
    visitors = CookielessVisitors("shop", Salts(MemorySalts()), lambda _site, visitor, _at: visitor in open_visits)
    yesterday = name(visitors, BEFORE_MIDNIGHT)
    open_visits.add(yesterday)
    after = BEFORE_MIDNIGHT + timedelta(minutes=15)
    assert name(visitors, after) == yesterday
    assert name(visitors, after + timedelta(minutes=5)) == yesterday
    assert name(visitors, after, agent="another") != name(visitors, BEFORE_MIDNIGHT, agent="another")
    open_visits.clear()
    assert name(visitors, after + timedelta(hours=2)) != yesterday


def test_a_new_process_finds_the_visit_that_goes_on() -> None:
    """Two processes with one store agree, although the second one knows nothing of yesterday."""
    store, open_visits = MemorySalts(), set[str]()

    def process() -> CookielessVisitors:
        return CookielessVisitors("shop", Salts(store), lambda _site, visitor, _at: visitor in open_visits)

    first = process()
    open_visits.add(name(first, BEFORE_MIDNIGHT))
    after = BEFORE_MIDNIGHT + timedelta(minutes=15)
    assert name(process(), after) == name(first, after) == name(first, BEFORE_MIDNIGHT)


def test_todays_own_visit_wins() -> None:
    """Who has a visit under today's name stays with it: a visit is never torn in two by a look at yesterday."""
    open_visits: set[str] = set()
    visitors = CookielessVisitors("shop", Salts(MemorySalts()), lambda _site, visitor, _at: visitor in open_visits)
    yesterday = name(visitors, BEFORE_MIDNIGHT)
    after = BEFORE_MIDNIGHT + timedelta(minutes=15)
    today = name(visitors, after)
    assert today != yesterday
    open_visits |= {yesterday, today}
    assert name(visitors, after + timedelta(minutes=1)) == today


def test_imported_visitors_stay() -> None:
    """Importing again, years later, finds the same visitors; another site's secret finds others."""
    visitors = ImportedVisitors("shop", b"s" * 32)
    again = ImportedVisitors("shop", b"s" * 32)
    assert visitors.visitor_id(ADDRESS, AGENT, 0) == again.visitor_id(ADDRESS, AGENT, to_micros(NOON))
    assert visitors.visitor_id(ADDRESS, AGENT, 0) != ImportedVisitors("shop", b"t" * 32).visitor_id(ADDRESS, AGENT, 0)
    assert ADDRESS not in visitors.visitor_id(ADDRESS, AGENT, 0)
