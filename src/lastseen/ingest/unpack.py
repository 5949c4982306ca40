"""From the bytes of a body to JSON: decompressed within bounds, out of forms and base64. Pure."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import zlib
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec

from lastseen.ingest.outcome import Unacceptable

GZIP_MAGIC = b"\x1f\x8b"
REPLACEMENT = "\ufffd"

_GZIP = 16 + zlib.MAX_WBITS  # https://docs.python.org/3/library/zlib.html#zlib.decompress
_ZLIB = zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS
_MAX_DEPTH = 100
_MAX_LAYERS = 4
_MOST_FIELDS = 100
MOST_CONTAINERS = 500_000
"""Objects and arrays in a body: one for every forty bytes of the largest. Of more, a few kilobytes that are compressed
would become half a gigabyte, and nobody else would be answered for seconds."""
_TOO_MANY_FIELDS = f"the form has more than {_MOST_FIELDS} fields"
_WITHOUT_PLACE = re.compile("[\\ud800-\\udfff\\x00]")
"""Lone surrogates, which are no text, and NUL, which PostgreSQL cannot keep."""
_decode = msgspec.json.Decoder().decode


def decompress(body: bytes, encoding: str, limit: int) -> bytes:
    """Undo a Content-Encoding; `limit` bounds what comes out. Raises `Unacceptable`: 400, 413 or 415."""
    match encoding.strip().lower():
        case "" | "identity":
            return body
        case "gzip" | "x-gzip":
            # Some proxies decompress and leave the header as it was.
            return _inflate(body, _GZIP, limit) if body.startswith(GZIP_MAGIC) else body
        case "deflate":
            # The standard means zlib's wrapping (RFC 9110, 8.4.1.2); some senders leave it out.
            return _inflate(body, _ZLIB if body[:1] == b"\x78" else _RAW, limit)
    raise Unacceptable(415, "the body may be compressed with gzip or deflate only")


def unwrap(body: bytes, *, is_form: bool, limit: int) -> bytes:
    """Return the JSON inside a body of a PostHog client, whatever its headers say of it.

    gzip is known by its first two bytes: posthog-js sends it as text/plain, without a Content-Encoding. JSON is known
    by its first one: curl calls everything a form. A form carries it as `data`, in base64 or plain; base64 may also
    come bare.
    """
    for _ in range(_MAX_LAYERS):
        if body.startswith(GZIP_MAGIC):
            body = _inflate(body, _GZIP, limit)
        elif body.startswith(b"data=") or (is_form and not is_json(body)):
            body, is_form = _form_field(body), False
        elif body[:1].isalnum():
            decoded = _from_base64(body)
            if decoded is None:
                return body
            body = decoded
        else:
            return body
    return body


def form_key(body: bytes) -> str | None:
    """Return the project's key that a form names beside its data; None where it names none, or is JSON."""
    if is_json(body) or body.startswith(GZIP_MAGIC):
        return None
    fields = dict(field.partition(b"=")[::2] for field in reversed(_fields_of(body)))
    key = fields.get(b"api_key") or fields.get(b"token")
    return unquote_to_bytes(key).decode("utf-8", "replace") if key else None


def form_fields(body: bytes) -> dict[str, str]:
    """Return the fields of a form, the first of several; raises `Unacceptable` (400) for more than a form has."""
    try:
        fields = parse_qsl(body.decode("utf-8", "replace"), errors="replace", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise Unacceptable(400, _TOO_MANY_FIELDS) from None
    return dict(reversed(fields))


def _fields_of(body: bytes) -> list[bytes]:
    if body.count(b"&") >= _MOST_FIELDS:
        raise Unacceptable(400, _TOO_MANY_FIELDS)
    return body.split(b"&")


def is_json(body: bytes) -> bool:
    """Return whether a body begins like an object or an array, whatever its headers call it."""
    return body.lstrip()[:1] in {b"{", b"["}


def parse(body: bytes) -> Any:
    """Return the JSON value; text that is none becomes replacement characters. Raises `Unacceptable` (400).

    Clients cut strings in the middle of a surrogate pair, and send NaN: one such character must not cost a batch. A
    mark of byte order at the beginning, which Windows' programs write, is no part of it.
    """
    refuse_crowded(body)
    try:
        value = _decode(body)
    except RecursionError:
        raise Unacceptable(400, "the body is nested too deep") from None
    except ValueError:
        return clean(_parse_leniently(body))
    if b"\\u0000" in body:
        return clean(value)
    # Most bodies are too short for it, which takes no time to see.
    if body.count(b"{") + body.count(b"[") > _MAX_DEPTH and is_deep(value):
        raise Unacceptable(400, "the body is nested too deep")
    return value


def refuse_crowded(body: bytes) -> None:
    """Raise `Unacceptable` (413) for JSON of more than `MOST_CONTAINERS`; braces in texts count too."""
    if len(body) > MOST_CONTAINERS and body.count(b"{") + body.count(b"[") > MOST_CONTAINERS:
        raise Unacceptable(413, f"the body has more than {MOST_CONTAINERS} objects and arrays; send it in parts")


def is_deep(value: Any, left: int = _MAX_DEPTH) -> bool:
    """Return whether more than a hundred objects and arrays stand in each other, in an object, an array or a text.

    What is read on one stack and written on another would somewhere be too deep for the interpreter: when the server
    starts and looks at what waits, or whenever a list shows it.
    """
    for inner in value.values() if type(value) is dict else value:
        kind = type(inner)
        if (kind is dict or kind is list) and (left == 0 or is_deep(inner, left - 1)):
            return True
    return False


def clean(value: Any, depth: int = 0) -> Any:
    """Return a JSON value without what cannot be stored: NUL, lone surrogates, numbers that are none."""
    if depth > _MAX_DEPTH:
        raise Unacceptable(400, "the body is nested too deep")
    match value:
        case str():
            return clean_text(value)
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {clean_text(name): clean(inner, depth + 1) for name, inner in value.items()}
        case list():
            return [clean(inner, depth + 1) for inner in value]
    return value


def clean_text(text: str) -> str:
    """Return the text with replacement characters for what is none."""
    return _WITHOUT_PLACE.sub(REPLACEMENT, text)


def _parse_leniently(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8-sig", "replace"))
    except RecursionError:
        raise Unacceptable(400, "the body is nested too deep") from None
    except ValueError as error:
        raise Unacceptable(400, f"the body is not JSON: {str(error)[:200]}") from None


def _inflate(body: bytes, window: int, limit: int) -> bytes:
    decompressor = zlib.decompressobj(window)
    try:
        expanded = decompressor.decompress(body, limit + 1)
    except zlib.error as error:
        raise Unacceptable(400, f"the compressed body is damaged: {error}") from None
    if len(expanded) > limit:
        raise too_large(limit)
    if not decompressor.eof:
        raise Unacceptable(400, "the compressed body ends too early")
    return expanded


def too_large(limit: int) -> Unacceptable:
    """Return the refusal of a body over the limit."""
    return Unacceptable(413, f"the body is larger than {limit // 1024 // 1024} MiB; send it in parts")


def _form_field(body: bytes) -> bytes:
    for field in _fields_of(body):
        name, _, value = field.partition(b"=")
        if name == b"data":
            # A plus is a blank in a form, and a digit of base64: what follows decides.
            plain = unquote_to_bytes(value)
            return plain if plain[:1] not in {b"{", b"["} else unquote_to_bytes(value.replace(b"+", b" "))
    raise Unacceptable(400, "the form has no field data")


def _from_base64(text: bytes) -> bytes | None:
    digits = text.strip().replace(b" ", b"+").translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
    try:
        return base64.b64decode(digits + b"=" * (-len(digits) % 4), validate=True)
    except binascii.Error:
        return None
