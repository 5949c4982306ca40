"""A batch of events before the transaction that saves it; what can be made of it then makes nobody wait. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from lastseen.errors import InvalidData
from lastseen.stores.visit_rows import body_of, text_of
from lastseen.visits.event import ALIAS, IDENTIFY, Event
from lastseen.visits.fold import resume_sorted
from lastseen.visits.limits import limits_of
from lastseen.visits.rule import VisitRule
from lastseen.visits.visit import Visit

LINKING = frozenset({IDENTIFY, ALIAS})
"""The names of events that may link two ids."""


class Group(NamedTuple):
    """The events of one distinct id in their order, and what they fold into where nothing was there before."""

    events: list[Event]
    visits: list[Visit]
    texts: list[str]
    """The JSON of the visits."""


class PreparedBatch(list[Event]):
    """Events of one site, each once, none of which links ids; made by `prepare`, and not changed any more."""

    __slots__ = ("bodies", "groups", "rule", "site_id")

    def __init__(
        self, events: Sequence[Event], site_id: str, rule: VisitRule, bodies: Sequence[str], groups: Mapping[str, Group]
    ) -> None:
        super().__init__(events)
        self.site_id = site_id
        self.rule = rule
        self.bodies = bodies
        """See `body_of`; one for each event."""
        self.groups = groups
        """By the distinct id."""


def prepare(events: Sequence[Event], rule: VisitRule) -> Sequence[Event]:
    """Return events for `VisitStore.save`, which takes less time over them then, given the rule of their site.

    Worth it where many come at once, most of them of visitors who were not there before. Events that cannot be prepared
    are returned as they are. Raises `InvalidData` as saving them would.
    """
    sites = {event.site_id for event in events}
    if (
        len(sites) != 1
        or len({event.id for event in events}) < len(events)
        or any(event.name in LINKING for event in events)
    ):
        return events
    check(events)
    by_id: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        by_id[event.distinct_id].append(event)
    limits = limits_of(rule)
    groups: dict[str, Group] = {}
    for distinct_id, its_events in by_id.items():
        its_events.sort(key=_order)
        visits = resume_sorted(None, its_events, limits, distinct_id)
        groups[distinct_id] = Group(its_events, visits, [text_of(visit) for visit in visits])
    return PreparedBatch(events, sites.pop(), rule, [body_of(event) for event in events], groups)


def bodies_of(events: Collection[Event]) -> Callable[[Event], str]:
    """Return what gives the body of each of these events: what was prepared, or `body_of`."""
    if not isinstance(events, PreparedBatch):
        return body_of
    bodies = dict(zip((event.id for event in events), events.bodies, strict=True))
    return lambda event: bodies[event.id]


def each_once(events: Sequence[Event]) -> Sequence[Event]:
    """Return the events in their order, of copies the first."""
    if len({event.id for event in events}) == len(events):
        return events
    first: dict[tuple[str, str], Event] = {}
    for event in events:
        first.setdefault((event.site_id, event.id), event)
    return list(first.values())


def check(events: Iterable[Event]) -> None:
    """Refuse what has a column of its own with the one character that some databases cut a text at, or refuse.

    Other text that none can hold they refuse themselves.
    """
    for event in events:
        if "\0" in event.id or "\0" in event.distinct_id or "\0" in event.name or "\0" in (event.url or ""):
            raise InvalidData(f"no database can hold NUL in an id, the name or the address of the event {event.id!r}")


def _order(event: Event) -> tuple[int, str]:
    return event.at, event.id
