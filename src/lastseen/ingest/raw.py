"""What the wire says of an event, before anything is derived from it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from lastseen.visits.event import Device, Geo
from lastseen.visits.utm import UtmParams


class RawEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One event as it was sent."""

    name: str
    at: int
    received_at: int
    id: str | None = None
    distinct_id: str | None = None
    url: str | None = None
    referrer: str | None = None
    user_agent: str | None = None
    address: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    window_id: str | None = None
    is_server: bool = False
    passive: bool = False
    engaged_ms: int = 0
    screen: str | None = None
    device: Device | None = None
    geo: Geo | None = None
    utm: UtmParams | None = None
    properties: Mapping[str, Any] = {}
    identical_before: int = 0
