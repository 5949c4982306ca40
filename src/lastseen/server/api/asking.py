"""What every resource asks of a request: paths, parameters, who it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import unquote

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.params import Parameter

from lastseen.accounts.manager import Actor
from lastseen.activity.key import MAX_KEY_LENGTH, key_problem
from lastseen.activity.store import MAX_PAGE
from lastseen.server.api.parameters import Query
from lastseen.server.problem import Problem
from lastseen.server.rights import Principal, principal_of
from lastseen.wire.devices import NO_CONTROLS

AnyRequest = Request[Any, Any, Any]

Search = Annotated[
    str,
    Parameter(
        max_length=MAX_KEY_LENGTH,
        pattern=NO_CONTROLS,
        description="a part of the id or the name; ASCII case is ignored",
    ),
]
Limit = Annotated[int, Parameter(ge=1, le=MAX_PAGE, description="how many")]
Cursor = Annotated[str | None, Parameter(description="next_cursor of the page before; same order and filters")]
Span = Annotated[str | None, Parameter(description="a span such as 90s, 5m, 1h, 24h or 7d")]
QueryId = Annotated[str | None, Parameter(min_length=1, max_length=MAX_KEY_LENGTH, pattern=NO_CONTROLS)]

MAX_BODY = 64 * 1024

REPEATED = frozenset({"filter"})
"""What may be given more than once."""
QUERY_NAMES = "query_names"
"""Where the application's state keeps what each route of the API reads, by path template and method."""
PAGE_NAMES = "page_names"
"""The same of the pages, which ignore what they do not read: others add to addresses that are passed on."""


class ReadRequest(Request[Any, Any, Any]):
    """A request whose body may be anything: Litestar itself knows of JSON that is malformed, and of nothing worse."""

    async def json(self) -> Any:
        """Return the JSON of the body; 400 also for bytes that are no text, and for what is nested too deep."""
        try:
            return await super().json()
        except UnicodeDecodeError as error:
            raise Problem(400, f"the body is not UTF-8: {error.reason}") from error
        except RecursionError as error:
            raise Problem(400, "the body is nested too deep") from error


def provide_principal(request: AnyRequest) -> Principal:
    """Return who asks."""
    return principal_of(request)


def provide_actor(request: AnyRequest) -> Actor:
    """Return who asks, for the audit trail."""
    principal, client = principal_of(request), request.scope.get("client")
    name = "" if principal.key is None else f"key {principal.key.name or principal.key.prefix}"
    return Actor(account=principal.account, address=client[0] if client else "", name=name)


def id_of(segment: str, what: str) -> str:
    """Return the id that one segment of a path names, percent-encoded whatever it holds; 404 for what can be none."""
    decoded = unquote(segment, errors="surrogateescape")
    if key_problem(decoded) is not None:
        raise Problem(404, f"there is no such {what}")
    return decoded


def checked_search(search: str) -> str:
    """Return the text that is searched for; 400 for one that nothing can hold."""
    problem = key_problem(search) if search else None
    if problem is not None:
        raise Problem.bad_parameter("search", problem)
    return search


def checked_id(name: str, value: str | None) -> str | None:
    """Return an id that a parameter names; 400 for what can be none."""
    problem = None if value is None else key_problem(value)
    if problem is not None:
        raise Problem.bad_parameter(name, problem)
    return value


def refuse_unknown(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Refuse a parameter that nothing reads: a filter with a typing error must not mean "all of them". A guard."""
    route = connection.scope.get("path_template"), connection.scope.get("method")
    known: Mapping[str, Query] | None = connection.app.state.get(QUERY_NAMES, {}).get(route)
    if known is None:
        return
    for name in connection.query_params:
        if name not in known:
            raise Problem.bad_parameter(name[:100], f"unknown; there are: {', '.join(sorted(known)) or 'none'}")
        if len(connection.query_params.getall(name)) > 1 and name not in REPEATED:
            raise Problem.bad_parameter(name, "given more than once; give it once")
    _refuse_values(connection, known)


def refuse_wrong(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Refuse what a parameter of a page can never be, for the same reason. A guard."""
    route = connection.scope.get("path_template"), connection.scope.get("method")
    _refuse_values(connection, connection.app.state.get(PAGE_NAMES, {}).get(route, {}))


def _refuse_values(connection: ASGIConnection[Any, Any, Any, Any], known: Mapping[str, Query]) -> None:
    for name, value in connection.query_params.multi_items():
        query = known.get(name)
        if query is None or query.is_text:
            continue
        if query.choices and value not in query.choices:
            raise Problem.bad_parameter(name, f"one of {', '.join(query.choices)}, not {value[:100]!r}")
        if value.lower() == "null":
            # Litestar would take it for a parameter that is left out.
            raise Problem.bad_parameter(name, "leave it out where nothing is asked for")
