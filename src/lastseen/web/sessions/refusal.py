"""A request that may not go on: one answer, the same in every framework."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from http import HTTPStatus

import msgspec

from lastseen.errors import SessionError
from lastseen.sessions.cookie import Header, RequestHead


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """What to answer, and why in a word for programs (`code`) and a sentence for people (`detail`)."""

    status: HTTPStatus
    code: str
    detail: str
    headers: tuple[Header, ...] = ()
    members: dict[str, float] = field(default_factory=dict)

    def answer(self, request: RequestHead) -> tuple[tuple[Header, ...], bytes]:
        """Return headers and body: problem details (RFC 9457), or a page of one sentence for a browser."""
        if accepts_html(request):
            body = f"<!doctype html><title>{self.status.phrase}</title><p>{escape(self.detail)}".encode()
            media_type = "text/html; charset=utf-8"
        else:
            problem = {"status": self.status, "title": self.status.phrase, "detail": self.detail, "code": self.code}
            body = msgspec.json.encode({**problem, **self.members})
            media_type = "application/problem+json"
        return (*self.headers, ("Content-Type", media_type), ("Content-Length", str(len(body)))), body


class RequestRefused(SessionError):
    """The request may not go on; the session middleware answers with `refusal`, whatever the framework makes of it."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


def accepts_html(request: RequestHead) -> bool:
    """Return whether a person at a browser waits for a page; `*/*` alone is a program."""
    for kind in request.headers.get("accept", "").lower().split(","):
        media_type, *parameters = (part.strip() for part in kind.split(";"))
        if media_type in {"text/html", "application/xhtml+xml"}:
            return not any(part.partition("=")[::2] in _NEVER for part in parameters)
    return False


_NEVER = frozenset({("q", "0"), ("q", "0."), ("q", "0.0"), ("q", "0.00"), ("q", "0.000")})

CONFLICT = Refusal(
    status=HTTPStatus.BAD_REQUEST,
    code="credential_conflict",
    detail="The request has two different credentials; send one of them.",
)
UNAVAILABLE = Refusal(
    status=HTTPStatus.SERVICE_UNAVAILABLE,
    code="store_unavailable",
    detail="Who is signed in cannot be looked up right now; try again in a moment.",
    headers=(("Retry-After", "5"),),
)
NOT_BY_POST = Refusal(
    status=HTTPStatus.METHOD_NOT_ALLOWED,
    code="post_required",
    detail="Signing out needs a POST, so that no link or image can do it.",
    headers=(("Allow", "POST"),),
)


def forged(problem: str) -> Refusal:
    """Return the answer to what another site made a browser send."""
    return Refusal(status=HTTPStatus.FORBIDDEN, code="cross_site_request", detail=f"Refused: {problem}.")


def session_required(challenges: tuple[str, ...], *, presented: bool) -> Refusal:
    """Return the 401; a token that was presented is called invalid (RFC 6750, 3.1)."""
    suffix = ' error="invalid_token"' if presented else ""
    return Refusal(
        status=HTTPStatus.UNAUTHORIZED,
        code="session_required",
        detail="Sign in first.",
        headers=tuple(("WWW-Authenticate", challenge + suffix) for challenge in challenges),
    )


def sent_to_login(location: str, *, keeps_method: bool) -> Refusal:
    """Return the redirect to the login page; a form that was sent is not sent on to it."""
    return Refusal(
        status=HTTPStatus.TEMPORARY_REDIRECT if keeps_method else HTTPStatus.SEE_OTHER,
        code="session_required",
        detail="Sign in first.",
        headers=(("Location", location),),
    )


def recent_sign_in_required(max_age_seconds: float) -> Refusal:
    """Return the 403 that asks the user to prove again who they are."""
    return Refusal(
        status=HTTPStatus.FORBIDDEN,
        code="recent_sign_in_required",
        detail="Confirm your password first.",
        members={"max_age": max_age_seconds},
    )
