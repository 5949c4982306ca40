"""ASGI: bodies pass by untouched, and are read ahead only where nobody can tell."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from lastseen import LastSeen
from lastseen.activity import identify
from lastseen.testing import ManualClock
from lastseen.web import asgi
from lastseen.web.asgi import ActivityMiddleware
from tests.web.cases import Case
from tests.web.drivers import request_asgi, scope_of

POST = Case(name="", expected=None, body=b'{"client_id": "till-7"}')
START = {"type": "http.response.start", "status": 200, "headers": []}
DISCONNECT = {"type": "http.disconnect"}
END = {"type": "http.response.body", "body": b"", "more_body": False}


pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def seen() -> Iterator[LastSeen]:
    with LastSeen.open("memory:") as opened:
        yield opened


def ids(seen: LastSeen) -> set[str]:
    return {client.client_id for client in seen.clients.list()}


class Channel:
    """A connection whose messages a test hands in; what the application sends is kept."""

    def __init__(self, *messages: Any) -> None:
        self.incoming: asyncio.Queue[Any] = asyncio.Queue()
        self.sent: list[Any] = []
        self.started = asyncio.Event()
        self.receiving = self.most_receiving = 0
        for message in messages:
            self.incoming.put_nowait(message)

    async def receive(self) -> Any:
        self.receiving += 1
        self.most_receiving = max(self.receiving, self.most_receiving)
        try:
            return await self.incoming.get()
        finally:
            self.receiving -= 1

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        self.started.set()

    def run(self, app: Callable[..., Awaitable[None]], case: Case = POST) -> asyncio.Task[None]:
        return asyncio.ensure_future(serve(app, scope_of(case), self))


async def serve(app: Any, scope: Any, channel: Channel) -> None:
    await app(scope, channel.receive, channel.send)


def pieces(body: bytes, size: int) -> list[dict[str, Any]]:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return [
        {"type": "http.request", "body": part, "more_body": number < len(parts)} for number, part in enumerate(parts, 1)
    ]


async def turn() -> None:
    """Let the other tasks run until each waits for something."""
    turned = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(turned.set_result, None)
    await turned


async def test_body_after_the_answer_began(seen: LastSeen) -> None:
    """An application that answers first and reads later gets every piece in order, then the disconnect."""
    messages = [*pieces(POST.body, 5), DISCONNECT]
    received: list[Any] = []

    async def late_reader(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        received.extend([await receive() for _ in messages])
        await send(END)

    channel = Channel(*messages)
    await channel.run(ActivityMiddleware(late_reader, seen.clients))
    assert received == messages
    assert channel.sent == [START, END]
    assert ids(seen) == {"till-7"}


async def answer_only(scope: Any, receive: Any, send: Any) -> None:
    """Answer without reading the body."""
    await send(START)
    await send(END)


async def test_body_that_nobody_reads(seen: LastSeen) -> None:
    """A handler that only answers is tracked too, when body and headers come one after the other."""
    channel = Channel()
    task = channel.run(ActivityMiddleware(answer_only, seen.clients))
    for message in pieces(POST.body, 10):
        channel.incoming.put_nowait(message)
    await task
    assert channel.sent == [START, END]
    assert ids(seen) == {"till-7"}


async def test_body_that_nobody_reads_may_be_left_alone(seen: LastSeen) -> None:
    """Reading ahead can be switched off; then only what the application reads is looked at."""
    channel = Channel(*pieces(POST.body, 10))
    await channel.run(ActivityMiddleware(answer_only, seen.clients, finish_reading=False))
    assert ids(seen) == set()
    assert channel.incoming.qsize() == len(pieces(POST.body, 10))


@pytest.mark.parametrize(
    "case",
    [
        Case(name="", expected=None, body=POST.body, headers={"Expect": "100-continue"}),
        Case(name="", expected=None, body=POST.body, content_type="text/plain"),
        Case(name="", expected=None, body=b'{"client_id": "large", "p": "%s"}' % (b"x" * 2000)),
        Case(name="", expected=None, body=b""),
    ],
)
async def test_bodies_that_are_never_read_ahead(case: Case, seen: LastSeen) -> None:
    """Nothing is read for the application that the client may not have sent, or that would not be looked at."""
    channel = Channel(*pieces(case.body, 1000))
    await channel.run(ActivityMiddleware(answer_only, seen.clients, peek_limit=1000), case)
    assert channel.sent == [START, END]
    assert channel.incoming.qsize() == len(pieces(case.body, 1000))
    assert ids(seen) == set()


async def test_unknown_length_is_never_read_ahead(seen: LastSeen) -> None:
    """A body in chunks may go on for ever: only what the application reads of it is seen."""
    scope = scope_of(POST)
    scope["headers"] = [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]
    channel = Channel(*pieces(POST.body, 5))
    await serve(ActivityMiddleware(answer_only, seen.clients), scope, channel)
    assert channel.incoming.qsize() == len(pieces(POST.body, 5))
    assert ids(seen) == set()


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer each piece as it comes."""
    await send(START)
    while True:
        message = await receive()
        await send({"type": "http.response.body", "body": message["body"], "more_body": message["more_body"]})
        if not message["more_body"]:
            return


async def test_chunked_body_that_is_read(seen: LastSeen) -> None:
    """A body of unknown length that the application reads to its end names its client."""
    scope = scope_of(POST)
    scope["headers"] = [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]
    channel = Channel(*pieces(POST.body, 5))
    await serve(ActivityMiddleware(echo, seen.clients), scope, channel)
    assert b"".join(message.get("body", b"") for message in channel.sent) == POST.body
    assert ids(seen) == {"till-7"}


async def test_chunked_body_over_the_limit(seen: LastSeen) -> None:
    """Pieces beyond the limit are forgotten, pass through untouched, and the query names the client."""
    case = Case(name="", expected=None, body=b'{"client_id": "x", "p": "%s"}' % (b"x" * 5000), query="client_id=q")
    scope = scope_of(case)
    scope["headers"] = [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]
    channel = Channel(*pieces(case.body, 400))
    await serve(ActivityMiddleware(echo, seen.clients, peek_limit=1000), scope, channel)
    assert b"".join(message.get("body", b"") for message in channel.sent) == case.body
    assert ids(seen) == {"q"}


async def test_large_bodies_take_no_memory(seen: LastSeen) -> None:
    """What is over the limit is let go as it passes, however much follows."""
    left = 40

    async def receive() -> Any:
        nonlocal left
        left -= 1
        return {"type": "http.request", "body": bytes(1_000_000), "more_body": left > 0}

    async def reads(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass

    scope = scope_of(POST)
    scope["headers"] = [(b"content-type", b"application/json")]
    app = ActivityMiddleware(reads, seen.clients)
    tracemalloc.start()
    try:
        await app(scope, receive, Channel().send)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert left == 0


async def test_recorded_when_the_last_piece_has_passed(seen: LastSeen) -> None:
    """An answer that streams for hours does not hold up the recording, and the time is that of the arrival."""
    inside = asyncio.Event()
    leave = asyncio.Event()

    async def streams(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass
        await send(START)
        inside.set()
        await leave.wait()
        await send(END)

    task = Channel(*pieces(POST.body, 5)).run(ActivityMiddleware(streams, seen.clients))
    await inside.wait()
    assert ids(seen) == {"till-7"}
    leave.set()
    await task


async def test_late_body_does_not_hold_up_the_answer(seen: LastSeen, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that does not come in time is given up: the answer goes out, and the application can still read it all."""
    monkeypatch.setattr(asgi, "READ_AHEAD_DEADLINE", 0.01)
    first, second, last = pieces(POST.body, 10)
    received: list[Any] = []

    async def late_reader(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        received.extend([await receive() for _ in range(3)])
        await send(END)

    channel = Channel(first)
    task = channel.run(ActivityMiddleware(late_reader, seen.clients))
    await channel.started.wait()
    assert ids(seen) == set()
    channel.incoming.put_nowait(second)
    channel.incoming.put_nowait(last)
    await task
    assert received == [first, second, last]
    assert ids(seen) == {"till-7"}


async def test_late_body_that_nobody_reads(seen: LastSeen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given up for good, it leaves no task behind, and the query names the client."""
    monkeypatch.setattr(asgi, "READ_AHEAD_DEADLINE", 0.01)
    case = Case(name="", expected=None, body=POST.body, query="client_id=q")
    channel = Channel(pieces(POST.body, 10)[0])
    await channel.run(ActivityMiddleware(answer_only, seen.clients), case)
    assert channel.sent == [START, END]
    assert ids(seen) == {"q"}


async def test_application_that_reads_beside_its_answer(seen: LastSeen) -> None:
    """A task of the application that waits for the disconnect meanwhile gets each message exactly once."""
    received: list[Any] = []

    async def two_tasks(scope: Any, receive: Any, send: Any) -> None:
        async def listen() -> None:
            while not received or received[-1]["type"] != "http.disconnect":
                received.append(await receive())

        answering = asyncio.ensure_future(send(START))
        listening = asyncio.ensure_future(listen())
        await asyncio.gather(answering, listening)
        await send(END)

    messages = [*pieces(POST.body, 5), DISCONNECT]
    channel = Channel()
    task = channel.run(ActivityMiddleware(two_tasks, seen.clients))
    for message in messages:
        await turn()
        channel.incoming.put_nowait(message)
    await task
    assert received == messages
    assert channel.sent == [START, END]
    assert ids(seen) == {"till-7"}


async def test_application_that_listens_before_its_answer(seen: LastSeen) -> None:
    """While the application itself waits for the body, nothing is read beside it."""
    received: list[Any] = []

    async def listens_first(scope: Any, receive: Any, send: Any) -> None:
        listening = asyncio.ensure_future(receive())
        await turn()
        await send(START)
        received.append(await listening)
        await send(END)

    channel = Channel()
    task = channel.run(ActivityMiddleware(listens_first, seen.clients))
    await channel.started.wait()
    channel.incoming.put_nowait({"type": "http.request", "body": POST.body})
    await task
    assert received == [{"type": "http.request", "body": POST.body}]
    assert channel.most_receiving == 1
    assert ids(seen) == {"till-7"}


async def test_client_that_leaves(seen: LastSeen) -> None:
    """A client that hangs up halfway is seen by its query; the application learns of it as ever."""
    messages = [pieces(POST.body, 5)[0], DISCONNECT]
    received: list[Any] = []

    async def late_reader(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        received.extend([await receive() for _ in messages])

    case = Case(name="", expected=None, body=POST.body, query="client_id=q")
    await Channel(*messages).run(ActivityMiddleware(late_reader, seen.clients), case)
    assert received == messages
    assert ids(seen) == {"q"}


async def test_server_whose_receive_fails(seen: LastSeen) -> None:
    """An error of the server reaches the application that asks, not the answer."""

    async def receive() -> Any:
        raise ConnectionResetError("gone")

    async def late_reader(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        with pytest.raises(ConnectionResetError):
            await receive()
        await send(END)

    for app in (late_reader, answer_only):
        channel = Channel()
        await ActivityMiddleware(app, seen.clients)(scope_of(POST), receive, channel.send)
        assert channel.sent == [START, END]


def test_without_asyncio(seen: LastSeen) -> None:
    """Under another event loop nothing is read ahead; what the application reads is seen as ever."""
    for app, expected in ((answer_only, set()), (echo, {"till-7"})):
        channel: list[Any] = []
        messages = pieces(POST.body, 5)

        async def receive(messages: list[Any] = messages) -> Any:
            return messages.pop(0)

        async def send(message: Any, channel: list[Any] = channel) -> None:
            channel.append(message)

        running = ActivityMiddleware(app, seen.clients)(scope_of(POST), receive, send)
        with pytest.raises(StopIteration):
            running.send(None)
        assert channel[0] == START
        assert ids(seen) == expected


async def test_cancelled_request(seen: LastSeen) -> None:
    """A request that the server cancels is recorded, and the cancellation goes on."""
    case = Case(name="", expected=None, body=POST.body, query="client_id=q")
    channel = Channel()

    async def waits(scope: Any, receive: Any, send: Any) -> None:
        channel.started.set()
        await receive()

    task = channel.run(ActivityMiddleware(waits, seen.clients), case)
    await channel.started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ids(seen) == {"q"}


async def test_time_is_the_arrival() -> None:
    """The time recorded is when the request arrived, however long the body takes."""
    clock = ManualClock(1_000_000_000.0)

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            clock.advance(60)
        await send(START)
        await send(END)

    with LastSeen.open("memory:", clock=clock) as seen:
        channel = Channel(*pieces(POST.body, 5))
        await channel.run(ActivityMiddleware(slow, seen.clients, clock=clock))
        client = seen.clients.get("till-7")
        assert client is not None
        assert client.last_seen_at.timestamp() == 1_000_000_000.0


@pytest.mark.parametrize(
    ("root_path", "path", "recorded"),
    [
        ("", "/health", False),
        ("/api", "/api/health", False),
        ("/api", "/health", False),
        ("/api", "/apiary/health", True),
        ("/api", "/api", True),
    ],
)
async def test_paths_below_the_mount_point(root_path: str, path: str, recorded: bool, seen: LastSeen) -> None:
    """Excluded paths count from where the server mounted the application, as do path templates."""
    case = Case(name="", expected=None, method="GET", path=path, query="client_id=c")
    await request_asgi(ActivityMiddleware(echo, seen.clients), case, scope={"root_path": root_path})
    assert ids(seen) == ({"c"} if recorded else set())


async def websocket_app(scope: Any, receive: Any, send: Any) -> None:
    """Accept unless the path says otherwise."""
    await receive()
    scope["user"] = "ann"
    if scope["path"] == "/closed":
        await send({"type": "websocket.close", "code": 1008})
        return
    await send({"type": "websocket.accept"})


@pytest.mark.parametrize(
    ("source", "path", "expected"),
    [
        (identify.DEFAULT_SOURCE, "/open", {"q"}),
        (identify.DEFAULT_SOURCE, "/closed", {"q"}),
        (identify.path("/{client_id}"), "/open", {"open"}),
        (identify.header(), "/open", {"h"}),
        (identify.principal(), "/open", {"ann"}),
        (identify.principal(), "/closed", set()),
        (identify.query(), "/health", set()),
    ],
)
async def test_websocket(source: identify.ClientSource, path: str, expected: set[str], seen: LastSeen) -> None:
    """A websocket is recorded once, on its handshake; a principal only when the handshake is accepted."""
    scope = {
        "type": "websocket",
        "path": path,
        "query_string": b"client_id=q",
        "headers": [(b"x-client-id", b"h"), (b"content-type", b"application/json")],
    }
    channel = Channel({"type": "websocket.connect"})
    await serve(ActivityMiddleware(websocket_app, seen.clients, source=source), scope, channel)
    assert len(channel.sent) == 1
    assert ids(seen) == expected


async def test_first_of_a_repeated_header(seen: LastSeen) -> None:
    """Of a repeated header the first counts."""
    scope = scope_of(POST)
    scope["headers"] = [(b"x-client-id", b"one"), (b"x-client-id", b"two")]
    await serve(ActivityMiddleware(answer_only, seen.clients, source=identify.header()), scope, Channel())
    assert ids(seen) == {"one"}


async def test_headers_as_lists(seen: LastSeen) -> None:
    """Servers may hand over each header in any sequence of two: the body is looked at all the same."""
    for number, kind in enumerate((tuple, list)):
        scope = scope_of(POST)
        scope["headers"] = [kind(header) for header in scope["headers"]]
        body = b'{"client_id": "till-%d"}' % number
        await serve(ActivityMiddleware(echo, seen.clients), scope, Channel(*pieces(body, 100)))
    assert ids(seen) == {"till-0", "till-1"}


async def test_odd_scopes_never_fail(seen: LastSeen) -> None:
    """A scope that no server should send is the application's affair."""
    for headers in ([(b"content-type", b"application/json"), (b"content-length", b"many")], None):
        scope: dict[str, Any] = {**scope_of(POST), "headers": headers, "path": "/\ud800"}
        channel = Channel()
        await serve(ActivityMiddleware(answer_only, seen.clients), scope, channel)
        assert channel.sent == [START, END]
    channel = Channel()
    await serve(ActivityMiddleware(answer_only, seen.clients), {"type": "other"}, channel)
    assert channel.sent == [START, END]
