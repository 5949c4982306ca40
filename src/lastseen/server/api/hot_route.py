"""The OpenAPI description of the routes that Litestar does not serve."""

from __future__ import annotations

from typing import Any

from litestar.openapi.spec import (
    Example,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Parameter,
    Reference,
    RequestBody,
    Schema,
)

from lastseen.activity.key import MAX_KEY_LENGTH
from lastseen.devices.key import Scope
from lastseen.server.ingest.events import PATH as EVENTS
from lastseen.server.receive import PATH

_CLIENT_ID = Schema(type=OpenAPIType.STRING, min_length=1, max_length=MAX_KEY_LENGTH)

_TOUCH = Schema(
    type=OpenAPIType.OBJECT,
    description="Fields that are not named here are ignored.",
    properties={
        "client_id": Schema(
            one_of=[_CLIENT_ID, Schema(type=OpenAPIType.NUMBER)],
            description="a number is its decimal text; without it, the client is the one that ?client_id= names",
        ),
        "at": Schema(
            one_of=[
                Schema(type=OpenAPIType.NUMBER, minimum=0, description="since 1970: seconds, or parts by size"),
                Schema(type=OpenAPIType.STRING, description="ISO 8601 with an offset"),
            ],
            description="when; without it, the arrival. In the future it counts as now and a few seconds",
        ),
    },
)

_SCOPE = Scope.ACTIVITY_WRITE.value


def _operation() -> Operation:
    lines = '{"client_id": "till-7"}\n{"client_id": "till-8", "at": "2026-01-31T12:00:00Z"}\n'
    return Operation(
        tags=["activity"],
        operation_id="RecordActivity",
        summary="Record who was active",
        description="Taken into memory and written within the flush interval. Bodies may be gzip.",
        parameters=[
            Parameter(
                name="client_id",
                param_in="query",
                schema=_CLIENT_ID,
                description="the client of every item that names none; with an empty body, the client that was active",
            )
        ],
        request_body=RequestBody(
            content={
                "application/json": OpenAPIMediaType(
                    schema=Schema(one_of=[_TOUCH, Schema(type=OpenAPIType.ARRAY, items=_TOUCH)]),
                    examples={"one": Example(value={"client_id": "till-7"})},
                ),
                "application/x-ndjson": OpenAPIMediaType(
                    schema=Schema(type=OpenAPIType.STRING, description="one object a line, each at most 64 KiB"),
                    examples={"two": Example(value=lines)},
                ),
            }
        ),
        responses={
            "202": OpenAPIResponse(
                description="Recorded; how many",
                content={"application/json": OpenAPIMediaType(schema=Reference(ref="#/components/schemas/Recorded"))},
            ),
            "400": OpenAPIResponse(description="The body is no JSON, or empty without a client"),
            "413": OpenAPIResponse(description="A JSON body over 10 MiB, or a compressed one that expands too far"),
            "415": OpenAPIResponse(
                description="Neither JSON nor lines of JSON, or compressed with something else than gzip"
            ),
        },
        # From the server's own machine none is needed, on a loopback address.
        security=[{"bearer": [_SCOPE]}, {"header": [_SCOPE]}, {"session": []}],
    )


_TEXT = {"type": "string"}
_MOMENT = {"oneOf": [{"type": "number", "minimum": 0}, {"type": "string"}], "description": "seconds, or ISO 8601"}
_EVENT: dict[str, Any] = {
    "type": "object",
    "description": "Fields that are not named here are ignored.",
    "properties": {
        "name": {**_TEXT, "description": "`$pageview` for a page view, else a name of your own"},
        "id": {**_TEXT, "description": "the same id again is the same event; without it one is derived"},
        "distinct_id": {**_TEXT, "description": "the visitor; without it a browser has a cookieless one"},
        "at": _MOMENT,
        "url": _TEXT,
        "referrer": _TEXT,
        "user_id": _TEXT,
        "session_id": _TEXT,
        "window_id": _TEXT,
        "engaged_ms": {"type": "number", "minimum": 0},
        "properties": {"type": "object", "description": "free"},
        "write_key": _TEXT,
    },
    "required": ["name"],
}
_EVENTS: dict[str, Any] = {
    "tags": ["events"],
    "operationId": "RecordEvents",
    "summary": "Record events",
    "description": "Answered when they are durable. Any page may send: a write key says whose they are. A server "
    "may send an API key with the scope events:write in its place. What browsers send without asking first is taken "
    "too: all of this as text/plain, or as the field data of a form (application/x-www-form-urlencoded).",
    "security": [{"writeKey": []}],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"oneOf": [_EVENT, {"type": "array", "items": _EVENT, "maxItems": 10_000}]}},
            "application/x-ndjson": {"schema": {**_TEXT, "description": "one object a line"}},
        },
    },
    "responses": {
        "200": {
            "description": "They are stored; how many",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/EventsRecorded"}}},
        },
        "400": {},
        "401": {"description": "No site has this write key, or the API key is unknown, expired or revoked"},
        "403": {"description": "The API key lacks the scope events:write, or belongs to another site"},
        "404": {"description": "There is no such site"},
        "413": {"description": "A body over 10 MiB, or more than 10,000 events"},
        "415": {"description": "Neither JSON nor lines of it nor a form, or compressed with something unknown"},
        "429": {"description": "Too many wrong API keys from this network; browsers are told 503"},
        "503": {"description": "Too much is under way, or nothing can keep events now; send them again"},
    },
}

RECORD_ACTIVITY = "RecordActivity"

HOT_PATHS: dict[str, dict[str, Any]] = {PATH: {"post": _operation().to_schema()}, EVENTS: {"post": _EVENTS}}
"""Path items as they stand in the document, by path and method; problems are completed."""
