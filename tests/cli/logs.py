"""The access log that the tests import, in any order, and what must come out of it."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from lastseen import LastSeen
from lastseen.clock import to_micros
from lastseen.visits.site import DEFAULT_SITE_ID
from lastseen.visits.store import MAX_PAGE, EventQuery, VisitOrder, VisitQuery
from lastseen.visits.visit import Visit

LOG = Path(__file__).parent.parent / "data" / "apache_logs"
LINES = 10_000
BAD_LINE = 8_899
EVENTS = 9_999
VISITS = 3_223
"""With a timeout of 1,800 seconds and neither referrer nor campaign considered, robots included."""
PAGE_VIEWS = 3_912
PEOPLES_PAGE_VIEWS = 2_188
"""Without the robots that say so themselves."""
PEOPLES_VISITS = 1_361

TIME_ONLY = {
    "LASTSEEN_NEW_VISIT_ON_REFERRER_CHANGE": "false",
    "LASTSEEN_NEW_VISIT_ON_UTM_CHANGE": "false",
}


def shuffled(path: Path, seed: int) -> Path:
    """Write the log in another order."""
    lines = LOG.read_bytes().splitlines(keepends=True)
    if not lines[-1].endswith(b"\n"):
        lines[-1] += b"\n"
    Random(seed).shuffle(lines)
    path.write_bytes(b"".join(lines))
    return path


def visits_in(database: str, site: str = DEFAULT_SITE_ID) -> list[Visit]:
    """Return all visits, by start."""
    found: list[Visit] = []
    with LastSeen.open(database) as seen:
        query: dict[str, Any] = {"site_id": site, "order": VisitOrder.OLDEST, "limit": MAX_PAGE}
        while page := seen.store.visits.list_visits(VisitQuery(**query)):
            found += page
            query["after"] = (to_micros(page[-1].started_at), page[-1].id)
    return found


def count_events(database: str) -> int:
    """Return how many events there are; 0 as long as there is no table."""
    with LastSeen.open(database) as seen:
        return seen.store.visits.count_events(EventQuery(site_id=DEFAULT_SITE_ID))
