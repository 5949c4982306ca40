"""Request bodies as they arrive: pieces, decompressed, cut into lines, always within bounds."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from typing import Any

from lastseen.server.problem import Problem

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_JSON_BODY = 10 * 1024 * 1024
MAX_LINE = 64 * 1024
MAX_EXPANSION = 100
"""Beyond the first 10 MiB, a compressed body may become this many times larger, not more: real lines about 20 times."""

_PIECE = 64 * 1024
_GZIP_WINDOW = 16 + zlib.MAX_WBITS  # https://docs.python.org/3/library/zlib.html#zlib.decompress: 16 is for gzip


class ClientGone(Exception):
    """The client closed the connection before its body was complete."""


async def read_pieces(receive: Receive, first: Message) -> AsyncIterator[bytes]:
    """Yield what arrives, beginning with a message that was received already."""
    message = first
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGone
        if body := message.get("body"):
            yield body
        if not message.get("more_body", False):
            return
        message = await receive()


async def read_whole(pieces: AsyncIterator[bytes], limit: int = MAX_JSON_BODY) -> bytes:
    """Return the whole body; 413 as soon as it passes the limit."""
    body = bytearray()
    async for piece in pieces:
        body += piece
        if len(body) > limit:
            raise too_large(limit)
    return bytes(body)


def too_large(limit: int) -> Problem:
    """Return the answer to a body over the limit; the rest of it is not read."""
    return Problem(
        413,
        f"the body is larger than {limit // 1024 // 1024} MiB; send it in parts, or as application/x-ndjson",
        headers={"connection": "close"},
    )


async def gunzip(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the decompressed body in small pieces; 400 when it is damaged or cut, 413 when it expands too far."""
    received = produced = 0
    decompressor = zlib.decompressobj(_GZIP_WINDOW)
    async for piece in pieces:
        received += len(piece)
        left = piece
        while left:
            if decompressor.eof:  # a gzip file may have several members (RFC 1952, section 2.2)
                decompressor = zlib.decompressobj(_GZIP_WINDOW)
            try:
                expanded = decompressor.decompress(left, _PIECE)
            except zlib.error as error:
                raise Problem(400, f"the body is not valid gzip: {error}") from error
            left = decompressor.unused_data if decompressor.eof else decompressor.unconsumed_tail
            produced += len(expanded)
            if produced > max(MAX_JSON_BODY, MAX_EXPANSION * received):
                raise Problem(413, "the body expands to more than 100 times its size", headers={"connection": "close"})
            if expanded:
                yield expanded
    if received and not decompressor.eof:
        raise Problem(400, "the gzip body ends too early")


class LineCutter:
    """Cuts pieces into lines, numbered from 1; at most one line of `MAX_LINE` bytes is held.

    A longer line comes out as None, once, and the rest of it is skipped. Empty lines are only counted, so that a
    flood of them costs little.
    """

    def __init__(self) -> None:
        self._tail = bytearray()
        self._number = 0
        self._skipping = False

    def feed(self, piece: bytes) -> Iterator[tuple[int, bytes | None]]:
        """Yield the lines that this piece completes."""
        *lines, tail = piece.split(b"\n")
        for line in lines:
            if line or self._tail or self._skipping:
                yield from self._finish(line)
            else:
                self._number += 1
        self._tail += tail
        if len(self._tail) > MAX_LINE:
            self._tail.clear()
            if not self._skipping:
                self._skipping = True
                yield self._number + 1, None

    def end(self) -> Iterator[tuple[int, bytes | None]]:
        """Yield the last line, which need not end with a line feed."""
        if self._tail or self._skipping:
            yield from self._finish(b"")

    def _finish(self, line: bytes) -> Iterator[tuple[int, bytes | None]]:
        self._number += 1
        if self._tail:
            line = bytes(self._tail) + line
            self._tail.clear()
        if self._skipping:
            self._skipping = False
        elif len(line) > MAX_LINE:
            yield self._number, None
        else:
            yield self._number, line
