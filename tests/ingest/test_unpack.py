"""From bytes to JSON, within bounds."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastseen.ingest.origin import Origin
from lastseen.ingest.outcome import Unacceptable
from lastseen.ingest.own import decode_events
from lastseen.ingest.unpack import MOST_CONTAINERS, clean, decompress, form_key, parse, unwrap

LIMIT = 1_000_000
EVENT = json.dumps({"event": "a + b ☃", "properties": {"n": "x" * 300}}).encode()


def base64_of(data: bytes) -> bytes:
    return base64.b64encode(data)


WRAPPINGS: dict[str, tuple[Callable[[bytes], bytes], bool]] = {
    "plain": (lambda body: body, False),
    "gzip": (gzip.compress, False),
    "base64": (base64_of, False),
    "base64 for addresses": (base64.urlsafe_b64encode, False),
    "base64 without padding": (lambda body: base64_of(body).rstrip(b"="), False),
    "gzip in base64": (lambda body: base64_of(gzip.compress(body)), False),
    "form, base64": (lambda body: b"data=" + quote(base64_of(body), safe="").encode(), True),
    "form, base64 whose plus signs became blanks": (lambda body: b"data=" + base64_of(body), True),
    "form, compressed": (
        lambda body: b"compression=gzip-js&data=" + quote(base64_of(gzip.compress(body))).encode(),
        True,
    ),
    "JSON that is called a form": (lambda body: body, True),
    "form that does not say so": (lambda body: b"data=" + quote(base64_of(body), safe="").encode(), False),
    "form, plain": (lambda body: b"data=" + quote_plus(body).encode(), True),
}


@pytest.mark.parametrize("kind", [(b"[", b"]"), (b'{"a":', b"}")], ids=["arrays", "objects"])
def test_what_is_nested_too_deep_is_refused(kind: tuple[bytes, bytes]) -> None:
    """Long before the interpreter's own bound, which is another one wherever the event is read again."""
    begin, end = kind
    parse(b'{"events":' + begin * 100 + b"1" + end * 100 + b"}")
    with pytest.raises(Unacceptable, match="nested too deep"):
        parse(b'{"events":' + begin * 102 + b"1" + end * 102 + b"}")


@pytest.mark.parametrize("thing", [b"[]", b"{}"], ids=["arrays", "objects"])
def test_what_would_fill_the_memory_is_refused(thing: bytes) -> None:
    """A thousandth of it, compressed, would become half a gigabyte of objects; what real bodies have is taken."""
    assert len(parse(b"[" + b",".join([thing] * (MOST_CONTAINERS - 1)) + b"]")) == MOST_CONTAINERS - 1
    too_many = b"[" + b",".join([thing] * MOST_CONTAINERS) + b"]"
    for read in (parse, lambda body: decode_events(body, Origin(received_at=0))):
        with pytest.raises(Unacceptable, match="more than 500000 objects"):
            read(too_many)


def test_a_form_has_few_fields() -> None:
    """Whoever sends a million of them wants none read."""
    body = b"api_key=k&data=%7B%7D" + b"&a=1" * 98
    assert (form_key(body), unwrap(body, is_form=True, limit=LIMIT)) == ("k", b"{}")
    for read in (form_key, lambda body: unwrap(body, is_form=True, limit=LIMIT)):
        with pytest.raises(Unacceptable, match="more than 100 fields"):
            read(body + b"&a=1")


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_every_wrapping_is_undone(wrapping: str) -> None:
    """Whatever a library wraps around its JSON, the JSON comes out."""
    wrap, is_form = WRAPPINGS[wrapping]
    assert unwrap(wrap(EVENT), is_form=is_form, limit=LIMIT) == EVENT


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", lambda body: zlib.compressobj(wbits=-15).compress(body) + b""),
        ("", bytes),
        ("identity", bytes),
        ("gzip", bytes),
    ],
    ids=["gzip", "x-gzip", "deflate", "raw deflate", "none", "identity", "gzip that a proxy undid"],
)
def test_content_encodings(encoding: str, compress: Callable[[bytes], bytes]) -> None:
    """Each encoding that a library may use, and what proxies make of them."""
    if encoding == "deflate" and compress is not zlib.compress:
        compressor = zlib.compressobj(wbits=-15)
        body = compressor.compress(EVENT) + compressor.flush()
    else:
        body = compress(EVENT)
    assert decompress(body, encoding, LIMIT) == EVENT


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip"])
def test_an_encoding_that_is_not_known_is_refused(encoding: str) -> None:
    """415 says that another form of the same request would do."""
    with pytest.raises(Unacceptable) as caught:
        decompress(EVENT, encoding, LIMIT)
    assert caught.value.status == 415


@pytest.mark.parametrize(
    "wrap", [gzip.compress, lambda body: base64_of(gzip.compress(body))], ids=["gzip", "in base64"]
)
def test_a_bomb_is_stopped_at_the_limit(wrap: Callable[[bytes], bytes]) -> None:
    """What expands beyond the limit is refused without being expanded; one that just fits is taken."""
    assert len(unwrap(wrap(b"[" + b" " * (LIMIT - 1)), is_form=False, limit=LIMIT)) == LIMIT
    with pytest.raises(Unacceptable) as caught:
        unwrap(wrap(b" " * 100_000_000), is_form=False, limit=LIMIT)
    assert caught.value.status == 413


def test_bombs_inside_bombs_end() -> None:
    """Layer upon layer of compression is not followed for ever."""
    body = EVENT
    for _ in range(50):
        body = gzip.compress(body)
    assert unwrap(body, is_form=False, limit=LIMIT)[:2] == b"\x1f\x8b"


@pytest.mark.parametrize("cut", [1, 3, 10, 20, 100])
def test_damaged_compression_is_the_senders_fault(cut: int) -> None:
    """A body that was cut is refused as a whole: nothing half is taken."""
    with pytest.raises(Unacceptable) as caught:
        parse(unwrap(gzip.compress(EVENT)[:-cut], is_form=False, limit=LIMIT))
    assert caught.value.status == 400


def test_half_a_character_does_not_cost_the_batch() -> None:
    """A lone surrogate, bytes that are no UTF-8, NUL, NaN: each becomes what can be stored, the rest stays."""
    body = b'{"a": "x\\ud83d", "b": "\xff", "c": "y\\u0000z", "d": NaN, "e": "\\ud83d\\ude00", '
    body += b'"f": [1, {"\\udc00": -Infinity}]}'
    value = parse(body)
    assert value == {"a": "x\ufffd", "b": "\ufffd", "c": "y\ufffdz", "d": None, "e": "😀", "f": [1, {"\ufffd": None}]}


@pytest.mark.parametrize("body", [b"", b"{", b"nothing", b'{"a": }', b"\x00\x01", b"[" * 100_000, b'{"a":' * 5_000])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    """400, also for what is nested without end."""
    with pytest.raises(Unacceptable) as caught:
        parse(body)
    assert caught.value.status == 400


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(st.characters()), st.lists))
def test_cleaning_leaves_what_can_be_stored(value: object) -> None:
    """What comes out has no NUL, no lone surrogate and no number that is none."""
    text = json.dumps(clean(value), allow_nan=False, ensure_ascii=False)
    assert "\\u0000" not in text
    text.encode()


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (b"api_key=phc_1&data=e30%3D", "phc_1"),
        (b"data=e30%3D&token=phc%5F1", "phc_1"),
        (b"token=phc_2&api_key=phc_1&data=x", "phc_1"),
        (b"data=e30%3D", None),
        (b"api_key=&data=e30%3D", None),
        (b'{"url": "https://shop.test/?a=1&api_key=phc_1&b=2"}', None),
        (b"\x1f\x8b&api_key=phc_1&data=x", None),
    ],
)
def test_a_form_may_name_the_key_beside_its_data(body: bytes, key: str | None) -> None:
    """As api_key or token; what only looks like a field inside JSON, or what is compressed, is none."""
    assert form_key(body) == key
