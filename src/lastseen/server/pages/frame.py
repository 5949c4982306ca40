"""What every page has around it: who is signed in, the way to the other pages, the addresses of styles and scripts."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from litestar import MediaType, Request, Response
from litestar.exceptions import NotFoundException
from litestar.response import Template

from lastseen.accounts.account import Account
from lastseen.devices.key import Scope
from lastseen.server.problem import Problem, answer_problem, problem_of
from lastseen.server.rights import principal_of

STATIC = Path(__file__).parent / "static"
VIEWER = "lastseen.viewer"
"""Where the ASGI scope keeps the account that is signed in."""
IS_SET_UP = "lastseen.is_set_up"
"""Where the ASGI scope keeps whether there is an administrator."""

AnyRequest = Request[Any, Any, Any]

SECTIONS: tuple[tuple[str, str, Scope], ...] = (
    ("Clients", "/", Scope.CLIENTS_READ),
    ("Visits", "/visits", Scope.REPORTS_READ),
    ("Devices", "/devices", Scope.DEVICES_READ),
    ("Keys", "/keys", Scope.KEYS_READ),
    ("Sites", "/sites", Scope.SITES_READ),
)
"""The pages that the header leads to, for those who have the scope."""

_ALSO = {"/devices": "/group"}
"""What a section is, besides what its address begins with."""


def _asset_version() -> str:
    """Return a digest of everything under `static`: it goes into the addresses, which may then be cached for ever."""
    digest = hashlib.blake2s(digest_size=6)
    for file in sorted(STATIC.rglob("*")):
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()


ASSET_VERSION = _asset_version()


def viewer_of(request: AnyRequest) -> Account | None:
    """Return the account that is signed in, or None."""
    viewer: Account | None = request.scope.get(VIEWER)  # type: ignore[assignment]
    return viewer


def frame(request: AnyRequest) -> dict[str, Any]:
    """Return what the templates around every page need."""
    return {
        "viewer": viewer_of(request),
        "is_set_up": request.scope.get(IS_SET_UP, True),
        "path": request.scope["path"],
        "sections": _sections(request),
        "version": ASSET_VERSION,
    }


def _sections(request: AnyRequest) -> list[tuple[str, str, bool]]:
    """Return name, address and whether it is the one that is shown, of each section that is open to who asks."""
    principal, path = principal_of(request), request.scope["path"]
    return [
        (name, address, path == address or (address != "/" and path.startswith(_beginnings(address))))
        for name, address, scope in SECTIONS
        if principal.may(scope)
    ]


def _beginnings(address: str) -> tuple[str, ...]:
    return (address.rstrip("s"), *([_ALSO[address]] if address in _ALSO else ()))


def home_of(request: AnyRequest) -> str | None:
    """Return the first section that is open to who asks, or None."""
    return next((address for _, address, scope in SECTIONS if principal_of(request).may(scope)), None)


def show(
    request: AnyRequest, template: str, *, status: int = 200, headers: dict[str, str] | None = None, **context: Any
) -> Template:
    """Return a page."""
    return Template(template, context={**frame(request), **context}, status_code=status, headers=headers)


def show_problem(request: AnyRequest, error: Exception) -> Response[Any]:
    """Show what went wrong as a page."""
    problem = problem_of(error)
    around = frame(request)
    back = next(((name, address) for name, address, is_current in around["sections"] if is_current), ("Clients", "/"))
    template = Template("problem.html", context={**around, "problem": problem, "back": back})
    answer = template.to_asgi_response(request.app, request, status_code=problem.status_code)
    return Response(
        answer.body, status_code=problem.status_code, media_type=MediaType.HTML, headers=problem.headers or {}
    )


def show_missing(request: AnyRequest, error: NotFoundException) -> Response[Any]:
    """Answer for an address that nothing has: with a page where a browser asks for one, else with problem details."""
    is_for_programs = request.scope["path"].startswith("/api/")
    if is_for_programs or "text/html" not in request.headers.get("accept", ""):
        return answer_problem(request, error)
    return show_problem(request, Problem(404, f"There is no page {request.scope['path'][:200]!r}."))


def go(path: str) -> Response[None]:
    """Send the browser to another page after a form was sent (303: with GET)."""
    return Response(None, status_code=303, headers={"location": path}, media_type=MediaType.HTML)
