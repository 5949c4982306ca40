"""B12: the size of the counting script, compressed as it is served."""

from __future__ import annotations

import gzip
from pathlib import Path

from benchmarks.measure import Row
from lastseen import server

MOST = 1_536
PEERS = {"Shynet": 967, "GoatCounter": 3_300, "Rybbit": 4_700}
"""Bytes, gzipped, as those projects serve their scripts (looked at in November 2026)."""


def run() -> list[Row]:
    """Compress the script."""
    source = (Path(server.__file__).parent / "ingest" / "lastseen.js").read_bytes()
    size = len(gzip.compress(source))
    return [
        Row(
            bar="B12",
            case="browser script, gzipped",
            figure=f"{size:,} B",
            limit=f"under {MOST:,} B",
            peer=", ".join(f"{name} {size:,} B" for name, size in PEERS.items()),
            met=size < MOST,
        )
    ]
