"""`GET /lastseen.js`: the script that counts page views, for pages of any origin."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

from lastseen.server.body import Receive, Scope, Send

PATH = "/lastseen.js"

_SOURCE = (Path(__file__).parent / "lastseen.js").read_bytes()
_PACKED = gzip.compress(_SOURCE, mtime=0)
_ETAG = f'"{hashlib.blake2s(_SOURCE, digest_size=8).hexdigest()}"'.encode()
_HEADERS = [
    (b"content-type", b"text/javascript; charset=utf-8"),
    # The address stands in pages for years, so it has no version: a day old at most, and asked about in one round trip.
    (b"cache-control", b"public, max-age=86400, stale-while-revalidate=604800"),
    (b"etag", _ETAG),
    (b"vary", b"accept-encoding"),
    (b"cross-origin-resource-policy", b"cross-origin"),
    (b"access-control-allow-origin", b"*"),
    (b"x-content-type-options", b"nosniff"),
]


async def serve_browser_script(scope: Scope, headers: dict[bytes, bytes], _receive: Receive, send: Send) -> int:
    """Answer one request for the script and return the status."""
    status, body, extra = 200, _SOURCE, []
    if scope["method"] not in {"GET", "HEAD"}:
        status, body, extra = 405, b"", [(b"allow", b"GET")]
    elif headers.get(b"if-none-match") == _ETAG:
        status, body = 304, b""
    elif b"gzip" in headers.get(b"accept-encoding", b""):
        body, extra = _PACKED, [(b"content-encoding", b"gzip")]
    length = [] if status == 304 else [(b"content-length", str(len(body)).encode())]  # noqa: PLR2004 - it has no body
    await send({"type": "http.response.start", "status": status, "headers": [*_HEADERS, *extra, *length]})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
    return status
