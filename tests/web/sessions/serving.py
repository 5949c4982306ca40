"""One ASGI and one WSGI server in threads of this process; what they serve is exchanged for every test."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import uvicorn


class Switch:
    """Serves whichever application was put in last."""

    def __init__(self) -> None:
        self.app: Any = None
        self.port = 0

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)

    def wsgi(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        answer: Iterable[bytes] = self.app(environ, start_response)
        return answer


@contextmanager
def asgi_server() -> Iterator[Switch]:
    """Run uvicorn on a free port."""
    switch = Switch()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        switch.port = listening.getsockname()[1]
        config = uvicorn.Config(switch.asgi, log_config=None, lifespan="off", ws="none", interface="asgi3")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        listening.listen()
        thread.start()
        try:
            yield switch
        finally:
            server.should_exit = True
            thread.join()


class _ThreadingServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Keep standard error for errors."""


@contextmanager
def wsgi_server() -> Iterator[Switch]:
    """Run a threaded WSGI server on a free port."""
    switch = Switch()
    with make_server("127.0.0.1", 0, switch.wsgi, _ThreadingServer, _QuietHandler) as server:
        switch.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield switch
        finally:
            server.shutdown()
            thread.join()
