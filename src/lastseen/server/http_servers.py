"""The two HTTP servers that can run the application: uvicorn, and granian by choice."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, cast

from lastseen.errors import missing_extra
from lastseen.server.body import AsgiApp
from lastseen.server.ingest.direct import DirectEvents

BACKLOG = 2_048
FINISH_WITHIN = 4
"""Seconds for the requests under way when a signal comes; with the last flush, which has `close_deadline`, under 10."""
KEEP_ALIVE = 75
"""Seconds that a connection may wait for its next request: longer than programs keep one (httpx five, as uvicorn by
default) and than proxies do (nginx a minute), so that nobody sends into one that is just being closed."""
_KNOCK_EVERY = 0.01
"""Seconds."""

Announce = Callable[[], None]


class StopSignals:
    """SIGINT and SIGTERM, from the time they are watched until they are no longer: they stop, and do nothing else.

    A signal that comes before anything can be stopped is remembered; one that comes while everything is saved changes
    nothing.
    """

    def __init__(self) -> None:
        self.received = False
        """Whether one came."""
        self._stop: Callable[[], object] = lambda: None

    def call(self, stop: Callable[[], object]) -> None:
        """Call this for a signal, at once when one came already."""
        self._stop = stop
        if self.received:
            stop()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Handle the signals inside, and restore afterwards what was before."""
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, *_: object) -> None:
        self.received = True
        self._stop()


def run_uvicorn(
    app: AsgiApp,
    listener: socket.socket,
    announce: Announce,
    signals: StopSignals,
    *,
    direct: DirectEvents | None = None,
    until: Future[Any] | None = None,
) -> None:
    """Serve until a signal, or until something is done; then requests under way have `FINISH_WITHIN` seconds.

    `direct` is asked first for what it may know.
    """
    import uvicorn

    from lastseen.server.direct_protocol import protocol_with

    config = uvicorn.Config(
        cast("Any", app),  # uvicorn's types name each message, ours are the standard's dictionaries
        # Told, because it would guess by the kind of function: ours need not be coroutine functions.
        interface="asgi3",
        http="auto" if direct is None else protocol_with(direct),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=FINISH_WITHIN,
    )
    server = uvicorn.Server(config)

    def stop() -> None:
        server.should_exit = True

    # uvicorn listens for signals itself while it runs, and raises them again when it has stopped: by default that would
    # end the process before anything is saved.
    signals.call(stop)
    if until is not None:
        until.add_done_callback(lambda _: stop())
    announce()
    server.run(sockets=[listener])


def run_granian(app: AsgiApp, listener: socket.socket, announce: Announce, signals: StopSignals) -> None:
    """Serve until a signal, like `run_uvicorn`; granian opens the address itself."""
    try:
        from granian.constants import Interfaces
        from granian.server.embed import Server
    except ImportError as error:
        raise missing_extra(
            error, "http_server is granian, which is not installed: pip install granian", "granian"
        ) from error
    host, port = listener.getsockname()[:2]
    # It has proved that the port is free; granian shares no port with a socket that does not share.
    listener.close()
    server = Server(
        app, address=host, port=port, interface=Interfaces.ASGI, websockets=False, backlog=BACKLOG, log_enabled=False
    )
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_until_signal(server, (host, port), announce, signals))


async def _until_signal(server: Any, address: tuple[str, int], announce: Announce, signals: StopSignals) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    signals.call(lambda: loop.call_soon_threadsafe(stopping.set))
    serving = loop.create_task(server.serve())
    stopped = loop.create_task(stopping.wait())
    announced = loop.create_task(_announce_when_it_listens(address, announce))
    await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
    server.stop()
    _, unfinished = await asyncio.wait({serving}, timeout=FINISH_WITHIN)
    for task in {*unfinished, stopped, announced}:
        task.cancel()
    if not unfinished:
        serving.result()


async def _announce_when_it_listens(address: tuple[str, int], announce: Announce) -> None:
    """Knock until somebody is there: granian tells that it starts, and listens some time after, in a thread."""
    while True:
        try:
            _, door = await asyncio.open_connection(*address)
        except OSError:
            await asyncio.sleep(_KNOCK_EVERY)
        else:
            door.close()
            return announce()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
