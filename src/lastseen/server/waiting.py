"""What the server answers while it waits for its database: that it lives, that it is not ready, and to come again."""

from __future__ import annotations

from collections.abc import Callable

from lastseen.server.body import Receive, Scope, Send
from lastseen.server.ingest.replies import answer_preflight, send_json
from lastseen.server.problem import MEDIA_TYPE, Problem

_COME_AGAIN = "the server waits for its database and serves nothing yet; try again"


class Waiting:
    """The application of these minutes. `reason` says why the database is not ready.

    Pages of other origins may read the answers, or their scripts would not see that they are to come again; the reason
    is for /health/ready alone. Nothing is taken: without the database nobody knows which keys are right.
    """

    def __init__(self, reason: Callable[[], str]) -> None:
        self._reason = reason

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event of ASGI."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        headers = dict(scope["headers"])
        if scope["path"] == "/health/live":
            await send_json(send, {}, 200, b'{"status":"ok"}')
        elif scope["path"] == "/health/ready":
            await _refuse(send, {}, self._reason())
        elif scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
            await answer_preflight(send, headers)
        else:
            await _refuse(send, headers, _COME_AGAIN)


async def _live(receive: Receive, send: Send) -> None:
    for ended in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{ended}.complete"})


async def _refuse(send: Send, headers: dict[bytes, bytes], reason: str) -> None:
    await send_json(send, headers, 503, Problem(503, reason).body(), MEDIA_TYPE.encode())
