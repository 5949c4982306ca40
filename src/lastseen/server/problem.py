"""Answers that say what went wrong and what to do: problem details (RFC 9457)."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.plugins.problem_details import ProblemDetailsException

from lastseen.accounts.account import AccountError, AccountNotFound
from lastseen.accounts.sign_in import Throttled
from lastseen.errors import (
    AlreadyExists,
    ConfigurationError,
    InvalidCursor,
    InvalidData,
    InvalidValue,
    MissingExtra,
    NotFound,
    SessionError,
    SessionNotFound,
    StoreError,
)
from lastseen.visits.site import SiteExists, SiteNotFound
from lastseen.web.sessions.refusal import RequestRefused

MEDIA_TYPE = "application/problem+json"
_FIELD_OF_BODY = re.compile(r"(?P<what>.*) - at `\$\.data\.(?P<field>.*)`", re.DOTALL).fullmatch
_logger = logging.getLogger("lastseen.server")


class Problem(ProblemDetailsException):
    """One answer: the status, what is wrong, and members of its own such as `parameter`.

    The type is left out, which the standard reads as `about:blank`: the status says all that a program needs.
    """

    def __init__(self, status: int, detail: str, *, headers: dict[str, str] | None = None, **members: str) -> None:
        super().__init__(
            detail=detail,
            status_code=status,
            title=HTTPStatus(status).phrase,
            headers=headers,
            extra=members or None,
        )

    @classmethod
    def bad_parameter(cls, parameter: str, detail: str) -> Problem:
        """Return the answer to a query parameter that cannot be."""
        return cls(400, f"{parameter}: {detail}", parameter=parameter)

    def body(self) -> bytes:
        """Return the JSON document, for routes that are not Litestar's."""
        members: dict[str, Any] = self.extra if isinstance(self.extra, dict) else {}
        return msgspec.json.encode({"status": self.status_code, "title": self.title, "detail": self.detail, **members})


def stopping() -> Problem:
    """Return the answer to a request that takes longer than the end of the server waits, for `cut_off`."""
    return Problem(503, "the server is stopping; send this again", headers={"retry-after": "5", "connection": "close"})


async def cut_off(answering: Awaitable[int]) -> int:
    """Send the answer to a request whose task was cancelled, and return its status.

    Raises `CancelledError` again when another answer is on its way already: then nobody can be told.
    """
    try:
        return await answering
    except Exception:  # noqa: BLE001 - each HTTP server has its own for a second beginning
        raise asyncio.CancelledError from None


def problem_of(error: Exception) -> Problem:  # noqa: PLR0911 - one line a kind
    """Return the answer to an exception that a handler raised; what nobody expected is logged and becomes a 500."""
    match error:
        case Problem():
            return error
        case HTTPException():
            return _of_http_exception(error)
        case AccountError() | SessionError():
            return _of_account_error(error)
        case InvalidCursor():
            return Problem.bad_parameter("cursor", str(error))
        case InvalidData():
            return Problem(400, "the database refuses a value of this request; check the parameters")
        case StoreError():
            return Problem(503, f"the store cannot answer: {error}", headers={"retry-after": "5"})
    for kind, status in _PLAIN.items():
        if isinstance(error, kind):
            return Problem(status, str(error))
    if isinstance(error, MissingExtra):
        return Problem(501, f"{error}, where this server runs")
    _logger.error("a request failed unexpectedly", exc_info=error)
    return Problem(500, "this is a defect of lastseen; the log of the server has the details")


_PLAIN: dict[type[Exception], int] = {
    NotFound: 404,
    SiteNotFound: 404,
    AlreadyExists: 409,
    SiteExists: 409,
    InvalidValue: 400,
    ConfigurationError: 400,
}
"""What says all that there is to say in its own words."""


def answer_problem(_: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Answer an exception; Litestar calls this for every one."""
    problem = problem_of(error)
    return Response(problem.body(), status_code=problem.status_code, media_type=MEDIA_TYPE, headers=problem.headers)


def _of_account_error(error: AccountError | SessionError) -> Problem:
    match error:
        case RequestRefused(refusal=refusal):
            return Problem(refusal.status, refusal.detail, headers=dict(refusal.headers), code=refusal.code)
        case Throttled(seconds=seconds):
            return Problem(429, str(error), headers={"retry-after": str(seconds)})
        case AccountNotFound() | SessionNotFound():
            return Problem(404, str(error))
    return Problem(409, str(error))


def _of_http_exception(error: HTTPException) -> Problem:
    if isinstance(error, ValidationException) and isinstance(error.extra, list) and error.extra:
        first: Any = error.extra[0]
        if "key" in first:
            return Problem.bad_parameter(str(first["key"]), str(first.get("message", error.detail)))
    cause = error.__cause__
    if isinstance(cause, msgspec.ValidationError) and (found := _FIELD_OF_BODY(str(cause))):
        # Litestar takes a wrong field for its own mistake when it is called like one of our dependencies: `seen`.
        return Problem.bad_parameter(found["field"], found["what"])
    detail = _SAID_BY_NOBODY.get(error.status_code) if error.detail == HTTPStatus(error.status_code).phrase else None
    return Problem(error.status_code, detail or error.detail, headers=error.headers)


_SAID_BY_NOBODY = {
    404: "there is nothing at this address; /api/v1/docs shows those of the API",
    405: "this address does not take this method; the header Allow names those that it takes",
}
"""What the framework answers with the status alone."""
