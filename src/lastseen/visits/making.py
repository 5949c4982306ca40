"""From what came in to an event that is complete: campaign, referrer, device, place, visitor. Asks no clock."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from hashlib import blake2b
from typing import Any, Protocol

import msgspec

from lastseen.visits.addresses import (
    CLICK_IDS,
    KEPT_PARAMETERS,
    PageAddress,
    read_page,
    read_referrer,
    registrable_domain,
)
from lastseen.visits.cookieless import VisitorNames
from lastseen.visits.event import PAGEVIEW, Device, Event, EventFlags, Geo
from lastseen.visits.site import Site
from lastseen.visits.user_agents import Agent, read_user_agent
from lastseen.visits.utm import UtmParams

LATE_LIMIT = timedelta(hours=72)
"""What comes later than this after it happened is marked, and folded all the same."""
_MICROSECOND = timedelta(microseconds=1)
# Joining members of the enumeration takes a microsecond.
_PASSIVE, _SERVER, _LATE, _BOT = map(int, (EventFlags.PASSIVE, EventFlags.SERVER, EventFlags.LATE, EventFlags.BOT))


class RawEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the wire or the line of a log says, as it came. Moments are microseconds since 1970 UTC."""

    name: str
    at: int
    """When it happened, corrected for the client's wrong clock; later than `received_at` counts as then."""
    received_at: int
    """By the server's clock."""
    id: str | None = None
    """None: derived from the content, so that the same again is the same event."""
    distinct_id: str | None = None
    """None: the visitor gets a name made of address and user agent."""
    url: str | None = None
    referrer: str | None = None
    user_agent: str | None = None
    address: str | None = None
    """The IP address of the visitor; it is used and not kept."""
    user_id: str | None = None
    session_id: str | None = None
    window_id: str | None = None
    is_server: bool = False
    """Sent by an application's server: its address and user agent are not the visitor's."""
    passive: bool = False
    engaged_ms: int = 0
    screen: str | None = None
    """`1920x1080`."""
    device: Device | None = None
    """What the client says; where that is silent the user agent is asked."""
    geo: Geo | None = None
    utm: UtmParams | None = None
    """What the client says; None: what the address says."""
    properties: Mapping[str, Any] = {}
    """Everything else; what can be written as JSON."""
    identical_before: int = 0
    """How many of the same content came before in the same source: they are several events, not one repeated."""


class Places(Protocol):
    """What knows where an address is."""

    def locate(self, address: str) -> Geo | None:
        """Return where it is, or None."""


class EventMaker:
    """Makes the events of one site; make another when the site changes. Any thread may call.

    `visitors` names those who bring no id. `kept_parameters` are the parameters of a query that stay in addresses,
    beside those of campaigns. `late_limit=None` marks nothing late, as imports want it. `declared_bots_only` marks as
    bots only what says so itself, see `read_user_agent`.
    """

    def __init__(
        self,
        site: Site,
        *,
        visitors: VisitorNames,
        geography: Places | None = None,
        kept_parameters: frozenset[str] = frozenset(),
        late_limit: timedelta | None = LATE_LIMIT,
        declared_bots_only: bool = False,
    ) -> None:
        self.site = site
        self._visitors = visitors
        self._geography = geography
        self._kept = KEPT_PARAMETERS | kept_parameters
        self._declared_bots_only = declared_bots_only
        self._late = None if late_limit is None else late_limit // _MICROSECOND
        self._unknown_referrers = frozenset(site.domains) | site.rule.own_domains | site.rule.excluded_referrers

    def make(self, raw: RawEvent) -> Event:
        """Return the event. Raises `MissingExtra` when a library that it takes is not there, nothing for content."""
        page = read_page(raw.url, self._kept) if raw.url else None
        referrer, domain = self._referrer(raw.referrer, page)
        agent = _NOBODY if raw.is_server else read_user_agent(raw.user_agent, declared_only=self._declared_bots_only)
        distinct_id = raw.distinct_id
        if distinct_id is None:
            distinct_id = self._visitors.visitor_id(raw.address or "", raw.user_agent or "", raw.received_at)
        return Event(
            id=raw.id or derived_id(self.site, raw, distinct_id),
            site_id=self.site.id,
            distinct_id=distinct_id,
            name=raw.name,
            at=min(raw.at, raw.received_at),
            received_at=raw.received_at,
            url=page.url if page else None,
            referrer=referrer,
            referrer_domain=domain,
            utm=raw.utm or (page.utm if page else None),
            user_id=raw.user_id,
            session_id=raw.session_id,
            window_id=raw.window_id,
            flags=self._flags(raw, agent),
            engaged_ms=max(0, raw.engaged_ms),
            device=_device(raw, agent),
            geo=raw.geo or self._place(raw),
            properties=_properties(raw, page),
        )

    def _referrer(self, text: str | None, page: PageAddress | None) -> tuple[str | None, str | None]:
        """Return the referrer as it is kept, and whose it is; nobody's where the visitor was on the site already."""
        found = read_referrer(text) if text else None
        if found is None:
            return None, None
        address, domain = found
        if domain in self._unknown_referrers:
            return address, None
        if page is not None and page.host is not None and registrable_domain(page.host) == domain:
            return address, None
        return address, domain

    def _flags(self, raw: RawEvent, agent: Agent) -> int:
        flags = 0
        if raw.passive:
            flags |= _PASSIVE
        if raw.is_server and raw.session_id is None and raw.name != PAGEVIEW:
            flags |= _SERVER
        if self._late is not None and raw.received_at - raw.at > self._late:
            flags |= _LATE
        if agent.is_bot or (raw.device is not None and raw.device.type == "bot"):
            flags |= _BOT
        return flags

    def _place(self, raw: RawEvent) -> Geo | None:
        if self._geography is None or raw.is_server or not raw.address:
            return None
        return self._geography.locate(raw.address)


_NOBODY = Agent(device=None, is_bot=False)


def _device(raw: RawEvent, agent: Agent) -> Device | None:
    if raw.device is None and raw.screen is None:
        return agent.device
    said, found = raw.device or Device(), agent.device or Device()
    return Device(
        type=found.type if found.type == "bot" else said.type or found.type,
        os=said.os or found.os,
        os_version=said.os_version if said.os else found.os_version,
        browser=said.browser or found.browser,
        browser_version=said.browser_version if said.browser else found.browser_version,
        screen_resolution=said.screen_resolution or raw.screen,
    )


def _properties(raw: RawEvent, page: PageAddress | None) -> Mapping[str, Any]:
    """Keep an advertisement's click id among the properties, where reports look for it."""
    if page is None or not page.click_ids:
        return raw.properties
    return {
        **page.click_ids,
        **{name: value for name, value in raw.properties.items() if not _is_empty_click(name, value)},
    }


def _is_empty_click(name: str, value: object) -> bool:
    return name in CLICK_IDS and not value


def derived_id(site: Site, raw: RawEvent, distinct_id: str) -> str:
    """Return an id for an event that brought none: 128 bits of a hash of what it says, keyed by the site's secret.

    The same content gives the same id, whenever it comes; `identical_before` tells apart what is no repetition.
    """
    said = (
        distinct_id,
        raw.name,
        raw.at,
        raw.url,
        raw.referrer,
        raw.user_id,
        raw.session_id,
        raw.window_id,
        raw.passive,
        raw.engaged_ms,
        raw.properties,
        raw.identical_before,
    )
    try:
        text = msgspec.json.encode(said, order="deterministic")
    except UnicodeEncodeError:
        # Half of a surrogate pair: no text, but something that a client can write.
        text = repr(said).encode("utf-8", "backslashreplace")
    return blake2b(text, digest_size=16, key=site.import_secret[:64]).hexdigest()


def is_prefetch(purpose: str | None) -> bool:
    """Return whether a request's `Sec-Purpose` (or older `Purpose`, `X-Moz`) header says that nobody sees the page yet.

    https://html.spec.whatwg.org/multipage/speculative-loading.html
    """
    return purpose is not None and any(word in purpose.lower() for word in ("prefetch", "prerender", "preview"))
