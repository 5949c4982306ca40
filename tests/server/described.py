"""The operations of the API, from the document that it is generated from: known when tests are collected."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlencode

import msgspec
from litestar import Litestar

from lastseen.app import LastSeen
from lastseen.server import create_app
from lastseen.server.access import Access
from lastseen.server.api.asking import QUERY_NAMES
from lastseen.server.api.openapi import API, DOCUMENT, operations
from lastseen.server.api.parameters import QueryNames
from lastseen.server.rights import Need, Right, handlers_of, need_of
from lastseen.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One verb of one path."""

    method: str
    path: str
    id: str
    needs: tuple[str, ...]
    """Its scope, or nothing."""
    is_public: bool
    has_body: bool
    query: tuple[str, ...]
    """What may be named behind the path."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names in the path."""
        return tuple(part[1:-1] for part in self.path.split("/") if part.startswith("{"))

    def address(self, **values: str) -> str:
        """Return the path with these values, and something unknown for the others."""
        return self.path.format(**dict.fromkeys(self.parameters, "unknown-x") | values)


@dataclass(frozen=True, kw_only=True, slots=True)
class PageRoute:
    """One verb of one page."""

    method: str
    path: str
    need: Need
    parameters: tuple[str, ...]
    """What its address may name, in the path or behind it."""

    def address(self, name: str, value: str) -> str:
        """Return its address with one parameter, and something unknown for the others in the path."""
        parts = [
            (value if part[1:].partition(":")[0] == name else "unknown-x") if part.startswith("{") else part
            for part in self.path.split("/")
        ]
        query = "" if f"{{{name}:" in self.path else f"?{urlencode({name: value})}"
        return "/".join(parts) + query


@cache
def _application() -> Litestar:
    """Return an application with nothing in it."""
    with _quiet():
        return _litestar_of(create_app(LastSeen.open("memory:", migrate=True), Settings(database_url="memory:")))


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # Litestar 3 wants dependencies marked; until then its warning is about each of them.
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


@cache
def document() -> dict[str, Any]:
    """Return the document of an application with nothing in it."""
    with _quiet():
        decoded: dict[str, Any] = msgspec.json.decode(_application().state[DOCUMENT].encoded())
    return decoded


def query_names() -> QueryNames:
    """Return what that application takes for the parameters of its routes."""
    names: QueryNames = _application().state[QUERY_NAMES]
    return names


def all_pages() -> list[PageRoute]:
    """Return every page that needs something, and whatever else is no part of the API."""
    return sorted(
        (
            PageRoute(method=method, path=path, need=need, parameters=tuple(handler.parsed_fn_signature.parameters))
            for path, methods, handler in handlers_of(_application())
            for method in methods - {"OPTIONS"}
            if not path.startswith(API) and (need := need_of(handler)) not in {None, Right.PUBLIC}
        ),
        key=lambda route: (route.path, route.method),
    )


def _litestar_of(app: Any) -> Litestar:
    access: Access = app._pages
    pages: Any = access._pages
    assert isinstance(pages, Litestar)
    return pages


def all_operations() -> list[Operation]:
    """Return every operation of the document, in its order."""
    found = []
    for path, method, _, described in operations(document()["paths"]):
        scopes = {scope for choice in described["security"] for scopes in choice.values() for scope in scopes}
        found.append(
            Operation(
                method=method.upper(),
                path=path,
                id=described["operationId"],
                needs=tuple(scopes),
                is_public=not described["security"],
                has_body="requestBody" in described,
                query=tuple(one["name"] for one in described.get("parameters", ()) if one["in"] == "query"),
            )
        )
    return found
