"""The peer of B7: a raw ASGI echo with a typed decode, under the server and options of `lastseen serve`.

Run as `python -m benchmarks.echo`; prints its port.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec
import uvicorn

Message = MutableMapping[str, Any]


class Touch(msgspec.Struct):
    """The fields that the real server decodes."""

    client_id: str
    at: str | int | float | None = None


_decode = msgspec.json.Decoder(Touch).decode


async def echo(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Read the whole body, decode it, send it back."""
    if scope["type"] != "http":
        raise RuntimeError("no lifespan here")
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    _decode(body)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    """Serve until told to stop."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(2_048)
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    config = uvicorn.Config(
        echo,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="off",
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
