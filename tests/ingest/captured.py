"""The requests of real client libraries, as they were recorded; see tests/data/README.md."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lastseen.ingest.origin import Origin
from lastseen.ingest.posthog import Batch, Hints, decode_batch
from lastseen.ingest.unpack import decompress, parse, unwrap

FOLDER = Path(__file__).parent.parent / "data" / "captures"
POSTHOG_FILES = sorted(path.stem for path in FOLDER.glob("*.jsonl") if path.stem not in {"segment", "plausible"})
EVENT_PATHS = {"/e", "/i/v0/e", "/batch", "/s", "/i/v1/analytics/events"}
LIMIT = 20 * 1024 * 1024


@dataclass(frozen=True)
class Captured:
    """One request."""

    number: int
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    received_at: float
    note: str

    @property
    def brings_events(self) -> bool:
        """Whether it is one of the addresses for events."""
        return self.method == "POST" and self.path.rstrip("/") in EVENT_PATHS

    @property
    def target(self) -> str:
        """Path and query."""
        return f"{self.path}?{self.query}" if self.query else self.path

    def value(self) -> Any:
        """Return the JSON inside."""
        body = decompress(self.body, self.headers.get("content-encoding", ""), LIMIT)
        is_form = self.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
        return parse(unwrap(body, is_form=is_form, limit=LIMIT))

    def decode(self) -> Batch:
        """Return its events as they would have been read when it was recorded."""
        origin = Origin(
            received_at=round(self.received_at * 1_000_000),
            address="192.0.2.7",
            user_agent=self.headers.get("user-agent"),
        )
        hints = Hints(
            token=self.headers.get("authorization", "").removeprefix("Bearer ") or None,
            sent_at=self.headers.get("posthog-request-timestamp") or _field(self.query, "_"),
            library=self.headers.get("posthog-sdk-info"),
        )
        return decode_batch(self.value(), origin, hints)


@cache
def captured(name: str) -> tuple[Captured, ...]:
    """Return the requests of a file, in their order."""
    lines = (FOLDER / f"{name}.jsonl").read_text().splitlines()
    return tuple(_captured(number, json.loads(line)) for number, line in enumerate(lines))


def _captured(number: int, line: dict[str, Any]) -> Captured:
    return Captured(
        number=number,
        method=line["method"],
        path=line["path"],
        query=line["query"],
        headers={name.lower(): value for name, value in line["headers"]},
        body=base64.b64decode(line["body_b64"]),
        received_at=line["t"],
        note=line["note"],
    )


def _field(query: str, name: str) -> str | None:
    return next((part.partition("=")[2] for part in query.split("&") if part.startswith(f"{name}=")), None)
