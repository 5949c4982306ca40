"""The document of the API is made when it is asked for; what routes read is known before."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from litestar import Litestar, get
from litestar.openapi.config import OpenAPIConfig

from lastseen.server.api.openapi import Description, operations
from lastseen.server.api.parameters import Query, query_names_of
from lastseen.server.rights import Right
from tests.server.described import document, query_names
from tests.server.running import ServerProcess

SERVED_ELSEWHERE = {("/api/v1/activity", "POST"), ("/api/v1/events", "POST")}
"""What Litestar never sees."""


def test_the_guard_knows_the_parameters_of_the_document() -> None:
    """What a route is refused for is what the document leaves out, name by name, and so is what is read as text."""
    described = {
        (path, method.upper()): {
            one["name"]: one["schema"].get("type") in {"string", "array"}
            for one in operation.get("parameters", ())
            if one["in"] == "query"
        }
        for path, method, _, operation in operations(document()["paths"])
    }
    known = {
        route: {name: query.is_text for name, query in queries.items()} for route, queries in query_names().items()
    }
    assert {route: names for route, names in described.items() if route not in SERVED_ELSEWHERE} == known
    assert len(known) > 30
    assert {True, False} == {is_text for names in known.values() for is_text in names.values()}


# Litestar 3 wants parameters marked.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_route_that_is_not_described_may_be_sent_anything() -> None:
    """Its parameters are nobody's promise; those of one that is described are, its path's apart."""

    @get("/in/{place:str}", needs=Right.PUBLIC, sync_to_thread=False)
    def told(place: str, limit: int, search: str | None = None) -> str:
        return f"{place}{limit}{search}"

    @get("/secret", needs=Right.PUBLIC, include_in_schema=False, sync_to_thread=False)
    def secret(limit: int) -> str:
        return str(limit)

    app = Litestar([told, secret], openapi_config=None, logging_config=None)
    told_of = {"limit": Query(is_text=False), "search": Query(is_text=True)}
    assert query_names_of(app) == {("/in/{place}", "GET"): told_of}
    assert query_names_of(app, described=False)["/secret", "GET"] == {"limit": Query(is_text=False)}


def test_the_document_is_made_once() -> None:
    """Two who ask while it is made get the same bytes, from one making."""
    made: list[Litestar] = []
    both_ask = threading.Barrier(2)

    def described() -> Litestar:
        made.append(Litestar([], openapi_config=OpenAPIConfig(title="x", version="1"), logging_config=None))
        return made[-1]

    description = Description(described)

    def ask() -> bytes:
        both_ask.wait()
        return description.encoded()

    assert made == []
    with ThreadPoolExecutor(2) as asking:
        first, second = asking.submit(ask), asking.submit(ask)
        assert first.result() is second.result()
    assert len(made) == 1


def test_a_server_that_has_just_started_knows_all_of_it(new_server: ServerProcess) -> None:
    """The first request already is refused for a parameter that nothing reads; the document is complete, every time."""
    refused = new_server.http.get("/api/v1/clients?serach=x")
    assert refused.status_code == 400
    assert "serach" in refused.text
    first, second = (new_server.http.get("/api/v1/openapi.json") for _ in range(2))
    assert first.content == second.content
    assert first.json() == document()
