"""What sends a call: one client that blocks, one that awaits. Neither knows any operation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from lastseen.client.call import Call
from lastseen.errors import ConfigurationError, missing_extra

if TYPE_CHECKING:
    import httpx

Answer = TypeVar("Answer")

DEFAULT_TIMEOUT = timedelta(seconds=10)


def _httpx() -> Any:
    try:
        import httpx
    except ImportError as error:
        raise missing_extra(error, "the client needs httpx: pip install 'lastseen[client]'", "httpx") from error
    return httpx


def _options(url: str, api_key: str | None, timeout: timedelta, options: dict[str, Any]) -> dict[str, Any]:
    if not url.startswith(("http://", "https://")):
        raise ConfigurationError(f"url must begin with http:// or https://, not {url!r}")
    headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
    return {"base_url": url.rstrip("/"), "headers": headers, "timeout": timeout.total_seconds(), **options}


class Client:
    """Sends calls and waits for the answers; a context manager. Any thread may send.

    `url` is the server's address without `/api`. Further options are httpx's (`verify`, `proxy`, `transport`). Network
    failures come out as httpx's own errors, refusals as `ApiError`.
    """

    def __init__(
        self, url: str, api_key: str | None = None, *, timeout: timedelta = DEFAULT_TIMEOUT, **options: Any
    ) -> None:
        self._http: httpx.Client = _httpx().Client(**_options(url, api_key, timeout, options))

    def send(self, call: Call[Answer]) -> Answer:
        """Return the answer; raises `ApiError`."""
        answer = self._http.request(call.method, call.target, content=call.content, headers=call.headers)
        return call.decode(answer.status_code, answer.content, answer.headers)

    def pages(self, call: Call[Answer]) -> Iterator[Answer]:
        """Yield the pages of a listing from this one to the last."""
        following: Call[Answer] | None = call
        while following is not None:
            page = self.send(following)
            yield page
            following = _following(call, page)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        """Return this."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


class AsyncClient:
    """The same for asyncio."""

    def __init__(
        self, url: str, api_key: str | None = None, *, timeout: timedelta = DEFAULT_TIMEOUT, **options: Any
    ) -> None:
        self._http: httpx.AsyncClient = _httpx().AsyncClient(**_options(url, api_key, timeout, options))

    async def send(self, call: Call[Answer]) -> Answer:
        """Return the answer; raises `ApiError`."""
        answer = await self._http.request(call.method, call.target, content=call.content, headers=call.headers)
        return call.decode(answer.status_code, answer.content, answer.headers)

    async def pages(self, call: Call[Answer]) -> AsyncIterator[Answer]:
        """Yield the pages of a listing from this one to the last."""
        following: Call[Answer] | None = call
        while following is not None:
            page = await self.send(following)
            yield page
            following = _following(call, page)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        """Return this."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        await self.close()


def _following(call: Call[Answer], page: Answer) -> Call[Answer] | None:
    cursor: str | None = getattr(page, "next_cursor", None)
    return None if cursor is None else call.after(cursor)
