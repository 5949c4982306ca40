"""The OpenAPI document: generated from the typed handlers, completed with what they share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from litestar import Controller, Litestar, MediaType, Response, get
from litestar.datastructures import State
from litestar.response import Template

import lastseen
from lastseen.devices.key import Scope
from lastseen.server.api.hot_route import HOT_PATHS, RECORD_ACTIVITY
from lastseen.server.pages.frame import ASSET_VERSION
from lastseen.server.policy import POLICY
from lastseen.server.problem import MEDIA_TYPE
from lastseen.server.rights import Need, Right, handlers_of, need_of
from lastseen.wire import clients, devices, events, keys, sessions, sites, users
from lastseen.wire.problem import ProblemDetails

API = "/api/v1"
DOCUMENT = "document"
"""Where the application's state keeps the `Description`."""

Document = dict[str, Any]

DESCRIPTION = """\
Who was active, when, in which session, and what did they do.

Every operation but recording from the server's own machine needs an API key (`Authorization: Bearer ls_…` or
`X-API-Key: ls_…`) with the scope that is listed with it, or a login session. Ids in paths are one percent-encoded
segment. Lists are paged by cursor: pass `next_cursor` on as `cursor` until it is null, or follow the header `Link` with
`rel="next"`; with `format=csv` or `parquet` each page is a file of its rows. Moments are ISO 8601 in UTC.
Whatever goes wrong is answered with problem details (RFC 9457) that say what to do.
"""

_SCHEMES: Document = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "an API key: `Authorization: Bearer ls_…`"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "an API key"},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "__Host-lastseen",
        "description": "the login session of a browser; writes are refused from pages of other sites",
    },
    "writeKey": {
        "type": "apiKey",
        "in": "query",
        "name": "write_key",
        "description": "of a site, public; also `write_key` in the body, or `Authorization: Bearer wk_…`",
    },
}

_PROBLEMS = {
    "400": "The request cannot be: the problem names the parameter or the field",
    "401": "No credential, or one that is unknown, expired or revoked",
    "403": "The credential has not the scope, or the request comes from a page of another site",
    "404": "It is not there, or belongs to another group or site: the two are not told apart",
    "405": "Another method is meant",
    "409": "It is there already, or is under way",
    "413": "The body is too large",
    "415": "The body is of another type",
    "422": "The Idempotency-Key was used for another request",
    "429": "Too many requests of this key, person or network; wait as Retry-After says",
    "503": "The store cannot answer; try again as Retry-After says",
}
_ALWAYS = ("400", "401", "403", "429", "503")
_WITH_BODY = ("413", "415")

_WIRE = (clients, devices, events, keys, sessions, sites, users)


class DescriptionController(Controller):
    """The document, and a page to try what it describes."""

    opt = {"needs": Right.SIGNED_IN}  # noqa: RUF012 - Litestar's own way
    include_in_schema = False

    @get("/openapi.json", sync_to_thread=True)
    def document(self, state: State) -> Response[bytes]:
        """Return the document."""
        description: Description = state[DOCUMENT]
        return Response(description.encoded(), media_type=MediaType.JSON)

    @get("/docs", sync_to_thread=False)
    def page(self) -> Template:
        """Show the document, with a form for each operation."""
        headers = {"content-security-policy": POLICY.replace("img-src 'self'", "img-src 'self' data:")}
        return Template("api.html", context={"version": ASSET_VERSION}, headers=headers)


class Description:
    """The document of an application, made when it is first asked for: a start need not wait for it.

    Any thread may ask; whoever asks while it is made waits for it.
    """

    def __init__(self, described: Callable[[], Litestar]) -> None:
        self._described = described
        self._making = threading.Lock()
        self._encoded: bytes | None = None

    def encoded(self) -> bytes:
        """Return the document as JSON, always the same."""
        with self._making:
            if self._encoded is None:
                self._encoded = msgspec.json.encode(document_of(self._described()))
            return self._encoded


def document_of(app: Litestar) -> Document:
    """Return the complete document of an application."""
    document: Document = msgspec.json.decode(msgspec.json.encode(app.openapi_schema.to_schema()))
    document["info"] = {"title": "lastseen", "version": lastseen.__version__, "description": DESCRIPTION}
    paths: Document = document["paths"]
    needs = {handler.operation_id: need for _, _, handler in handlers_of(app) if (need := need_of(handler)) is not None}
    for _, _, _, operation in operations(paths):
        _complete(operation, needs[operation["operationId"]])
    for path, item in HOT_PATHS.items():
        paths[path] = {**paths.get(path, {}), **item}
        for operation in item.values():
            _add_problems(operation, _ALWAYS if operation["operationId"] == RECORD_ACTIVITY else ())
    document["paths"] = dict(sorted(paths.items()))
    document["components"] = {"schemas": _schemas(document), "securitySchemes": _SCHEMES}
    document["tags"] = _TAGS
    return document


_TAGS = [
    {"name": "activity", "description": "Record who was active."},
    {"name": "clients", "description": "Registered software that calls an API: who was active, and when."},
    {"name": "devices", "description": "What calls, or of which somebody uploads something."},
    {"name": "groups", "description": "Devices and keys that belong together."},
    {"name": "keys", "description": "API keys: secrets are shown once."},
    {"name": "events", "description": "Page views and other events, sent by browsers and servers."},
    {"name": "sites", "description": "Where events and visits belong."},
    {"name": "reports", "description": "Figures about visits and events."},
    {"name": "sessions", "description": "Where the server's own users are signed in."},
    {"name": "users", "description": "The server's own users, and the trail of what was done."},
]


def operations(paths: Document) -> Iterator[tuple[str, str, Document, Document]]:
    """Yield each operation: its path, method, path item and description."""
    for path, item in paths.items():
        for method, operation in item.items():
            if method in {"get", "put", "post", "delete", "patch", "head", "options", "trace"}:
                yield path, method, item, operation


def security_of(need: Need) -> list[dict[str, list[str]]]:
    """Return what an operation's `security` says: a key with the scope, or a session."""
    if isinstance(need, Scope):
        return [{"bearer": [need.value]}, {"header": [need.value]}, {"session": []}]
    return [] if need is Right.PUBLIC else [{"session": []}]


def _complete(operation: Document, need: Need) -> None:
    operation["security"] = security_of(need)
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path":
            parameter["schema"] = {"type": "string", "minLength": 1}
            parameter["description"] = "one percent-encoded segment"
        else:
            parameter["schema"] = _without_null(parameter["schema"])
        parameter.pop("deprecated", None)
    operation.pop("deprecated", None)
    for response in operation["responses"].values():
        response.pop("headers", None)
    wanted = [] if need is Right.PUBLIC else [*_ALWAYS]
    if any(parameter["in"] == "path" or parameter["name"] == "site" for parameter in operation.get("parameters", ())):
        wanted.append("404")
    if need is Right.ADMINISTRATOR:
        # As long as there are no accounts.
        wanted.append("404")
    if "requestBody" in operation:
        wanted += _WITH_BODY
        # A group, a device or a site that the body names may not be there; an id may be taken.
        wanted += ["404", "409"]
    if any(parameter["name"].lower() == "idempotency-key" for parameter in operation.get("parameters", ())):
        wanted += ["409", "422"]
    _add_problems(operation, wanted)


def _without_null(schema: Document) -> Document:
    """Return the schema of a parameter that may be left out: where everything is text, nothing is null."""
    choices = [choice for choice in schema.get("oneOf", ()) if choice.get("type") != "null"]
    rest = {name: value for name, value in schema.items() if name != "oneOf"}
    return {**choices[0], **rest} if len(choices) == 1 else schema


def _add_problems(operation: Document, statuses: Any) -> None:
    responses = operation["responses"]
    for status in sorted({*statuses, *(status for status in responses if status >= "400")}):
        if "$ref" in str(responses.get(status, {}).get("content", "")):
            # Described by its own type, and no problem: monitoring reads a report also with 503.
            continue
        content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
        known = responses.get(status, {}).get("description")
        described = _PROBLEMS.get(status, "It failed") if known is None or status == "400" else known
        responses[status] = {"description": described, "content": content}
        if status in {"429", "503"}:
            responses[status]["headers"] = {
                "Retry-After": {"description": "seconds to wait", "schema": {"type": "integer"}}
            }
        if status == "401":
            responses[status]["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}


def _schemas(document: Document) -> Document:
    """Return the components: msgspec's own schemas of the wire types, which know unknown fields and descriptions."""
    types = [
        kind
        for module in _WIRE
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == module.__name__
    ]
    _, schemas = msgspec.json.schema_components([*types, ProblemDetails], ref_template="#/components/schemas/{name}")
    return dict(sorted({**document["components"]["schemas"], **schemas}.items()))
