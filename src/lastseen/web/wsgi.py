"""WSGI: Flask and any other (PEP 3333)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Unpack

from lastseen.activity.identify import authenticated
from lastseen.web.environment import open_from_env
from lastseen.web.facts import RequestTracking, Tracker, TrackingOptions, content_length, is_json

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
WSGIApp = Callable[[Environ, StartResponse], Iterable[bytes]]


class ActivityMiddleware:
    """Records the client of every request to `app`; the application and its answers stay exactly as they are.

    `tracker` is the `clients` of a `LastSeen`, or an `ActivityTracker`; the options are `TrackingOptions`.
    The time recorded is the request's arrival. It is recorded as soon as the client is known: on arrival for query,
    header and path; else when the answer is complete. Nothing that tracking does reaches the request or its answer.

    A JSON body is noted while the application reads it. What it has not read is read when its answer is out, when the
    length is declared and within the peek limit.

    The principal is `environ["REMOTE_USER"]`, which the server or the application sets. What waits at the end of the
    process is saved by the tracker itself.
    """

    def __init__(self, app: WSGIApp, tracker: Tracker, **options: Unpack[TrackingOptions]) -> None:
        self.app = app
        self._tracking = RequestTracking(tracker, **options)

    @classmethod
    def from_env(cls, app: WSGIApp, *, migrate: bool = False, **options: Unpack[TrackingOptions]) -> ActivityMiddleware:
        """Return the middleware with the database and the settings that the environment names (`LASTSEEN_…`).

        `migrate=True` creates the tables. The database may be missing or unreachable: that is logged, not raised.
        """
        return cls(app, open_from_env(migrate=migrate).clients, **options)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        exchange = self._begin(environ)
        if exchange is None:
            return self.app(environ, start_response)
        try:
            answer = self.app(environ, exchange.starting(start_response))
        except BaseException:
            exchange.finish()
            raise
        return exchange.watched(answer)

    def _begin(self, environ: Environ) -> _Exchange | None:
        """Record at once what can be; return what must be watched for the rest."""
        tracking = self._tracking
        try:
            facts = WSGIFacts(environ, tracking.now())
            if tracking.excludes(facts.path):
                return None
            body = None
            if tracking.reads_body and peekable(environ, tracking.peek_limit):
                body = environ["wsgi.input"] = PeekedInput(environ, tracking)
            if body is not None or tracking.reads_principal:
                return _Exchange(tracking, facts, body)
        except Exception as error:  # noqa: BLE001 - a request never fails for its tracking
            tracking.tell(error)
            return None
        tracking.record(facts)
        return None


class WSGIFacts:
    """See `RequestFacts`."""

    __slots__ = ("arrived_at", "body", "environ", "path", "refused")

    def __init__(self, environ: Environ, arrived_at: float) -> None:
        self.environ = environ
        self.arrived_at = arrived_at
        self.body: bytes | None = None
        self.refused = False
        self.path = native_text(environ.get("PATH_INFO", ""))

    @property
    def native(self) -> Any:
        """Return the environ."""
        return self.environ

    @property
    def method(self) -> str:
        """See `RequestFacts`."""
        return str(self.environ["REQUEST_METHOD"])

    @property
    def query_string(self) -> bytes:
        """See `RequestFacts`."""
        return str(self.environ.get("QUERY_STRING", "")).encode("latin-1")

    @property
    def principal(self) -> Any:
        """Return `REMOTE_USER`."""
        return None if self.refused else authenticated(self.environ.get("REMOTE_USER"))

    def header(self, name: str) -> str | None:
        """See `RequestFacts`; repeated headers come joined by the server, with a comma."""
        key = name.upper().replace("-", "_")
        value = self.environ.get(key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}")
        return None if value is None else native_text(value)


def native_text(native: str) -> str:
    """Decode a native string, whose characters stand for bytes (PEP 3333), as UTF-8 or else as the Latin-1 it is."""
    if native.isascii():
        return native
    try:
        return native.encode("latin-1").decode()
    except UnicodeError:
        return native


def peekable(environ: Mapping[str, Any], limit: int) -> bool:
    """Return whether the body is one to look at: JSON, and not declared empty or too large."""
    if not is_json(environ.get("CONTENT_TYPE") or ""):
        return False
    declared = environ.get("CONTENT_LENGTH")
    return not declared or 0 < (content_length(declared) or 0) <= limit


class PeekedInput:
    """`wsgi.input`, with a copy of what is read through it, up to a limit.

    It has the four methods that PEP 3333 promises, and whatever else the server's stream has; what may move the stream
    unseen ends the copying.
    """

    def __init__(self, environ: Environ, tracking: RequestTracking) -> None:
        self._stream = environ["wsgi.input"]
        self._length = content_length(environ.get("CONTENT_LENGTH"))
        self._limit = tracking.peek_limit
        # A client that expects "100 Continue" sends its body only when the application asks for it.
        self._may_read_on = tracking.finish_reading and self._length is not None and "HTTP_EXPECT" not in environ
        self._chunks: list[bytes] | None = []
        self._seen = 0
        self._at_end = False

    def read(self, size: int | None = -1, /) -> bytes:
        """Read some bytes, or all of them."""
        everything = size is None or size < 0
        chunk: bytes = self._stream.read() if everything else self._stream.read(size)
        self._note(chunk, at_end=everything or (not chunk and size != 0))
        return chunk

    def readline(self, size: int | None = -1, /) -> bytes:
        """Read one line, or its beginning."""
        line: bytes = self._stream.readline() if size is None or size < 0 else self._stream.readline(size)
        self._note(line, at_end=not line and size != 0)
        return line

    def readlines(self, hint: int | None = -1, /) -> list[bytes]:
        """Read the lines, all of them or about as many bytes as the hint says."""
        everything = hint is None or hint <= 0
        lines: list[bytes] = self._stream.readlines() if everything else self._stream.readlines(hint)
        self._note(b"".join(lines), at_end=everything or not lines)
        return lines

    def __iter__(self) -> Iterator[bytes]:
        """Read line by line."""
        return self

    def __next__(self) -> bytes:
        """Read one line."""
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def __getattr__(self, name: str) -> Any:
        """Let through what else the stream has; Werkzeug, for one, reads with `readinto` where there is one."""
        found = getattr(self._stream, name)
        if name in _HARMLESS or not callable(found):
            return found
        how: dict[str, Callable[..., Any]]
        how = {"readinto": self._read_into, "readinto1": self._read_into, "read1": self._read_once}
        return partial(how.get(name, self._lose_track), found)

    def _read_into(self, method: Callable[[Any], int | None], buffer: Any, /) -> int | None:
        count = method(buffer)
        self._note(bytes(memoryview(buffer).cast("B")[: count or 0]), at_end=count == 0 and len(buffer) > 0)
        return count

    def _read_once(self, method: Callable[..., bytes], size: int = -1, /) -> bytes:
        chunk = method(size)
        self._note(chunk, at_end=not chunk and size != 0)
        return chunk

    def _lose_track(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Call what may move the stream past us, such as `seek`."""
        self._chunks = None
        return method(*arguments)

    def _note(self, chunk: bytes, *, at_end: bool) -> None:
        self._at_end = self._at_end or at_end
        self._seen += len(chunk)
        if self._seen > self._limit:
            self._chunks = None
        elif self._chunks is not None:
            self._chunks.append(chunk)

    def read_on(self) -> None:
        """Read what the application left, when that is safe."""
        if self._length is not None and self._may_read_on and self._chunks is not None:
            while self._seen < self._length and self.read(self._length - self._seen):
                pass

    def whole(self) -> bytes | None:
        """Return the body when all of it was seen, else None."""
        if self._chunks is None or not (self._at_end if self._length is None else self._seen == self._length):
            return None
        return b"".join(self._chunks)


_HARMLESS = frozenset(
    {"closed", "close", "fileno", "flush", "isatty", "name", "peek", "readable", "seekable", "tell", "writable"}
)


class _Exchange:
    """One request and its answer, watched until its client is recorded."""

    def __init__(self, tracking: RequestTracking, facts: WSGIFacts, body: PeekedInput | None) -> None:
        self._tracking = tracking
        self._facts = facts
        self._body = body
        self._recorded = False

    def starting(self, start_response: StartResponse) -> StartResponse:
        """Return a start_response that notes the status and records when nothing more is to be learned."""

        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            self._facts.refused = status.startswith("401")
            if self._body is None or self._body.whole() is not None:
                self.finish()
            return start_response(status, headers, *exc_info)

        return start

    def watched(self, answer: Iterable[bytes]) -> Iterable[bytes]:
        """Return the answer with a `close` that records; of a kind that the server treats as it would the original."""
        if self._recorded:
            return answer
        if isinstance(answer, list | tuple):
            return _WatchedList(answer, self)
        file_wrapper = self._facts.environ.get("wsgi.file_wrapper")
        if isinstance(file_wrapper, type) and isinstance(answer, file_wrapper):
            # The server sends this class its own way (sendfile), so it must stay what it is.
            self.finish()
            return answer
        return _WatchedAnswer(answer, self)

    def read_on_and_finish(self) -> None:
        """Record after the answer: what is left of the body may be waited for now."""
        if self._recorded:
            return
        try:
            if self._body is not None:
                self._body.read_on()
        except Exception as error:  # noqa: BLE001 - a request never fails for its tracking
            self._tracking.tell(error)
        self.finish()

    def finish(self) -> None:
        """Record, once, with as much of the body as was seen."""
        if not self._recorded:
            self._recorded = True
            self._facts.body = None if self._body is None else self._body.whole()
            self._tracking.record(self._facts)


class _WatchedList(list[bytes]):
    """An answer in one piece; its length tells servers that they need not send it in chunks (PEP 3333)."""

    def __init__(self, answer: Iterable[bytes], exchange: _Exchange) -> None:
        super().__init__(answer)
        self.close = exchange.read_on_and_finish


class _WatchedAnswer:
    """Any other answer, with its `close` followed by recording."""

    def __init__(self, answer: Iterable[bytes], exchange: _Exchange) -> None:
        self._answer = answer
        self._exchange = exchange

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over the application's own answer."""
        return iter(self._answer)

    def close(self) -> None:
        """Close the application's answer, as the server must after the last of it or an error, then record."""
        try:
            close = getattr(self._answer, "close", None)
            if close is not None:
                close()
        finally:
            self._exchange.read_on_and_finish()
