"""Saving what waits when an ASGI server shuts down (https://asgi.readthedocs.io/en/latest/specs/lifespan.html)."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from lastseen.web.asgi_types import ASGIApp, Message, Receive, Scope, Send

_logger = logging.getLogger("lastseen")

SAVE_DEADLINE = 5.0
"""Seconds that a shutdown waits at most for the saving, in all."""


class SaveAtShutdown:
    """Wraps an ASGI application for nothing but this: what the tracker holds is saved when the server shuts down.

    For applications whose middleware does not see the shutdown, that is Django. `ActivityMiddleware` does it by itself.
    It matters because uvicorn ends with the signal that stopped it, so that nothing runs at interpreter exit.
    """

    def __init__(self, app: ASGIApp, tracker: Any) -> None:
        self.app = app
        self.tracker = tracker

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await serve_lifespan(self.app, self.tracker, scope, receive, send)
        else:
            await self.app(scope, receive, send)


async def serve_lifespan(app: ASGIApp, tracker: Any, scope: Scope, receive: Receive, send: Send) -> None:
    """Let the application serve its lifespan, and save before its shutdown and once more after it.

    Before, because its shutdown may close the pool that the tracker writes through; after, because it may still record.
    The tracker stays open: an application may be started again in the same process, as tests do.

    For an application that does not speak lifespan (it raises, or returns, without a word) the lifespan is served here:
    the server would otherwise never say that it shuts down.
    """
    lifespan = _Lifespan(tracker, receive, send)
    try:
        await app(scope, lifespan.receive, lifespan.send)
    except Exception as error:
        if lifespan.spoken:
            raise
        _logger.debug("the application does not speak lifespan error=%s", error)
    if not lifespan.spoken:
        await lifespan.serve_alone()


class _Lifespan:
    def __init__(self, tracker: Any, receive: Receive, send: Send) -> None:
        self._tracker = tracker
        self._receive = receive
        self._send = send
        self._received: list[Message] = []
        self._seconds_left = SAVE_DEADLINE
        self.spoken = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._received.append(message)
        if message["type"] == "lifespan.shutdown":
            await self._save()
        return message

    async def send(self, message: Message) -> None:
        self.spoken = True
        if message["type"].startswith("lifespan.shutdown."):
            await self._save()
        await self._send(message)

    async def serve_alone(self) -> None:
        """Answer for an application that gave up, beginning with what it already received."""
        while True:
            message = self._received.pop(0) if self._received else await self._receive()
            if message["type"] == "lifespan.startup":
                await self._send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self._save()
                await self._send({"type": "lifespan.shutdown.complete"})
                return

    async def _save(self) -> None:
        flush = getattr(self._tracker, "flush", None)
        if flush is None or self._seconds_left <= 0:
            return
        began = time.monotonic()
        try:
            await _flush_aside(flush, self._seconds_left)
        except Exception as error:  # noqa: BLE001 - a shutdown never fails for its tracking
            _logger.warning("not everything could be saved at shutdown error=%r", error)
        self._seconds_left -= time.monotonic() - began


async def _flush_aside(flush: Callable[[], object], seconds: float) -> None:
    """Flush in a thread of its own, which never keeps the process alive, and wait this long at most."""
    done: Future[None] = Future()
    # A running future is not cancelled by who waits for it.
    done.set_running_or_notify_cancel()
    threading.Thread(target=_flush, args=(flush, done), name="lastseen-save", daemon=True).start()
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        # Another event loop than asyncio's; at its shutdown there is nothing left to hold up.
        done.result(seconds)
    else:
        await asyncio.wait_for(asyncio.wrap_future(done), seconds)


def _flush(flush: Callable[[], object], done: Future[None]) -> None:
    try:
        flush()
    except BaseException as error:  # noqa: BLE001 - it is raised again where it is waited for
        done.set_exception(error)
    else:
        done.set_result(None)
