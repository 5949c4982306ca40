"""`Idempotency-Key`: a POST that is sent again makes nothing twice (draft-ietf-httpapi-idempotency-key-header)."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, TypeVar

import msgspec
from litestar.params import HeaderParameter

from lastseen.clock import SYSTEM_CLOCK, Clock
from lastseen.server.problem import Problem
from lastseen.server.rights import Principal

MAX_KEY = 255
REMEMBERED_FOR = timedelta(minutes=10)
MOST_REMEMBERED = 1_000

IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="idempotency-key",
        min_length=1,
        max_length=MAX_KEY,
        description="any text of your own; the same request with the same text within ten minutes gets the same answer "
        "and makes nothing twice",
    ),
]

Result = TypeVar("Result")


@dataclass(slots=True)
class _Answer:
    fingerprint: bytes
    until: float
    value: Any = None
    is_there: bool = False


class IdempotentAnswers:
    """Remembers what was answered, by who asked and by their key: in this process, for ten minutes, 1,000 at most.

    In memory alone, because an answer may hold the secret of a key. Any thread may ask.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._answers: OrderedDict[tuple[str, str, str], _Answer] = OrderedDict()

    def once(self, who: Principal, route: str, key: str | None, request: object, make: Callable[[], Result]) -> Result:
        """Return what `make` makes, or what it made for the same key and request before.

        What it raises is not remembered. 422 when the key was used for another request, 409 while the first one runs.
        """
        if key is None:
            return make()
        place = (who.name, route, key)
        answer = self._begin(place, hashlib.sha256(msgspec.json.encode(request, order="sorted")).digest())
        if answer.is_there:
            return answer.value  # type: ignore[no-any-return]
        try:
            answer.value = make()
        except BaseException:
            with self._lock:
                self._answers.pop(place, None)
            raise
        answer.is_there = True
        return answer.value  # type: ignore[no-any-return]

    def _begin(self, place: tuple[str, str, str], fingerprint: bytes) -> _Answer:
        now = self._clock.monotonic()
        with self._lock:
            self._forget(now)
            found = self._answers.get(place)
            if found is None:
                found = self._answers[place] = _Answer(
                    fingerprint=fingerprint, until=now + REMEMBERED_FOR.total_seconds()
                )
                return found
        if found.fingerprint != fingerprint:
            raise Problem(422, "this Idempotency-Key was used for another request; take a new one")
        if not found.is_there:
            raise Problem(409, "the first request with this Idempotency-Key is still under way; try again in a moment")
        return found

    def _forget(self, now: float) -> None:
        while self._answers:
            oldest = next(iter(self._answers.values()))
            if now < oldest.until and len(self._answers) < MOST_REMEMBERED:
                return
            self._answers.popitem(last=False)


class Once:
    """Makes something for one request, or finds what was made for it before."""

    def __init__(self, answers: IdempotentAnswers, who: Principal, key: str | None) -> None:
        self._answers = answers
        self._who = who
        self._key = key

    def __call__(self, route: str, request: object, make: Callable[[], Result]) -> Result:
        """See `IdempotentAnswers.once`."""
        return self._answers.once(self._who, route, self._key, request, make)


def provide_once(answers: IdempotentAnswers, principal: Principal, idempotency_key: IdempotencyKey = None) -> Once:
    """Return what makes something once, by the Idempotency-Key of the request."""
    return Once(answers, principal, idempotency_key)
