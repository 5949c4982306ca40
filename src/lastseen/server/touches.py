"""What a body says about activity: one object, many, or one a line."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from lastseen.activity.buffer import Outcome
from lastseen.activity.clients import ClientActivity
from lastseen.activity.key import key_problem
from lastseen.clock import seconds_since_1970
from lastseen.ingest.times import seconds_of_number
from lastseen.server.problem import Problem

SHOWN_ERRORS = 10
NO_TIME = math.nan
"""What no tracker accepts: the moment of an activity whose time cannot be read."""


class Touch(msgspec.Struct, gc=False):
    """One activity in its usual form; fields that are not named here are ignored."""

    client_id: str = ""
    at: str | int | float | None = None


class _AnyTouch(msgspec.Struct, gc=False):
    """One activity whatever its fields hold; they are kept as they were written."""

    client_id: msgspec.Raw = msgspec.Raw()
    at: msgspec.Raw = msgspec.Raw()


decode_touch: Callable[[bytes], Touch] = msgspec.json.Decoder(Touch).decode
_decode_touches = msgspec.json.Decoder(list[Touch]).decode
_decode_any_touch = msgspec.json.Decoder(_AnyTouch).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_at = msgspec.json.Decoder(str | int | float | None).decode
_decode_client_id = msgspec.json.Decoder(str | int | float | None).decode
# msgspec's errors and a body that is not UTF-8 are ValueErrors; the other is a body nested too deep.
NOT_DECODABLE = (ValueError, RecursionError)


@dataclass(slots=True)
class Tally:
    """What became of the activities of one request; `errors` shows the first ten that were rejected."""

    accepted: int = 0
    rejected: int = 0
    dropped: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)

    def reject(self, position: dict[str, int], reason: str) -> None:
        """Count one that can never be stored, and remember where it was and why."""
        self.rejected += 1
        if len(self.errors) < SHOWN_ERRORS:
            self.errors.append({**position, "reason": reason})

    def body(self) -> bytes:
        """Return the answer."""
        counts = {"accepted": self.accepted, "rejected": self.rejected, "dropped": self.dropped}
        return msgspec.json.encode({**counts, "errors": self.errors} if self.errors else counts)


@dataclass(slots=True)
class Reception:
    """Records what one request brings. `client_id` names the client of what names none itself."""

    clients: ClientActivity
    client_id: str = ""
    tally: Tally = field(default_factory=Tally)

    def touch(self) -> None:
        """Record a request without a body: the client was active now."""
        self._record("", None, {"index": 0})

    def document(self, body: bytes) -> Iterator[None]:
        """Record a JSON object or an array of them; yields now and then, for others to have their turn.

        Raises `Problem` (400) for what is no JSON, or neither of the two. One bad item never spoils the others.
        """
        try:
            touches: Sequence[Touch | msgspec.Raw] = _decode_touches(body)
        except NOT_DECODABLE:
            touches = _items(body)
        for index, touch in enumerate(touches):
            position = {"index": index}
            if isinstance(touch, Touch):
                self._record(touch.client_id, touch.at, position)
            else:
                self._item(touch, position)
            if index % 1_000 == 999:  # noqa: PLR2004 - about a millisecond
                yield

    def line(self, number: int, line: bytes | None) -> None:
        """Record one line; an empty one means nothing, None is one that was too long."""
        if line is None:
            self.tally.reject({"line": number}, "the line is longer than 64 KiB")
        elif line.strip():
            self._item(line, {"line": number})

    def _item(self, item: bytes | msgspec.Raw, position: dict[str, int]) -> None:
        try:
            touch = _decode_any_touch(item)
            client_id = _client_id_text(touch.client_id)
        except NOT_DECODABLE as error:
            reason = str(error) or "nested too deep"
            self.tally.reject(position, f'not an object such as {{"client_id": "my-client"}}: {reason}')
            return
        try:
            at = _decode_at(touch.at) if touch.at else None
        except NOT_DECODABLE:
            at = NO_TIME
        self._record(client_id, at, position)

    def _record(self, client_id: str, at: str | float | None, position: dict[str, int]) -> None:
        client_id = client_id or self.client_id
        self.count(self.clients.record(client_id, None if at is None else moment_of(at)), client_id, position)

    def count(self, outcome: Outcome, client_id: str, position: dict[str, int]) -> None:
        """Count one that was recorded, or tried."""
        if outcome is Outcome.ACCEPTED:
            self.tally.accepted += 1
        elif outcome is Outcome.DROPPED:
            self.tally.dropped += 1
        else:
            self.tally.reject(position, _reason(client_id))


def moment_of(at: str | float) -> float:
    """Return seconds since 1970, or `NO_TIME` for what is no moment with an offset.

    Large numbers are milliseconds, microseconds or nanoseconds, as those of events are read.
    """
    moment: float | None
    try:
        moment = seconds_since_1970(datetime.fromisoformat(at)) if isinstance(at, str) else seconds_of_number(at)
    except (ValueError, OverflowError):
        moment = None
    return NO_TIME if moment is None else moment


def _items(body: bytes) -> list[msgspec.Raw]:
    """Return the items of an array, or one object as the only item."""
    start = body.lstrip()[:1]
    try:
        body.decode()
        msgspec.json.decode(body, type=msgspec.Raw)
        if start == b"[":
            return _decode_items(body)
    except NOT_DECODABLE as error:
        raise Problem(400, f"the body is not JSON: {str(error) or 'nested too deep'}") from error
    if start != b"{":
        raise Problem(400, 'the body must be an object such as {"client_id": "my-client"}, or an array of them')
    return [msgspec.Raw(body)]


def _client_id_text(raw: msgspec.Raw) -> str:
    """Return a text, or a number as it was written; anything else names no client; `ValueError` for no JSON."""
    if not raw:
        return ""
    try:
        value = _decode_client_id(raw)
    except msgspec.ValidationError:
        return ""
    if value is None or isinstance(value, str):
        return value or ""
    return bytes(raw).decode("ascii").strip()


def _reason(client_id: str) -> str:
    if not client_id:
        return "client_id is missing; name it as a text or a number in the object, or as ?client_id="
    problem = key_problem(client_id)
    if problem is not None:
        return f"client_id {problem}"
    return "at must be seconds or parts of them since 1970, or ISO 8601 with an offset such as 2026-01-31T12:00:00Z"
