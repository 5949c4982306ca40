"""What the stores on a database do alike with questions: conditions, and pages. Pure.

Each condition is a constant; the values are parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lastseen.clock import to_micros
from lastseen.stores.text import can_be_stored
from lastseen.visits.event import Event
from lastseen.visits.store import EventQuery, VisitQuery


def visit_conditions(query: VisitQuery) -> dict[str, Any]:
    """Return the names of the conditions that a query sets, with their values."""
    values = {
        "site": query.site_id,
        "started_from": None if query.started_from is None else to_micros(query.started_from),
        "started_before": None if query.started_before is None else to_micros(query.started_before),
        "visitor": query.visitor_id,
        "active_since": None if query.active_since is None else to_micros(query.active_since),
        "bots": query.bots,
        "start_reason": None if query.start_reason is None else query.start_reason.value,
        "url": query.url,
    }
    return {name: value for name, value in values.items() if value is not None}


def event_conditions(query: EventQuery) -> dict[str, Any]:
    """Return the names of the conditions that a query sets, with their values."""
    values = {
        "site": query.site_id,
        "from": None if query.happened_from is None else to_micros(query.happened_from),
        "before": None if query.happened_before is None else to_micros(query.happened_before),
        "distinct_id": query.distinct_id,
        "name": query.name,
    }
    return {name: value for name, value in values.items() if value is not None}


def after_conditions(after: tuple[int, str] | None) -> dict[str, Any]:
    """Return the values of the place behind which a page begins."""
    return {} if after is None else {"after_at": after[0], "after_id": after[1]}


def is_answerable(values: Mapping[str, Any]) -> bool:
    """Return whether a database can hold all the texts that are asked for; else nothing has them."""
    return all(can_be_stored(value) for value in values.values() if isinstance(value, str))


def in_order(events: list[Event]) -> Sequence[Event]:
    """Sort one visitor's events."""
    events.sort(key=lambda event: event.order)
    return events
