"""Activity as lines: `{"client_id": "...", "at": a number or ISO 8601}`, plain or gzip, bounded in memory."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any, BinaryIO

import msgspec

from lastseen.activity.key import key_problem
from lastseen.clock import seconds_since_1970, utc
from lastseen.ingest.times import seconds_of_number

MAX_LINE = 64 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class BadLine(ValueError):
    """A line that is no activity; the message says why."""


class BrokenFile(Exception):
    """A compressed file is cut short or damaged; what came before was read."""


class _Line(msgspec.Struct, gc=False):
    client_id: str | int | float | None = None
    at: str | int | float | None = None


class _RawLine(msgspec.Struct, gc=False):
    client_id: msgspec.Raw = msgspec.Raw()


_decode = msgspec.json.Decoder(_Line).decode
_decode_raw = msgspec.json.Decoder(_RawLine).decode
_decode_anything = msgspec.json.Decoder().decode
# Beside msgspec's own errors: too deep, too many digits, not UTF-8.
_NOT_DECODABLE = (msgspec.DecodeError, RecursionError, ValueError)


def parse_activity(line: bytes | None, latest: float) -> tuple[str, float]:
    """Return the client and the moment, in seconds since 1970; raise `BadLine`. None is a line that was too long.

    A client id that is a number is its text as written. A moment is ISO 8601 with an offset from UTC, or a number of
    seconds, milli-, micro- or nanoseconds, told by its size; it must not be later than `latest`: a history that reaches
    into the future was written by a wrong clock.
    """
    if line is None:
        raise BadLine("longer than 64 KiB")
    found = _object(line)
    if found.client_id is None:
        raise BadLine("client_id is missing")
    if found.at is None:
        raise BadLine("at is missing")
    client_id = found.client_id if isinstance(found.client_id, str) else bytes(_decode_raw(line).client_id).decode()
    problem = key_problem(client_id)
    if problem is not None:
        raise BadLine(f"client_id {problem}")
    at = _moment(found.at)
    if at > latest:
        raise BadLine(f"at lies in the future: {_shown(found.at)}{_day(found.at, at)}")
    return client_id, at


def _object(line: bytes) -> _Line:
    try:
        return _decode(line)
    except _NOT_DECODABLE as error:
        raise BadLine(_problem(line, error)) from error


def _problem(line: bytes, error: Exception) -> str:
    """Say what is wrong with a line: no JSON at all, no object, or a member of the wrong type."""
    try:
        found = _decode_anything(line)
    except _NOT_DECODABLE as broken:
        return f"not JSON: {broken}"
    if not isinstance(found, dict):
        return 'not an object such as {"client_id": "till-7", "at": 1767225600}'
    for member in ("client_id", "at"):
        if isinstance(found.get(member), bool | list | dict):
            return f"{member} must be a text or a number"
    return str(error)


def _moment(at: Any) -> float:
    try:
        parsed = datetime.fromisoformat(at) if isinstance(at, str) else at
        moment = seconds_since_1970(parsed) if isinstance(parsed, datetime) else seconds_of_number(parsed)
    except (ValueError, OverflowError):
        parsed = moment = None
    if isinstance(parsed, datetime) and parsed.tzinfo is None:
        raise BadLine(f"at has no offset from UTC: {_shown(at)}; end it with Z or +02:00")
    if moment is None:
        raise BadLine(f"at must be a number of seconds since 1970 or ISO 8601 with an offset, not {_shown(at)}")
    return moment


def _day(at: Any, moment: float) -> str:
    return "" if isinstance(at, str) else f" would be {utc(moment):%Y-%m-%d}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"  # noqa: PLR2004 - enough to recognize it


def read_lines(stream: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Yield numbered lines without their end; None stands for a line over 64 KiB. Empty lines are left out.

    Raises `BrokenFile` where gzip data is cut short or damaged.
    """
    number = 0
    while line := _read_line(stream):
        number += 1
        if len(line.removesuffix(b"\n")) > MAX_LINE:
            while line and not line.endswith(b"\n"):
                line = _read_line(stream)
            yield number, None
            continue
        if number == 1:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if stripped := line.strip():
            yield number, stripped


def _read_line(stream: BinaryIO) -> bytes:
    try:
        return stream.readline(MAX_LINE + 1)
    except _GZIP_ERRORS as error:
        raise _broken(error) from error


def read_block(stream: BinaryIO, size: int) -> bytes:
    """Read at most so many bytes, none at the end; raises `BrokenFile` where gzip data is cut short or damaged."""
    try:
        return stream.read1(size)  # type: ignore[attr-defined, no-any-return]
    except _GZIP_ERRORS as error:
        raise _broken(error) from error


_GZIP_ERRORS = (EOFError, zlib.error, gzip.BadGzipFile)


def _broken(error: Exception) -> BrokenFile:
    is_short = isinstance(error, EOFError)
    return BrokenFile("the gzip data is cut short" if is_short else f"the gzip data is damaged: {error}")


def decompressed(stream: BinaryIO) -> BinaryIO:
    """Return the stream's plain bytes: gzip is recognized by its first two bytes, whatever the name of the file."""
    start = stream.read(len(_GZIP_MAGIC))
    whole = io.BufferedReader(_Joined(start, stream), MAX_LINE)
    if start != _GZIP_MAGIC:
        return whole
    # A GzipFile that fills a buffer throws away what it has read when it comes upon the damage; one piece at a time, it
    # hands that out first.
    return io.BufferedReader(_Joined(b"", gzip.GzipFile(fileobj=whole)), MAX_LINE)  # type: ignore[arg-type]


class _Joined(io.RawIOBase):
    """Bytes that were read already, then the rest of a stream that cannot seek."""

    def __init__(self, start: bytes, rest: BinaryIO) -> None:
        self._start = start
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._start:
            count = min(len(buffer), len(self._start))
            buffer[:count], self._start = self._start[:count], self._start[count:]
            return count
        chunk = self._rest.read1(len(buffer))  # type: ignore[attr-defined]
        buffer[: len(chunk)] = chunk
        return len(chunk)
