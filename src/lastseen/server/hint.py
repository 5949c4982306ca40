"""The line to paste: what a newcomer does first, at the terminal and on the empty page."""

from __future__ import annotations


def curl_line(address: str) -> str:
    """Return a command that records a first client at this server."""
    return f"curl -H 'content-type: application/json' -d '{{\"client_id\": \"hello\"}}' {address}/api/v1/activity"
