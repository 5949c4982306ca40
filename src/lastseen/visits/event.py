"""What happened: one name, one moment, and properties. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import IntFlag
from typing import Any

import msgspec

from lastseen.clock import from_micros
from lastseen.visits.utm import UtmParams

PAGEVIEW = "$pageview"
PAGELEAVE = "$pageleave"
IDENTIFY = "$identify"
ALIAS = "$create_alias"
GROUP_IDENTIFY = "$groupidentify"
SESSION_START = "$session_start"
"""Begins a visit by hand; it counts neither as event nor as page view, and its properties become the visit's own."""
SESSION_END = "$session_end"
"""Ends the open visit by hand, if there is one; it counts as nothing, and extends nothing."""
UNLESS_OPEN = "$unless_open"
"""A property of `$session_start`: true asks for a visit only where none is open at that moment. Two of these at once
make one visit, so that whoever wants "get or create" just sends one."""

MAX_ID_LENGTH = 200
"""No id of an event or visitor is longer; ingest refuses or replaces what is."""


class EventFlags(IntFlag):
    """What the fold must know of an event beside its name; several may be set."""

    NONE = 0
    PASSIVE = 1
    """Nobody did anything: a heartbeat of a hidden page. It is counted, and neither starts nor extends a visit."""
    SERVER = 2
    """Sent by a server without a session id, and no page view. It attaches to the open visit unless the site's rule
    says otherwise."""
    LATE = 4
    """It came later than the site allows for; it is kept and folded all the same."""
    BOT = 8
    """Its user agent is that of a program."""


class Device(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What the visitor used, as far as it is known."""

    type: str | None = None
    """`desktop`, `mobile`, `tablet`, `tv`, `console` or `bot`."""
    os: str | None = None
    os_version: str | None = None
    browser: str | None = None
    browser_version: str | None = None
    screen_resolution: str | None = None
    """Width and height in pixels: `1920x1080`."""


class Geo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Where the visitor was, as far as it is known."""

    country: str | None = None
    """ISO 3166-1 alpha-2: `DE`."""
    region: str | None = None
    city: str | None = None
    timezone: str | None = None
    """IANA name: `Europe/Berlin`."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event, complete: nothing is looked up when it is folded, so that a rebuild gives the same visits.

    Moments are integers, microseconds since 1970-01-01 UTC: a fold of a million events has no time for more. Give the
    fields by name; only where many events are made at once in their order, which is many times as fast.
    """

    id: str
    """Unique in its site; the same id again is the same event, and changes nothing."""
    site_id: str
    distinct_id: str
    """The visitor as the client named it; which other ids are the same visitor is told by the identity links."""
    name: str
    at: int
    """When it happened, corrected for the client's wrong clock."""
    received_at: int
    url: str | None = None
    """Of the page, for page views and what happens on a page."""
    referrer: str | None = None
    """The address the visitor came from, as sent; None when direct or unknown."""
    referrer_domain: str | None = None
    """The registrable domain of `referrer`; None when that is unknown, or the page's own domain."""
    utm: UtmParams | None = None
    user_id: str | None = None
    """The known user, where the client tells it beside its own id."""
    session_id: str | None = None
    """The client's own idea of a session; kept, never a rule."""
    window_id: str | None = None
    flags: int = 0
    """`EventFlags`."""
    engaged_ms: int = 0
    """How long the page was seen and used since the event before, milliseconds."""
    device: Device | None = None
    geo: Geo | None = None
    properties: Mapping[str, Any] = {}
    """Everything else that the client sent, as JSON; never changed after birth."""

    @property
    def happened_at(self) -> datetime:
        """When it happened, aware and UTC."""
        return from_micros(self.at)

    @property
    def order(self) -> tuple[int, str]:
        """The order of one visitor's events."""
        return self.at, self.id

    @property
    def is_pageview(self) -> bool:
        """Whether a page was seen."""
        return self.name == PAGEVIEW
