"""WSGI: the input behind a tee, and answers that keep their kind."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.handlers import SimpleHandler
from wsgiref.util import FileWrapper

import pytest
from werkzeug.wsgi import LimitedStream

from lastseen import LastSeen
from lastseen.activity import identify
from lastseen.web.wsgi import ActivityMiddleware
from tests.web.cases import Case
from tests.web.drivers import environ_of, request_wsgi

BODY = b'{"a": 1,\n\n"client_id":\n "till-7"}\n'
POST = Case(name="", expected=None, body=BODY)


@pytest.fixture
def seen() -> Iterator[LastSeen]:
    with LastSeen.open("memory:") as opened:
        yield opened


def ids(seen: LastSeen) -> set[str]:
    return {client.client_id for client in seen.clients.list()}


def answering(read: Callable[[Any], object]) -> Callable[..., Iterable[bytes]]:
    """Return an application that answers with what `read` makes of the input."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        found = repr(read(environ["wsgi.input"])).encode()
        start_response("200 OK", [])
        return [found]

    return app


READS: dict[str, Callable[[Any], object]] = {
    "read": lambda body: body.read(),
    "read all": lambda body: body.read(-1),
    "read None": lambda body: body.read(None),
    "read length": lambda body: body.read(len(BODY)),
    "read pieces": lambda body: list(iter(lambda: body.read(7), b"")),
    "read none, then all": lambda body: (body.read(0), body.read()),
    "readline": lambda body: list(iter(body.readline, b"")),
    "readline in part": lambda body: list(iter(lambda: body.readline(4), b"")),
    "readline None": lambda body: list(iter(lambda: body.readline(None), b"")),
    "readlines": lambda body: body.readlines(),
    "readlines hint": lambda body: (body.readlines(3), body.readlines(None)),
    "iterate": list,
    "mixed": lambda body: (body.readline(), body.read(5), next(body), list(body), body.read()),
    "in part": lambda body: body.read(5),
    "nothing": lambda body: None,
    "readinto": lambda body: [body.readinto(piece := bytearray(9)) and piece for _ in range(9)],
    "readinto1": lambda body: (body.readinto1(memoryview(piece := bytearray(99))), piece),
    "read1": lambda body: list(iter(lambda: body.read1(9), b"")),
    "probed": lambda body: (hasattr(body, "seek"), body.readable(), body.read()),
    "wrapped": lambda body: LimitedStream(body, len(BODY)).read(),
    "buffered": lambda body: io.BytesIO(body.read()).readlines(),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
@pytest.mark.parametrize("declared", [True, False])
def test_every_way_to_read(read: Callable[[Any], object], declared: bool, seen: LastSeen) -> None:
    """The application gets what it would get from the server's own stream, and the client is found."""
    app = answering(read)
    length = {"CONTENT_LENGTH": str(len(BODY)) if declared else ""}
    assert request_wsgi(ActivityMiddleware(app, seen.clients), POST, **length) == request_wsgi(app, POST, **length)
    unfinished = read in [READS[name] for name in ("in part", "nothing", "read length", "readinto1", "wrapped")]
    assert ids(seen) == ({"till-7"} if declared or not unfinished else set())


def test_what_else_the_stream_can_do(seen: LastSeen) -> None:
    """Methods beyond the four of PEP 3333 still work; those that move the stream unseen end the looking."""

    def read(body: Any) -> object:
        whole = body.read()
        body.seek(3)
        assert body.tell() == 3
        return whole, body.read(), body.closed, body.readable()

    app = answering(read)
    plain = request_wsgi(app, POST)
    assert request_wsgi(ActivityMiddleware(app, seen.clients), POST) == plain
    assert ids(seen) == set()
    with pytest.raises(AttributeError):
        request_wsgi(ActivityMiddleware(answering(lambda body: body.other), seen.clients), POST)


class Stream(io.BytesIO):
    """Counts what is read from it."""

    taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        chunk = super().read(size)
        self.taken += len(chunk)
        return chunk


def answer_only(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [])
    return [b"ok"]


def test_unread_body_is_read_after_the_answer(seen: LastSeen) -> None:
    """The answer never waits for a body that the application does not read."""
    stream = Stream(BODY)
    environ = {**environ_of(POST), "wsgi.input": stream}
    answer: Any = ActivityMiddleware(answer_only, seen.clients)(environ, lambda *_: None)
    assert list(answer) == [b"ok"]
    assert (stream.taken, ids(seen)) == (0, set())
    answer.close()
    assert (stream.taken, ids(seen)) == (len(BODY), {"till-7"})


@pytest.mark.parametrize(
    ("options", "environ"),
    [({"finish_reading": False}, {}), ({}, {"HTTP_EXPECT": "100-continue"}), ({}, {"CONTENT_LENGTH": ""})],
)
def test_bodies_that_are_never_read_for_the_application(
    options: dict[str, Any], environ: dict[str, Any], seen: LastSeen
) -> None:
    """A body without a declared end, or one that the client has yet to send, is left alone."""
    stream = Stream(BODY)
    app = ActivityMiddleware(answer_only, seen.clients, **options)
    request_wsgi(app, POST, **{"wsgi.input": stream, **environ})
    assert (stream.taken, ids(seen)) == (0, set())


def test_short_body(seen: LastSeen) -> None:
    """A client that sends less than it declared is seen by its query."""
    app = ActivityMiddleware(answer_only, seen.clients)
    assert request_wsgi(app, POST, CONTENT_LENGTH="999", QUERY_STRING="client_id=q").body == b"ok"
    assert ids(seen) == {"q"}


class Zeros:
    """A stream of 40 MB."""

    left = 40

    def read(self, size: int = -1) -> bytes:
        self.left -= 1
        return bytes(1_000_000) if self.left >= 0 else b""


def test_large_bodies_take_no_memory(seen: LastSeen) -> None:
    """What is over the limit is let go as it passes, however much follows."""
    app = ActivityMiddleware(answering(lambda body: sum(1 for _ in iter(lambda: body.read(1), b""))), seen.clients)
    tracemalloc.start()
    try:
        answer = request_wsgi(app, POST, **{"wsgi.input": Zeros(), "CONTENT_LENGTH": ""})
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert answer.body == b"40"


class BrokenStream:
    """A connection that breaks while it is read."""

    def read(self, size: int = -1) -> bytes:
        raise ConnectionResetError("gone")


def test_stream_that_breaks(seen: LastSeen) -> None:
    """A connection that breaks after the answer breaks nothing; an error while the application reads is its own."""
    environ = {"wsgi.input": BrokenStream(), "QUERY_STRING": "client_id=q"}
    assert request_wsgi(ActivityMiddleware(answer_only, seen.clients), POST, **environ).body == b"ok"
    assert ids(seen) == {"q"}
    with pytest.raises(ConnectionResetError):
        request_wsgi(ActivityMiddleware(answering(READS["read"]), seen.clients), POST, **environ)


def serve(app: Any, **more: Any) -> bytes:
    """Serve a request with the standard library's handler, which treats kinds of answers differently."""
    out = io.BytesIO()
    handler = SimpleHandler(io.BytesIO(BODY), out, io.StringIO(), environ_of(POST) | more)
    handler.origin_server = False
    handler.run(app)
    return out.getvalue()


class Answer:
    """An answer that notes what is done with it."""

    def __init__(self, pieces: Iterable[bytes], log: list[str]) -> None:
        self._pieces = iter(pieces)
        self._log = log

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self._log.append("next")
        return next(self._pieces)

    def close(self) -> None:
        self._log.append("close")


def test_answers_keep_their_kind(seen: LastSeen) -> None:
    """Lists keep their length (so the server sends it), iterables are closed once, files stay files."""
    log: list[str] = []
    kinds: list[Callable[[], Any]] = [
        lambda: [b"one"],
        lambda: [b"one", b"two"],
        list,
        lambda: (b"one",),
        lambda: iter([b"one", b"two"]),
        lambda: (piece for piece in [b"one"]),
        lambda: Answer([b"one", b"two"], log),
        lambda: FileWrapper(io.BytesIO(b"file")),
    ]
    for kind in kinds:

        def app(environ: dict[str, Any], start_response: Any, kind: Callable[[], Any] = kind) -> Any:
            start_response("200 OK", [("Content-Type", "text/plain")])
            return kind()

        assert serve(ActivityMiddleware(app, seen.clients)) == serve(app)
    assert log == ["next", "next", "next", "close"] * 2
    assert ids(seen) == {"till-7"}


def test_file_answers_are_handed_on_as_they_are(seen: LastSeen) -> None:
    """A server sends its own kind of file by itself, so it must get that very object."""
    file = FileWrapper(io.BytesIO(b"file"))

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        environ["wsgi.input"].read()
        start_response("200 OK", [])
        return file

    for source in (identify.json_body(), lambda facts: "own"):
        environ = {**environ_of(POST), "wsgi.file_wrapper": FileWrapper, "wsgi.input": io.BytesIO(BODY)}
        assert ActivityMiddleware(app, seen.clients, source=source)(environ, lambda *_: None) is file
    assert ids(seen) == {"till-7", "own"}


def test_write_and_exc_info(seen: LastSeen) -> None:
    """The old `write` and a second start with `exc_info` reach the server as they are."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("X-First", "1")])
        error = LookupError("late")
        write = start_response("500 Oh", [("X-Second", "1")], (type(error), error, None))
        write(b"written, ")
        return [b"returned"]

    answer = serve(ActivityMiddleware(app, seen.clients))
    assert answer == serve(app)
    assert b"500 Oh" in answer
    assert answer.endswith(b"written, returned")
    assert ids(seen) == {"till-7"}


def test_recorded_when_the_body_was_read(seen: LastSeen) -> None:
    """An answer that streams for hours does not hold up the recording."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ["wsgi.input"].read()
        start_response("200 OK", [])
        yield b"one"
        yield b"two"

    answer = iter(ActivityMiddleware(app, seen.clients)(environ_of(POST), lambda *_: None))
    assert next(answer) == b"one"
    assert ids(seen) == {"till-7"}


def test_answer_that_breaks(seen: LastSeen) -> None:
    """An error in the middle of the answer is the application's own; the client was active all the same."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        yield b"one"
        raise LookupError("halfway")

    with pytest.raises(LookupError, match="halfway"):
        request_wsgi(ActivityMiddleware(app, seen.clients), POST)
    assert ids(seen) == {"till-7"}
