"""One request to the API, and how its answer is read: a value that any transport can send. No I/O."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from enum import Enum
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from lastseen.errors import LastSeenError
from lastseen.wire.problem import ProblemDetails

Answer = TypeVar("Answer")


class ApiError(LastSeenError):
    """The server has refused: `status` and `problem` tell why, and the problem's detail says what to do.

    `retry_after` is how many seconds the server asks to wait, when it does.
    """

    def __init__(self, problem: ProblemDetails, retry_after: float | None = None) -> None:
        super().__init__(f"{problem.status} {problem.title}: {problem.detail}")
        self.problem = problem
        self.status = problem.status
        self.retry_after = retry_after


@dataclass(frozen=True, kw_only=True, slots=True)
class Call(Generic[Answer]):
    """What to send, and the type of the answer. Sending the same value again repeats the same request safely."""

    operation: str
    """The operation's id in the OpenAPI document."""
    method: str
    template: str
    """The path, with names in braces."""
    answer: type[Answer]
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    idempotency_key: str | None = None

    @property
    def target(self) -> str:
        """The path with its query; each value in the path is one percent-encoded segment."""
        path = self.template.format(**{name: quote(value, safe="") for name, value in self.path.items()})
        query = urlencode([(name, _text(one)) for name, value in self.query.items() for one in _each(value)])
        return f"{path}?{query}" if query else path

    @property
    def headers(self) -> dict[str, str]:
        """What goes with it, beside the credential."""
        headers = {"accept": "application/json"}
        if self.body is not None:
            headers["content-type"] = "application/json"
        if self.idempotency_key is not None:
            headers["idempotency-key"] = self.idempotency_key
        return headers

    @property
    def content(self) -> bytes | None:
        """The body, as it is sent."""
        return None if self.body is None else msgspec.json.encode(self.body)

    def decode(self, status: int, content: bytes, headers: Mapping[str, str]) -> Answer:
        """Return the answer; raises `ApiError` for a refusal, also for one that is none of this server's."""
        if status >= 400:  # noqa: PLR2004 - RFC 9110: refusals begin here
            raise ApiError(_problem_of(status, content), _seconds(headers.get("retry-after")))
        if self.answer is type(None):
            return None
        try:
            return msgspec.json.decode(content, type=self.answer)
        except msgspec.DecodeError as error:
            problem = ProblemDetails(status=status, title="Unexpected answer", detail=f"this is no lastseen: {error}")
            raise ApiError(problem) from error

    def after(self, cursor: str) -> Call[Answer]:
        """Return the call for the page that a listing's `next_cursor` names."""
        return replace(self, query={**self.query, "cursor": cursor})


def once() -> str:
    """Return an Idempotency-Key: sending the same call again makes nothing twice."""
    return secrets.token_urlsafe(16)


def _each(value: Any) -> tuple[Any, ...]:
    """Return what a parameter is given with: several times for a tuple, not at all for None."""
    if isinstance(value, tuple):
        return value
    return () if value is None else (value,)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, date):
        return value.isoformat()
    return str(value.value) if isinstance(value, Enum) else str(value)


def _problem_of(status: int, content: bytes) -> ProblemDetails:
    try:
        return msgspec.json.decode(content, type=ProblemDetails)
    except msgspec.DecodeError:
        return ProblemDetails(status=status, title="Refused", detail=content[:200].decode("utf-8", "replace"))


def _seconds(header: str | None) -> float | None:
    return float(header) if header is not None and header.isdigit() else None
