"""What PostHog's client libraries send, old and new: every shape of body, every place of a key. Pure.

The shapes were seen in the requests of posthog-js 1.96 to 1.449, posthog for Python 3.5 and 7.91 and posthog-node 5.70;
what they mean is told in https://posthog.com/docs/api/capture.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from lastseen.ingest.origin import Origin, derived_id, id_text
from lastseen.ingest.outcome import Dropped, Unacceptable
from lastseen.ingest.posthog_event import Envelope, distinct_id_of, properties_of, raw_event
from lastseen.ingest.times import micros_of
from lastseen.visits.making import RawEvent

MAX_EVENTS = 10_000
"""A request; the libraries send at most 100."""
_MOST_DIGITS = 20
"""Of a moment; nanoseconds have 19."""
SNAPSHOT = "$snapshot"
REPLAY_IS_OFF = "replay is off"

_NEVER_KEPT = {
    SNAPSHOT: REPLAY_IS_OFF,
    "$$heatmap": "heatmaps are not kept",
    "$groupidentify": "groups are not kept",
    "$$client_ingestion_warning": "a warning of the library",
}


class Hints(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the address and the headers of a request say beside its body."""

    token: str | None = None
    sent_at: str | None = None
    library: str | None = None
    """`posthog-python/7.91.1`, of the header of the newest protocol."""


@dataclass(slots=True, kw_only=True)
class Batch:
    """What one request brought. `uuids` are the events' own ids, in their order, None for an event without one."""

    token: str | None = None
    is_import: bool = False
    """Old events on purpose: never late."""
    events: list[RawEvent] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    uuids: list[str | None] = field(default_factory=list)
    size: int = 0
    """Bytes that all of it was read from."""


def decode_batch(value: Any, origin: Origin, hints: Hints) -> Batch:
    """Return the events of a decoded body; raises `Unacceptable` for what is neither object nor array.

    One bad event never spoils the others.
    """
    envelope, items = _open(value, hints)
    if len(items) > MAX_EVENTS:
        raise Unacceptable(413, f"a request may bring {MAX_EVENTS} events; send it in parts")
    reader = _Reader(_token(value, items, hints), origin, envelope)
    for index, item in enumerate(items):
        reader.read(index, item)
    return reader.batch


def _open(value: Any, hints: Hints) -> tuple[Envelope, list[Any]]:
    if isinstance(value, list):
        return Envelope(sent_at=micros_of(_number_of(hints.sent_at)), library=hints.library), value
    if not isinstance(value, dict):
        raise Unacceptable(400, "the body is neither an event nor a batch of events")
    sent_at = value.get("sent_at") or value.get("sentAt") or hints.sent_at
    is_import = value.get("historical_migration") is True
    envelope = Envelope(sent_at=micros_of(_number_of(sent_at)), is_import=is_import, library=hints.library)
    batch = value.get("batch")
    return envelope, batch if isinstance(batch, list) else [value]


def _number_of(moment: Any) -> Any:
    """Return `_=1795306658865` of a query as the number that it is."""
    is_number = isinstance(moment, str) and len(moment) <= _MOST_DIGITS and moment.isascii() and moment.isdigit()
    return int(moment) if is_number else moment


def _token(value: Any, items: list[Any], hints: Hints) -> str | None:
    """Return the key of the project from the first place that has one."""
    outer = value if isinstance(value, dict) else {}
    first = next((item for item in items if isinstance(item, dict)), {})
    candidates = (
        outer.get("api_key"),
        outer.get("token"),
        first.get("api_key"),
        first.get("token"),
        properties_of(first).get("token"),
        hints.token,
    )
    return next((token for token in candidates if isinstance(token, str) and token), None)


class _Reader:
    """Reads the events of one request in their order."""

    def __init__(self, token: str | None, origin: Origin, envelope: Envelope) -> None:
        self.batch = Batch(token=token, is_import=envelope.is_import)
        self._origin = origin
        self._envelope = envelope
        self._identical: Counter[str] = Counter()

    def read(self, index: int, item: Any) -> None:
        uuid = id_text(item.get("uuid")) if isinstance(item, dict) else None
        self.batch.uuids.append(uuid)
        cause = _problem_of(item)
        if cause is not None:
            self.batch.dropped.append(Dropped(index=index, cause=cause, reason=cause))
            return
        self.batch.events.append(raw_event(item, uuid or self._made_id(item), self._origin, self._envelope))

    def _made_id(self, item: Mapping[str, Any]) -> str:
        """Make the id of an event that has none, which is the same when the library tries again.

        One that also names no moment is another event each time it comes: nothing tells a repetition from a second one.
        """
        moment = item.get("timestamp")
        if moment is None:
            moment = self._origin.received_at
        content = derived_id(self.batch.token, distinct_id_of(item), item.get("event"), moment, item.get("properties"))
        before = self._identical[content]
        self._identical[content] += 1
        return derived_id(content, before) if before else content


def _problem_of(item: Any) -> str | None:
    if not isinstance(item, dict):
        return "not an event"
    name = item.get("event")
    if not isinstance(name, str) or not name.strip():
        return "no name"
    if name in _NEVER_KEPT:
        return _NEVER_KEPT[name]
    return None if distinct_id_of(item) else "no distinct_id"
