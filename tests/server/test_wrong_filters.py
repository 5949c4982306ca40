"""A filter with a typing error never means "all of them", on no page and nowhere in the API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.server.running import ServerProcess

PAGES = {
    "/": ("status", "active_within", "inactive_for", "order", "cursor"),
    "/rows": ("status", "order"),
    "/keys": ("device", "group", "status", "cursor"),
    "/keys/rows": ("status",),
    "/devices": ("status", "group", "order", "cursor"),
    "/devices/rows": ("status",),
    "/groups": ("cursor",),
    "/visits": (
        *("site", "last", "from", "to", "tz", "metric", "bots", "filter"),
        *("source", "page", "place", "machine", "event"),
    ),
    "/visits/rows": ("bots", "metric"),
    "/visits/list": ("site", "last", "tz", "bots", "filter", "after"),
    "/audit": ("before",),
}
NEED_ACCOUNTS = {"/api/v1/users", "/api/v1/audit"}
WRONG = ("bogus", "null", "NULL")


def choices_of(document: dict[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    """Yield each parameter of a listing that is one of some words: where, its name, the words."""
    for path, item in document["paths"].items():
        for parameter in item.get("get", {}).get("parameters", ()):
            schema = parameter["schema"]
            for kind in (schema, *schema.get("oneOf", ()), *schema.get("allOf", ())):
                if name := kind.get("$ref", "").rpartition("/")[2]:
                    kind = document["components"]["schemas"][name]  # noqa: PLW2901 - what it stands for
                if parameter["in"] == "query" and "{" not in path and "enum" in kind:
                    yield path, parameter["name"], [word for word in kind["enum"] if word is not None]


@pytest.mark.parametrize(("page", "name"), [(page, name) for page, names in PAGES.items() for name in names], ids=str)
def test_a_page_says_which_filter_is_wrong(server: ServerProcess, page: str, name: str) -> None:
    """400 with the name of the parameter; 404 for what is not there, as the trail without accounts."""
    for wrong in WRONG:
        answer = server.http.get(page, params={name: wrong})
        assert answer.status_code in {400, 404}, (wrong, answer.status_code)
        assert answer.status_code == 404 or f"{name}: " in answer.text


def test_the_choices_are_told(server: ServerProcess) -> None:
    """By every listing of the API that has some, and by the pages."""
    found = list(choices_of(server.http.get("/api/v1/openapi.json").json()))
    assert {("/api/v1/keys", "status"), ("/api/v1/clients", "order"), ("/api/v1/visits", "bots")} <= {
        (path, name) for path, name, _ in found
    }
    for path, name, words in found:
        for wrong in WRONG if path not in NEED_ACCOUNTS else ():
            problem = server.http.get(path, params={name: wrong}).json()
            assert (problem["status"], problem["parameter"]) == (400, name)
            start, _, told = problem["detail"].removesuffix(f", not {wrong!r}").partition("one of ")
            assert (start, sorted(told.split(", "))) == (f"{name}: ", sorted(words))
    assert "status: one of valid, expired, revoked, not" in server.http.get("/keys?status=null").text


@pytest.mark.parametrize("page", PAGES)
def test_what_others_add_to_an_address_is_no_filter(server: ServerProcess, page: str) -> None:
    """The negative control: a page is shown whatever a mail program adds, and for a filter that is left empty."""
    answer = server.http.get(page, params={"utm_source": "mail", "fbclid": "null"})
    assert answer.status_code == (404 if page == "/audit" else 200)


def test_every_choice_is_taken(server: ServerProcess) -> None:
    """Also by the pages, which have the same."""
    for page, name, words in (
        ("/keys", "status", ("valid", "expired", "revoked")),
        ("/", "status", ("online", "recent", "idle", "inactive")),
        ("/devices", "status", ("online", "never", "")),
        ("/visits", "place", ("country", "region", "city", "")),
        ("/visits", "bots", ("with", "without", "only", "")),
    ):
        for word in words:
            assert server.http.get(page, params={name: word}).status_code == 200
