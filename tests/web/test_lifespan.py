"""Saving at an ASGI server's shutdown, whatever the application does with its lifespan."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from lastseen import LastSeen
from lastseen.web import lifespan
from lastseen.web.asgi import ActivityMiddleware
from lastseen.web.lifespan import SaveAtShutdown

pytestmark = pytest.mark.anyio

STARTED = {"type": "lifespan.startup.complete"}
ENDED = {"type": "lifespan.shutdown.complete"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def seen() -> Iterator[LastSeen]:
    with LastSeen.open("memory:") as opened:
        yield opened


def stored(seen: LastSeen) -> set[str]:
    """Return the clients that are in the store already."""
    found = {client_id: seen.store.clients.get_client(client_id) for client_id in ("early", "late")}
    return {client_id for client_id, client in found.items() if client is not None}


async def live(app: Any) -> list[Any]:
    """Start and stop an application as a server does; return what it said."""
    incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[Any] = []

    async def receive() -> Any:
        return incoming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "lifespan", "state": {}}, receive, send)
    return sent


@pytest.mark.parametrize("wrapper", [ActivityMiddleware, SaveAtShutdown])
async def test_saves_before_and_after_the_shutdown_of_the_application(wrapper: Any, seen: LastSeen) -> None:
    """Before, while the application's pool is open; and again, for what its shutdown recorded."""
    saved: list[set[str]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(STARTED)
        seen.clients.record("early")
        await receive()
        saved.append(stored(seen))
        seen.clients.record("late")
        await send(ENDED)

    assert await live(wrapper(app, seen.clients)) == [STARTED, ENDED]
    assert saved == [{"early"}]
    assert stored(seen) == {"early", "late"}


async def test_application_may_start_again(seen: LastSeen) -> None:
    """The tracker stays open, as tests start and stop one application many times."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for answer in (STARTED, ENDED):
            await receive()
            await send(answer)

    wrapped = ActivityMiddleware(app, seen.clients)
    await live(wrapped)
    seen.clients.record("late")
    await live(wrapped)
    assert stored(seen) == {"late"}


async def raises(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"


async def receives_and_raises(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    raise NotImplementedError(scope["type"])


async def returns(scope: Any, receive: Any, send: Any) -> None:
    return


@pytest.mark.parametrize("app", [raises, receives_and_raises, returns])
async def test_application_without_lifespan(app: Any, seen: LastSeen) -> None:
    """An application that does not speak it has its lifespan served, so that there is a shutdown to save at."""
    seen.clients.record("early")
    assert await live(ActivityMiddleware(app, seen.clients)) == [STARTED, ENDED]
    assert stored(seen) == {"early"}


async def test_failed_startup_stays_failed(seen: LastSeen) -> None:
    """An application that says that it could not start is believed."""
    failed = {"type": "lifespan.startup.failed", "message": "no"}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(failed)
        raise LookupError("no")

    said: list[Any] = []

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        said.append(message)

    with pytest.raises(LookupError):
        await ActivityMiddleware(app, seen.clients)({"type": "lifespan"}, receive, send)
    assert said == [failed]


class Unsaved:
    """A tracker whose database is gone."""

    def record(self, key: str, at: float) -> Any:
        return None

    def flush(self) -> None:
        raise ConnectionError("gone")


class Stuck(Unsaved):
    """A tracker whose database never answers."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.flushes = 0

    def flush(self) -> None:
        self.flushes += 1
        self.release.wait()


class Recording:
    """A tracker that only records."""

    def record(self, key: str, at: float) -> Any:
        return None


async def test_shutdown_never_fails(caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be saved is logged, and the shutdown goes on; a tracker without flush needs none."""
    assert await live(ActivityMiddleware(returns, Unsaved())) == [STARTED, ENDED]
    assert "gone" in caplog.text
    assert await live(ActivityMiddleware(returns, Recording())) == [STARTED, ENDED]


async def test_shutdown_has_a_deadline(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A database that does not answer holds the shutdown up for the deadline once, not for each saving."""
    monkeypatch.setattr(lifespan, "SAVE_DEADLINE", 0.05)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for answer in (STARTED, ENDED):
            await receive()
            await send(answer)

    tracker = Stuck()
    try:
        assert await live(ActivityMiddleware(app, tracker)) == [STARTED, ENDED]
        assert tracker.flushes == 1
        assert "not everything could be saved" in caplog.text
    finally:
        tracker.release.set()


def test_without_asyncio(seen: LastSeen) -> None:
    """Under another event loop the saving is done in place."""
    seen.clients.record("early")
    running = live(ActivityMiddleware(returns, seen.clients))
    with pytest.raises(StopIteration) as stop:
        running.send(None)
    assert stop.value.value == [STARTED, ENDED]
    assert stored(seen) == {"early"}


async def test_saving_leaves_the_loop_free(seen: LastSeen) -> None:
    """While the flush writes, other tasks of the server go on."""
    tracker = Stuck()

    async def release() -> None:
        tracker.release.set()

    said, _ = await asyncio.gather(live(ActivityMiddleware(returns, tracker)), release())
    assert said == [STARTED, ENDED]
