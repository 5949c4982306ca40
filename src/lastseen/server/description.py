"""The OpenAPI description of the route that Litestar does not serve."""

from __future__ import annotations

from litestar.openapi.spec import (
    Example,
    OpenAPI,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Parameter,
    PathItem,
    RequestBody,
    Schema,
)

from lastseen.activity.key import MAX_KEY_LENGTH
from lastseen.server.problem import MEDIA_TYPE
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
                Schema(type=OpenAPIType.NUMBER, minimum=0, description="seconds since 1970"),
                Schema(type=OpenAPIType.STRING, description="ISO 8601 with an offset"),
            ],
            description="when; without it, the arrival. In the future it counts as now and a few seconds",
        ),
    },
)

_COUNT = Schema(type=OpenAPIType.INTEGER, minimum=0)
_RESULT = Schema(
    type=OpenAPIType.OBJECT,
    required=["accepted", "rejected", "dropped"],
    properties={
        "accepted": _COUNT,
        "rejected": Schema(type=OpenAPIType.INTEGER, minimum=0, description="can never be stored"),
        "dropped": Schema(type=OpenAPIType.INTEGER, minimum=0, description="the buffer is full of other clients"),
        "errors": Schema(
            type=OpenAPIType.ARRAY,
            description="the first ten that were rejected",
            items=Schema(
                type=OpenAPIType.OBJECT,
                required=["reason"],
                properties={"index": _COUNT, "line": _COUNT, "reason": Schema(type=OpenAPIType.STRING)},
            ),
        ),
    },
)

_PROBLEM = Schema(
    type=OpenAPIType.OBJECT,
    required=["status", "title", "detail"],
    properties={
        "status": Schema(type=OpenAPIType.INTEGER),
        "title": Schema(type=OpenAPIType.STRING),
        "detail": Schema(type=OpenAPIType.STRING),
    },
)


def describe_posting(document: OpenAPI) -> None:
    """Add `POST /api/v1/activity` to the document."""
    paths = document.paths if document.paths is not None else {}
    paths[PATH] = PathItem(post=_operation())
    document.paths = dict(sorted(paths.items()))


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
                description="Recorded; how many", content={"application/json": OpenAPIMediaType(schema=_RESULT)}
            ),
            "400": _problem("The body is no JSON, or empty without a client"),
            "403": _problem("A browser sends this for a page of another site"),
            "413": _problem("A JSON body over 10 MiB, or a compressed one that expands too far"),
            "415": _problem("Neither JSON nor lines of JSON, or compressed with something else than gzip"),
        },
    )


def _problem(description: str) -> OpenAPIResponse:
    return OpenAPIResponse(description=description, content={MEDIA_TYPE: OpenAPIMediaType(schema=_PROBLEM)})
