"""The line to paste: what a newcomer does first, at the terminal and on the empty page."""

from __future__ import annotations


def curl_line(address: str) -> str:
    """Return a command that records a first client at this server."""
    return f"curl -H 'content-type: application/json' -d '{{\"client_id\": \"hello\"}}' {address}/api/v1/activity"


def device_line(address: str, *, needs_key: bool) -> str:
    """Return a command with which a first device registers itself at this server."""
    key = '-H "authorization: Bearer $LASTSEEN_KEY" ' if needs_key else ""
    device = '{"id": "van-7", "name": "Van 7", "seen": true}'
    return f"curl {key}-H 'content-type: application/json' -d '{device}' {address}/api/v1/devices"


def event_line(address: str, write_key: str) -> str:
    """Return a command that sends a first page view of a site to this server."""
    event = (
        f'{{"write_key": "{write_key}", "name": "$pageview", "url": "https://example.org/", "distinct_id": "hello"}}'
    )
    return f"curl -H 'content-type: application/json' -d '{event}' {address}/api/v1/events"


def script_line(address: str, write_key: str) -> str:
    """Return the element that counts the page views of the pages it stands in."""
    return f'<script defer src="{address}/lastseen.js" data-site="{write_key}"></script>'
