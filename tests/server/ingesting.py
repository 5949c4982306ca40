"""A server that takes events, and what became of them in its database."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lastseen import LastSeen
from lastseen.stores import open_store
from lastseen.visits.event import Event
from lastseen.visits.fold import fold
from lastseen.visits.site import Site
from lastseen.visits.store import EventQuery, VisitOrder, VisitQuery, VisitStore
from lastseen.visits.visit import Visit
from tests.server.running import ServerProcess

SITE = "default"
RECORDED_KEY = "phc_test"
"""The key in the recorded requests."""


CARELESS = str(Path(__file__).with_name("careless.py"))


class HopefulServer(ServerProcess):
    """Takes for saved what could not be written."""

    program = (CARELESS, "hopeful")


class ForgetfulServer(ServerProcess):
    """Does not know an event again."""

    program = (CARELESS, "forgetful")


class TrustingServer(ServerProcess):
    """Believes that every body is JSON."""

    program = (CARELESS, "trusting")


class Eyes:
    """Looks into a database beside the server."""

    def __init__(self, url: str) -> None:
        self.address = url
        self._store = open_store(url)

    @property
    def visits(self) -> VisitStore:
        return self._store.visits

    @property
    def site(self) -> Site:
        found = self._store.sites.get_site(SITE)
        assert found is not None
        return found

    def events(self) -> list[Event]:
        """Return all events in the order in which they happened."""
        return sorted(self.visits.all_events(SITE), key=lambda event: event.order)

    def event_count(self) -> int:
        return self.visits.count_events(EventQuery(site_id=SITE))

    def all_visits(self) -> list[Visit]:
        """Return all visits, the oldest first."""
        return list(self.visits.list_visits(VisitQuery(site_id=SITE, order=VisitOrder.OLDEST, limit=1_000)))

    def check(self) -> None:
        """Assert that every visitor's visits are what its events fold into."""
        visitors: list[str] = []
        while page := self.visits.visitor_ids(SITE, after=visitors[-1] if visitors else ""):
            visitors += page
        events = self.visits.events_of_visitors(SITE, visitors)
        visits = self.visits.visits_of_visitors(SITE, visitors)
        for visitor in visitors:
            folded = fold(events[visitor], self.site.rule, visitor)
            assert [(one.id, one.event_count, one.page_views) for one in visits.get(visitor, ())] == [
                (one.id, one.event_count, one.page_views) for one in folded
            ]

    def close(self) -> None:
        self._store.close()

    def __enter__(self) -> Eyes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def sqlite_url(folder: Path) -> str:
    return f"sqlite:///{folder / 'events.db'}"


def prepare(url: str, write_key: str = RECORDED_KEY) -> None:
    """Make a database whose only site has this key, as one that came from PostHog keeps its own."""
    with LastSeen.open(url, migrate=True) as seen:
        site = seen.sites.get(SITE)
        seen.store.sites.delete_site(SITE)
        seen.store.sites.add_site(replace(site, write_key=write_key))


@contextmanager
def event_server(
    folder: Path,
    url: str | None = None,
    *options: str,
    kind: type[ServerProcess] = ServerProcess,
    measured: bool = False,
) -> Iterator[tuple[ServerProcess, Eyes]]:
    """Run a server on a database of its own and look into it."""
    url = url or sqlite_url(folder)
    prepare(url)
    with kind(folder, url, *options, measured=measured) as server, Eyes(url) as eyes:
        yield server, eyes


def batch(numbers: Sequence[int], visitors: int = 5) -> bytes:
    """Return events of our own form, a minute apart; the same numbers are the same events."""
    return json.dumps(
        {
            "write_key": RECORDED_KEY,
            "events": [
                {
                    "id": f"e{number:06d}",
                    "name": "$pageview" if number % 2 else "click",
                    "distinct_id": f"v{number % visitors}",
                    "at": 1_790_000_000 + 60 * number,
                    "url": f"https://shop.test/{number % 7}",
                    "properties": {"n": number},
                }
                for number in numbers
            ],
        }
    ).encode()


def check_stored(eyes: Eyes, acknowledged: set[str], sent: set[str]) -> None:
    """Assert that what was acknowledged is there once, nothing half, nothing invented, and counted right."""
    ids = [event.id for event in eyes.visits.all_events("default")]
    assert len(ids) == len(set(ids))
    assert acknowledged <= set(ids) <= sent
    whole = Counter(event_id.split("-")[0] for event_id in ids)
    for event_id in ids:
        number, _, _, size = event_id.split("-")
        assert whole[number] == int(size), "a batch is stored as a whole or not at all"
    eyes.check()


def metric(server: ServerProcess, name: str) -> float:
    """Return one figure of the server."""
    line = re.search(rf"^{name} (\S+)$", server.http.get("/metrics").text, re.MULTILINE)
    assert line is not None, name
    return float(line[1])
