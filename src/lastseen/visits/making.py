"""From what came in to an event that is complete: campaign, referrer, device, place, visitor. Asks no clock."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
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
from lastseen.visits.domains import host_names, is_below
from lastseen.visits.event import PAGEVIEW, Device, Event, EventFlags, Geo
from lastseen.visits.identity import is_junk
from lastseen.visits.site import Site
from lastseen.visits.user_agents import MAX_USER_AGENT_LENGTH, Agent, read_user_agent
from lastseen.visits.utm import UtmParams

LATE_LIMIT = timedelta(hours=72)
"""What comes later than this after it happened is marked, and folded all the same."""
_MICROSECOND = timedelta(microseconds=1)
_48_BITS = (1 << 48) - 1
_LONGEST_SCREEN = 20
"""Characters of a screen that are remembered with its user agent."""
_NOBODY = Agent(device=None, is_bot=False)
_NO_REFERRER = (None, None)
# Joining members of the enumeration takes a microsecond.
_PASSIVE, _SERVER, _LATE, _BOT = map(int, (EventFlags.PASSIVE, EventFlags.SERVER, EventFlags.LATE, EventFlags.BOT))


class RawEvent(msgspec.Struct, frozen=True, gc=False):
    """What the wire or the line of a log says, as it came. Moments are microseconds since 1970 UTC.

    Give the fields by name; only where many are made at once in their order, which takes half the time.
    """

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
        self._site_id = site.id
        self._visitors = visitors
        self._geography = geography
        self._kept = KEPT_PARAMETERS | kept_parameters
        self._declared_bots_only = declared_bots_only
        self._late = None if late_limit is None else late_limit // _MICROSECOND
        self._unknown_referrers = frozenset(site.domains) | site.rule.own_domains | site.rule.excluded_referrers
        self._unknown_hosts = host_names(self._unknown_referrers)

    def make(self, raw: RawEvent) -> Event:
        """Return the event. Raises `MissingExtra` when a library that it takes is not there, nothing for content."""
        page = read_page(raw.url, self._kept) if raw.url else None
        referrer, domain = self._referrer(raw.referrer, page) if raw.referrer else _NO_REFERRER
        agent = self._agent(raw)
        distinct_id = raw.distinct_id
        if distinct_id is None:
            distinct_id = self._visitors.visitor_id(raw.address or "", raw.user_agent or "", raw.received_at)
        geo = raw.geo
        if geo is None and self._geography is not None and raw.address and not raw.is_server:
            geo = self._geography.locate(raw.address)
        # In the order of the fields: by name it takes twice as long.
        return Event(
            raw.id or derived_id(self.site, raw, distinct_id),
            self._site_id,
            distinct_id,
            raw.name,
            raw.at if raw.at <= raw.received_at else raw.received_at,
            raw.received_at,
            page.url if page else None,
            referrer,
            domain,
            raw.utm or (page.utm if page else None),
            None if raw.user_id is None or _is_no_user(raw.user_id) else raw.user_id,
            raw.session_id,
            raw.window_id,
            self._flags(raw, agent),
            raw.engaged_ms if raw.engaged_ms > 0 else 0,
            agent.device,
            geo,
            raw.properties if page is None or not page.click_ids else _with_click_ids(raw.properties, page.click_ids),
        )

    def _referrer(self, text: str, page: PageAddress | None) -> tuple[str | None, str | None]:
        """Return the referrer as it is kept, and whose it is; nobody's where the visitor was on the site already."""
        found = read_referrer(text)
        if found is None:
            return _NO_REFERRER
        address, domain = found
        if domain in self._unknown_referrers or (
            domain is not None and self._unknown_hosts and is_below(address, domain, self._unknown_hosts)
        ):
            return address, None
        if page is not None and page.host is not None and registrable_domain(page.host) == domain:
            return address, None
        return address, domain

    def _agent(self, raw: RawEvent) -> Agent:
        """Return what is known of the visitor's device, by the user agent and by what the client says."""
        if raw.device is None and raw.screen is None:
            return _NOBODY if raw.is_server else read_user_agent(raw.user_agent, declared_only=self._declared_bots_only)
        user_agent = "" if raw.is_server else raw.user_agent or ""
        is_short = len(user_agent) <= MAX_USER_AGENT_LENGTH and len(raw.screen or "") <= _LONGEST_SCREEN
        combined = _known_agent if raw.device is None and is_short else _combined_agent
        return combined(user_agent, raw.device, raw.screen, self._declared_bots_only)

    def _flags(self, raw: RawEvent, agent: Agent) -> int:
        flags = 0
        if raw.passive:
            flags |= _PASSIVE
        if raw.is_server and raw.session_id is None and raw.name != PAGEVIEW:
            flags |= _SERVER
        if self._late is not None and raw.received_at - raw.at > self._late:
            flags |= _LATE
        if agent.is_bot:
            flags |= _BOT
        return flags


def _combined_agent(user_agent: str, said: Device | None, screen: str | None, declared_only: bool) -> Agent:  # noqa: FBT001 - the cache knows arguments by place
    """Return what a user agent and the client say together; the client's word goes first, except on robots."""
    agent = read_user_agent(user_agent, declared_only=declared_only)
    said, found = said or Device(), agent.device or Device()
    device = Device(
        type=found.type if found.type == "bot" else said.type or found.type,
        os=said.os or found.os,
        os_version=said.os_version if said.os else found.os_version,
        browser=said.browser or found.browser,
        browser_version=said.browser_version if said.browser else found.browser_version,
        screen_resolution=said.screen_resolution or screen,
    )
    return Agent(device=device, is_bot=agent.is_bot or said.type == "bot")


_is_no_user = lru_cache(maxsize=1 << 13)(is_junk)
_known_agent = lru_cache(maxsize=1 << 13)(_combined_agent)


def _with_click_ids(properties: Mapping[str, Any], click_ids: Mapping[str, str]) -> Mapping[str, Any]:
    """Keep an advertisement's click id among the properties, where reports look for it."""
    return {**click_ids, **{name: value for name, value in properties.items() if not _is_empty_click(name, value)}}


def _is_empty_click(name: str, value: object) -> bool:
    return name in CLICK_IDS and not value


def derived_id(site: Site, raw: RawEvent, distinct_id: str) -> str:
    """Return an id for an event that brought none: its moment, and a hash of what it says, keyed by the site's secret.

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
    return dated_id(raw.at, text, site.import_secret[:64])


def dated_id(at: int, content: bytes, key: bytes, place: str = "") -> str:
    """Return 32 hexadecimal digits: 48 bits of the moment in milliseconds, and 80 of a hash of the content under a key.

    Begun like a UUID of version 7 (https://www.rfc-editor.org/rfc/rfc9562#section-5.7), so that what happened together
    lies together in a database's index, and new ids are appended there. `place`, an even number of digits, takes the
    place of as many of the hash: by it events of one millisecond are ordered whatever the key is.
    """
    rest = blake2b(content, digest_size=10 - len(place) // 2, key=key)
    return f"{at // 1_000 & _48_BITS:012x}{place}{rest.hexdigest()}"


def is_prefetch(purpose: str | None) -> bool:
    """Return whether a request's `Sec-Purpose` (or older `Purpose`, `X-Moz`) header says that nobody sees the page yet.

    https://html.spec.whatwg.org/multipage/speculative-loading.html
    """
    return purpose is not None and any(word in purpose.lower() for word in ("prefetch", "prerender", "preview"))
