"""One request through each adapter, in this process: the application echoes the body that it reads."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import django
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import re_path

from lastseen.web import asgi, wsgi
from tests.web.cases import Case

if not settings.configured:
    settings.configure()
    django.setup()


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes


Driver = Callable[..., Answer]
"""(tracker or None for the application alone, case, options of the middleware) -> the answer."""


def drive_asgi(tracker: Any, case: Case, **options: Any) -> Answer:
    """Serve the case with a bare ASGI application."""
    app = echo_asgi if tracker is None else asgi.ActivityMiddleware(echo_asgi, tracker, **options)
    return asyncio.run(request_asgi(app, case))


def drive_wsgi(tracker: Any, case: Case, **options: Any) -> Answer:
    """Serve the case with a bare WSGI application."""
    app = echo_wsgi if tracker is None else wsgi.ActivityMiddleware(echo_wsgi, tracker, **options)
    return request_wsgi(app, case)


def drive_django_wsgi(tracker: Any, case: Case, **options: Any) -> Answer:
    """Serve the case with Django's synchronous handler."""
    with django_project(tracker, **options):
        return request_wsgi(WSGIHandler(), case)


def drive_django_asgi(tracker: Any, case: Case, **options: Any) -> Answer:
    """Serve the case with Django's asynchronous handler."""
    with django_project(tracker, **options):
        return asyncio.run(request_asgi(ASGIHandler(), case))


DRIVERS: dict[str, Driver] = {
    "asgi": drive_asgi,
    "wsgi": drive_wsgi,
    "django-wsgi": drive_django_wsgi,
    "django-asgi": drive_django_asgi,
}


# The applications


async def echo_asgi(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    """Answer with the body as it was read, in as many pieces; /unread answers without reading, /boom raises."""
    pieces = []
    while scope["path"] != "/unread":
        message = await receive()
        pieces.append(message["body"])
        if not message["more_body"]:
            break
    if scope["path"] == "/boom":
        raise LookupError("boom")
    body = b"".join(pieces)
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def echo_wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer with the body; /unread answers without reading, /stream line by line, /boom raises."""
    path = environ["PATH_INFO"]
    if path == "/boom":
        raise LookupError("boom")
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if path == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(length))])
        lines: Iterable[bytes] = iter(environ["wsgi.input"])
        return lines
    body = b"" if path == "/unread" else environ["wsgi.input"].read(length)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def echo_view(request: HttpRequest) -> HttpResponse:
    """Answer with the body; /unread answers without reading, /stream after reading piece by piece, /boom raises."""
    if request.path == "/boom":
        raise LookupError("boom")
    if request.path == "/stream":
        pieces = iter(lambda: request.read(1000), b"")
        return HttpResponse(pieces, content_type="text/plain")
    body = b"" if request.path == "/unread" else request.read()
    return HttpResponse(body, content_type="text/plain")


urlpatterns = [re_path("", echo_view)]


@contextmanager
def django_project(tracker: Any, **options: Any) -> Iterator[None]:
    """Configure Django: all requests go to the echo view, behind the middleware unless there is no tracker."""
    chosen = {key.upper(): value for key, value in options.items()}
    with override_settings(
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["*"],
        MIDDLEWARE=[] if tracker is None else ["lastseen.web.django.ActivityMiddleware"],
        LASTSEEN={"TRACKER": tracker, **chosen},
    ):
        yield


# The servers


async def request_asgi(app: Any, case: Case, *, piece: int = 1000, scope: dict[str, Any] | None = None) -> Answer:
    """Serve one request as an ASGI server does; the body comes in pieces."""
    body = case.body
    pieces = [body[start : start + piece] for start in range(0, len(body), piece)] or [b""]
    incoming = [
        {"type": "http.request", "body": part, "more_body": number < len(pieces)}
        for number, part in enumerate(pieces, 1)
    ]
    sent: list[Any] = []
    answered = asyncio.Event()

    async def receive() -> Any:
        if incoming:
            return incoming.pop(0)
        await answered.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            answered.set()

    await app({**scope_of(case), **(scope or {})}, receive, send)
    headers = {key.decode().lower(): value.decode() for key, value in sent[0]["headers"]}
    return Answer(status=sent[0]["status"], headers=headers, body=b"".join(part.get("body", b"") for part in sent[1:]))


def scope_of(case: Case) -> dict[str, Any]:
    """Return the scope that an ASGI server makes of the case."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": case.method,
        "scheme": "http",
        "path": unquote_to_bytes(case.path).decode(),
        "raw_path": case.path.encode(),
        "root_path": "",
        "query_string": case.query.encode(),
        "headers": [(key.lower().encode(), value.encode()) for key, value in case.all_headers().items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }


def environ_of(case: Case) -> dict[str, Any]:
    """Return the environ that a WSGI server makes of the case."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": case.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(case.path).decode("latin-1"),
        "QUERY_STRING": case.query,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(case.body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for key, value in case.all_headers().items():
        name = key.upper().replace("-", "_")
        value = value.encode().decode("latin-1")  # noqa: PLW2901 - a native string
        environ[name if name in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{name}"] = value
    return environ


def request_wsgi(app: Any, case: Case, **more: Any) -> Answer:
    """Serve one request as a WSGI server does."""
    started: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        started[:] = [status, headers]
        return lambda data: None

    result = app({**environ_of(case), **more}, start_response)
    try:
        body = b"".join(result)
    finally:
        if hasattr(result, "close"):
            result.close()
    status, headers = started
    return Answer(status=int(status[:3]), headers={key.lower(): value for key, value in headers}, body=body)
