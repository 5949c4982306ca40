"""Requests and the client that each one names; every id is used once, so that a list of ids tells which were found."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One request and the client that the default source finds in it."""

    name: str
    expected: str | None
    method: str = "POST"
    path: str = "/echo"
    query: str = ""
    body: bytes = b""
    content_type: str | None = "application/json"
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def target(self) -> str:
        """What stands in the request line."""
        return f"{self.path}?{self.query}" if self.query else self.path

    def all_headers(self) -> dict[str, str]:
        """Return the headers that a client would send."""
        found = dict(self.headers)
        if self.content_type is not None:
            found["Content-Type"] = self.content_type
        if self.method not in {"GET", "HEAD", "OPTIONS"} or self.body:
            found["Content-Length"] = str(len(self.body))
        return found


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


_BIG = {"padding": ["x" * 100] * 100}
_DEEP = b"[" * 100_000 + b"]" * 100_000

CASES = [
    Case(name="body", body=b'{"client_id": "body"}', expected="body"),
    Case(name="body among others", body=_json({**_BIG, "client_id": "among", "z": [1, {"a": None}]}), expected="among"),
    Case(name="body before query", body=b'{"client_id": "before"}', query="client_id=after", expected="before"),
    Case(name="number", body=b'{"client_id": 42}', expected="42"),
    Case(name="negative number", body=b'{"client_id": -7}', expected="-7"),
    Case(name="big number", body=b'{"client_id": 123456789012345678901234567890}', expected="1234567890" * 3),
    Case(name="fraction", body=b'{"client_id": 1.50}', expected="1.50"),
    Case(name="true", body=b'{"client_id": true}', query="client_id=was-true", expected="was-true"),
    Case(name="null", body=b'{"client_id": null}', query="client_id=was-null", expected="was-null"),
    Case(name="list", body=b'{"client_id": ["a"]}', query="client_id=was-list", expected="was-list"),
    Case(name="object", body=b'{"client_id": {"a": 1}}', query="client_id=was-object", expected="was-object"),
    Case(name="empty text", body=b'{"client_id": ""}', query="client_id=was-empty", expected="was-empty"),
    Case(name="list alone", body=b'{"client_id": ["a"]}', expected=None),
    Case(name="10 KB", body=_json({"client_id": "x" * 10_240}), expected=None),
    Case(name="NUL", body=b'{"client_id": "a\\u0000b"}', expected=None),
    Case(name="lone surrogate", body=b'{"client_id": "\\ud800"}', query="client_id=surrogate", expected="surrogate"),
    Case(name="unicode", body='{"client_id": "čaj-☕"}'.encode(), expected="čaj-☕"),
    Case(name="escapes", body=b'{"client_\\u0069d": "\\u010daj-\\"2\\""}', expected='čaj-"2"'),
    Case(name="twice", body=b'{"client_id": "first", "client_id": "last"}', expected="last"),
    Case(name="malformed", body=b'{"client_id": "half', query="client_id=was-malformed", expected="was-malformed"),
    Case(name="malformed alone", body=b'{"client_id": "half', expected=None),
    Case(name="not UTF-8", body=b'{"client_id": "\xff"}', query="client_id=not-utf8", expected="not-utf8"),
    Case(name="top-level list", body=b'[{"client_id": "in-list"}]', query="client_id=top", expected="top"),
    Case(name="top-level text", body=b'"client_id"', expected=None),
    Case(name="deep", body=_DEEP, query="client_id=deep", expected="deep"),
    Case(name="deep member", body=b'{"a": ' + _DEEP + b', "client_id": 1}', query="client_id=dm", expected="dm"),
    Case(name="nested", body=b'{"a": {"client_id": "inner"}}', expected=None),
    Case(name="empty body", query="client_id=no-body", expected="no-body"),
    Case(name="charset", content_type="application/JSON; charset=utf-8", body=b'{"client_id": "cs"}', expected="cs"),
    Case(name="suffix", content_type="application/vnd.x+json", body=b'{"client_id": "suffix"}', expected="suffix"),
    Case(
        name="NDJSON",
        content_type="application/x-ndjson",
        body=b'{"client_id": "in-line"}\n{"client_id": "in-line"}\n',
        query="client_id=ndjson",
        expected="ndjson",
    ),
    Case(name="text", content_type="text/plain", body=b'{"client_id": "x"}', query="client_id=txt", expected="txt"),
    Case(name="no type", content_type=None, body=b'{"client_id": "x"}', query="client_id=no-type", expected="no-type"),
    Case(name="form", content_type="application/x-www-form-urlencoded", body=b"client_id=form", expected=None),
    Case(
        name="gzip",
        headers={"Content-Encoding": "gzip"},
        body=gzip.compress(b'{"client_id": "zipped"}'),
        query="client_id=beside-gzip",
        expected="beside-gzip",
    ),
    Case(
        name="claims gzip",
        headers={"Content-Encoding": "gzip"},
        body=b'{"client_id": "not-zipped"}',
        expected="not-zipped",  # what the application is given is JSON
    ),
    Case(
        name="identity",
        headers={"Content-Encoding": "Identity"},
        body=b'{"client_id": "identity"}',
        expected="identity",
    ),
    Case(
        name="over the limit",
        body=_json({"client_id": "too-large", "padding": "x" * 1_100_000}),
        query="client_id=beside-large",
        expected="beside-large",
    ),
    Case(
        name="under the limit",
        body=_json({"padding": "x" * 1_000_000, "client_id": "large-enough"}),
        expected="large-enough",
    ),
    Case(name="GET", method="GET", content_type=None, query="client_id=get", expected="get"),
    Case(name="HEAD", method="HEAD", content_type=None, query="client_id=head", expected="head"),
    Case(name="OPTIONS", method="OPTIONS", content_type=None, query="client_id=options", expected="options"),
    Case(name="DELETE", method="DELETE", body=b'{"client_id": "delete"}', expected="delete"),
    Case(name="percent", method="GET", query="client_id=%C4%8Daj%20%26%20x%2By", expected="čaj & x+y"),
    Case(name="plus", method="GET", query="a=b&client_id=with+plus", expected="with plus"),
    Case(name="encoded name", method="GET", query="client%5Fid=encoded-name", expected="encoded-name"),
    Case(name="repeated", method="GET", query="client_id=&client_id=rep-1&client_id=rep-2", expected="rep-1"),
    Case(name="brackets", method="GET", query="client_id[]=a&xclient_id=b&client_id2=c&client_id", expected=None),
    Case(name="no query", method="GET", expected=None),
    Case(name="unread", path="/unread", body=b'{"client_id": "unread"}', expected="unread"),
    Case(name="unread, large", path="/unread", body=_json({**_BIG, "client_id": "unread-2"}), expected="unread-2"),
    Case(name="streamed", path="/stream", body=_json({**_BIG, "client_id": "streamed"}), expected="streamed"),
    Case(name="health", path="/health/live", query="client_id=excluded-1", method="GET", expected=None),
    Case(name="metrics", path="/metrics", query="client_id=excluded-2", method="GET", expected=None),
    Case(name="static", path="/static/app.js", body=b'{"client_id": "excluded-3"}', expected=None),
]
