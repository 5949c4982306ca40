"""Sources against plain references, and against anything that may arrive."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lastseen import ConfigurationError
from lastseen.activity import identify
from lastseen.web.facts import content_length, is_json


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """A request made by hand."""

    method: str = "POST"
    path: str = "/"
    query_string: bytes = b""
    arrived_at: float = 0.0
    body: bytes | None = None
    principal: Any = None
    native: Any = None

    def header(self, name: str) -> str | None:
        return None


PAIR = st.tuples(
    st.sampled_from(["client_id", "client_id[]", "x", "Client_id"]) | st.text(max_size=5), st.text(max_size=8)
)


@given(pairs=st.lists(PAIR, max_size=6), encode=st.sampled_from([quote, quote_plus]))
@example(pairs=[("client_id", ""), ("client_id", "+ &=%")], encode=quote_plus)
def test_query_equals_the_standard_library(pairs: list[tuple[str, str]], encode: Any) -> None:
    """The first value that is not empty, as `urllib.parse.parse_qs` decodes it."""
    text = "&".join(
        f"{encode(name.encode('utf-8', 'replace'))}={encode(value.encode('utf-8', 'replace'))}" for name, value in pairs
    )
    expected = parse_qs(text).get("client_id", [None])[0]
    assert identify.query()(Facts(query_string=text.encode())) == expected


@given(text=st.text(alphabet="client_id=&%+;[]abé0159CF", max_size=60))
def test_odd_queries_equal_the_standard_library(text: str) -> None:
    """Broken percent signs, stray separators and characters that should have been encoded change nothing of that."""
    expected = parse_qs(text).get("client_id", [None])[0]
    assert identify.query()(Facts(query_string=text.encode())) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
OBJECT = st.dictionaries(st.text(max_size=5) | st.just("client_id"), JSON, max_size=5)


def reference(body: bytes) -> str | None:
    """Return what the standard library finds, with numbers as they were written."""
    try:
        value = json.loads(body, parse_int=Number, parse_float=Number)
    except (ValueError, RecursionError):
        return None
    client = value.get("client_id") if isinstance(value, dict) else None
    if isinstance(client, Number):
        return client.text
    return client if isinstance(client, str) and client else None


@dataclass(frozen=True, slots=True)
class Number:
    """A JSON number as it was written."""

    text: str


@given(value=OBJECT | JSON, ascii_only=st.booleans(), indent=st.sampled_from([None, 2]))
@example(value={"client_id": 10**400}, ascii_only=True, indent=None)
@example(value={"client_id": 1e300}, ascii_only=True, indent=None)
@example(value={"client_id": "😀"}, ascii_only=True, indent=None)
def test_json_member_equals_the_standard_library(value: Any, ascii_only: bool, indent: int | None) -> None:
    """The text or number that `json.loads` finds, and nothing where it finds anything else."""
    body = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "replace")
    assert identify.json_body()(Facts(body=body)) == reference(body)


@given(body=st.binary(max_size=200))
@example(body=b'{"client_id": 01}')
@example(body=b'{"client_id": +1}')
@example(body=b'{"client_id": .5}')
@example(body=b'{"client_id": NaN}')
@example(body=b'{"client_id": "\\ud800"}')
@example(body=b'\xef\xbb\xbf{"client_id": "bom"}')
@example(body=b"\x00")
def test_any_bytes_name_a_client_or_none(body: bytes) -> None:
    """Whatever arrives as a body or a query, no source raises."""
    facts = Facts(body=body, query_string=body)
    for source in (identify.json_body(), identify.query(), identify.DEFAULT_SOURCE):
        client = source(facts)
        assert client is None or isinstance(client, str)


@given(mangled=st.data(), value=OBJECT)
def test_mangled_json_never_raises(mangled: st.DataObject, value: Any) -> None:
    """JSON with a few bytes cut out or replaced is a client or none."""
    body = json.dumps({**value, "client_id": "till-7"}).encode()
    at = mangled.draw(st.integers(0, len(body)))
    body = body[:at] + mangled.draw(st.binary(max_size=3)) + body[at + mangled.draw(st.integers(0, 3)) :]
    client = identify.json_body()(Facts(body=body))
    assert client is None or isinstance(client, str)


@pytest.mark.parametrize("number", ["0", "-0", "7", "1.50", "1e3", "-2.5E-3", "9" * 5000])
def test_numbers_are_as_they_were_written(number: str) -> None:
    """Nothing is rounded, shortened or rewritten on the way."""
    assert identify.json_body()(Facts(body=b'{"client_id": %s}' % number.encode())) == number


class Named:
    """A user with attributes."""

    def __init__(self, **attributes: object) -> None:
        self.__dict__.update(attributes)


class Raising:
    """As Starlette's BaseUser: what is not overridden raises."""

    username = "ann"

    @property
    def identity(self) -> str:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("who", "expected"),
    [
        ("ann", "ann"),
        (7, "7"),
        (Named(pk=7, username="ann"), "7"),
        (Named(id=0), "0"),
        (Named(pk=None, username="ann"), "ann"),
        (Named(display_name="Ann"), "Ann"),
        (Raising(), "ann"),
        (Named(), None),
        (True, None),
        (None, None),
    ],
)
def test_names_of_principals(who: object, expected: str | None) -> None:
    """A text or number is the name, else the first attribute that frameworks use for one."""
    assert identify.principal()(Facts(principal=who)) == expected


def test_own_name_of_a_principal() -> None:
    """A function of the application's own may name the principal."""
    source = identify.principal(lambda who: who["tenant"])
    assert source(Facts(principal={"tenant": 12})) == "12"
    assert source(Facts()) is None


@pytest.mark.parametrize("template", ["/devices", "/devices/{id}", "/{client_id}/{client_id}"])
def test_template_without_the_client(template: str) -> None:
    """A template must say once where the client is."""
    with pytest.raises(ConfigurationError, match="client_id"):
        identify.path(template)


def test_first_of_nothing() -> None:
    """A choice of no sources is a mistake."""
    with pytest.raises(ConfigurationError, match="at least one"):
        identify.first_of()


def test_what_sources_read() -> None:
    """A source says what it reads; an unknown function may read everything."""
    reads = [
        (identify.reads_body(source), identify.reads_principal(source))
        for source in (
            identify.DEFAULT_SOURCE,
            identify.query(),
            identify.header(),
            identify.path("/{client_id}"),
            identify.principal(),
            identify.first_of(identify.json_body(), identify.principal()),
            lambda facts: None,
        )
    ]
    assert reads == [(True, False)] + [(False, False)] * 3 + [(False, True), (True, True), (True, True)]


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/json", True),
        ("Application/JSON;charset=utf-8", True),
        ("application/problem+json", True),
        ("application/x-ndjson", False),
        ("application/jsonl", False),
        ("application/json-seq", False),
        ("text/json", False),
        ("image/x+json", False),
        ("", False),
    ],
)
def test_json_media_types(content_type: str, expected: bool) -> None:
    """JSON is application/json and application/*+json, with any parameters and in any case."""
    assert is_json(content_type) is expected


@pytest.mark.parametrize(
    ("value", "expected"), [(None, None), ("", None), ("12", 12), ("-1", None), ("1_0", None), ("9" * 5_000, None)]
)
def test_declared_lengths(value: str | None, expected: int | None) -> None:
    """A length that is no number is none."""
    assert content_length(value) == expected
