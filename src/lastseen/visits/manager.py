"""Visits the classic way, for applications: get or create one, add to it, end it, clean up."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import structs

from lastseen.clock import SYSTEM_CLOCK, Clock, from_micros, to_micros, utc
from lastseen.errors import InvalidData, LastSeenError, MissingAbility
from lastseen.visits.event import (
    MAX_ID_LENGTH,
    PAGEVIEW,
    SESSION_END,
    SESSION_START,
    UNLESS_OPEN,
    Device,
    Event,
    Geo,
)
from lastseen.visits.fold import as_open, close_overdue, resume
from lastseen.visits.making import EventMaker, Places, RawEvent
from lastseen.visits.rule import VisitRule
from lastseen.visits.site import DEFAULT_SITE_ID, Site, SiteNotFound
from lastseen.visits.sites import Sites
from lastseen.visits.store import VisitStore
from lastseen.visits.utm import UtmParams
from lastseen.visits.visit import Visit


class VisitNotFound(LastSeenError):
    """There is no visit with this id, and no event either."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VisitContext:
    """What is known of a visitor who comes: where from, and with what. A visit keeps that of its beginning."""

    url: str | None = None
    """The address that was asked for; its query says which campaign it was, unless `utm` does."""
    referrer: str | None = None
    user_agent: str | None = None
    address: str | None = None
    """The IP address; used to tell the place, and not kept."""
    user_id: str | None = None
    utm: UtmParams | None = None
    device: Device | None = None
    geo: Geo | None = None
    properties: Mapping[str, Any] = field(default_factory=dict)
    """Free properties of the visit; what can be written as JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Happening:
    """What is added to a visit; made by `pageview` and `event`."""

    name: str
    url: str | None = None
    referrer: str | None = None
    properties: Mapping[str, Any] = field(default_factory=dict)


def pageview(url: str, *, referrer: str | None = None, properties: Mapping[str, Any] | None = None) -> Happening:
    """Return that a page was seen."""
    return Happening(name=PAGEVIEW, url=url, referrer=referrer, properties=properties or {})


def event(name: str, properties: Mapping[str, Any] | None = None, *, url: str | None = None) -> Happening:
    """Return that something else happened; `url` is the page that it happened on."""
    return Happening(name=name, url=url, properties=properties or {})


class VisitManager:
    """Visits of one site. Methods block on the store and raise its errors; any thread, any process may call them.

    Everything is kept as events, starts and ends by hand too, so a rebuild gives the same visits. Nothing is cached: a
    visit is as it was when it was returned.
    """

    def __init__(
        self,
        visits: VisitStore,
        sites: Sites,
        *,
        site_id: str = DEFAULT_SITE_ID,
        geography: Places | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if not isinstance(visits, VisitStore):
            raise MissingAbility(f"{type(visits).__name__} cannot keep visits: it does not implement VisitStore")
        self.store = visits
        self.site_id = site_id
        self._sites = sites
        self._geography = geography
        self._clock = clock

    def of_site(self, site_id: str) -> VisitManager:
        """Return the same for another site."""
        return VisitManager(self.store, self._sites, site_id=site_id, geography=self._geography, clock=self._clock)

    def get(self, visit_id: str) -> Visit | None:
        """Return a visit by its id or by that of any event in it, or None."""
        return self.store.get(self.site_id, visit_id)

    def get_by_visitor(self, distinct_id: str) -> Visit | None:
        """Return the newest visit of the visitor whom this id names, or None."""
        return self.store.get_by_visitor(self.site_id, distinct_id)

    def get_or_create(self, distinct_id: str, context: VisitContext | None = None) -> Visit:
        """Return the visitor's open visit, or begin one where none is open now or the context begins another.

        A new visit has no page views yet. Of several calls at once all get the same visit. An open visit is returned
        as it is: looking at it is no activity. Raises `SiteNotFound`, and `InvalidData` for an id that is none: text of
        1 to 200 characters that every database can hold.
        """
        context = context or VisitContext()
        _check_id("distinct_id", distinct_id)
        if context.user_id is not None:
            _check_id("user_id", context.user_id)
        site = self._sites.get(self.site_id)
        newest = self.store.get_by_visitor(self.site_id, distinct_id)
        start = self._start_of(site, distinct_id, context, newest)
        if newest is not None and _would_continue(newest, start, site.rule):
            return as_open(newest)
        result = self.store.save([start], self.rule_of)
        visit = self.get(start.id)
        if visit is not None and (result.new or _would_continue(visit, start, site.rule)):
            return visit
        # The same start was there already, and what it began is over: late events have put others behind it.
        return self._save(structs.replace(start, id=_new_id()))

    def update(self, visit_id: str, happening: Happening) -> Visit:
        """Add what happens now, and return the visit that it is in: another one when this one is over by the rule.

        Raises `VisitNotFound`.
        """
        visit = self.get(visit_id)
        if visit is None:
            raise VisitNotFound("there is no such visit")
        raw = RawEvent(
            name=happening.name,
            at=self._now(),
            received_at=self._now(),
            id=_new_id(),
            distinct_id=visit.distinct_id,
            url=happening.url,
            referrer=happening.referrer,
            user_id=visit.user_id,
            device=visit.device,
            geo=visit.geo,
            properties=happening.properties,
        )
        return self._save(self._maker(self._sites.get(self.site_id)).make(raw))

    def end(self, visit_id: str) -> Visit | None:
        """End a visit now and return it; None for an unknown one. One that is over already stays as it is."""
        visit = self.get(visit_id)
        if visit is None or visit.end is not None:
            return visit
        now = self._now_after(visit)
        if self._close(visit, now):
            return self.get(visit.id)
        end = Event(
            id=_new_id(),
            site_id=self.site_id,
            distinct_id=visit.distinct_id,
            name=SESSION_END,
            at=now,
            received_at=now,
        )
        self.store.save([end], self.rule_of)
        return self.get(visit.id)

    def cleanup(self, limit: int = 1_000, *, stopping: Callable[[], bool] = lambda: False) -> int:
        """End the visits of all sites that have timed out or lasted too long; return how many.

        A visit that goes on at that moment stays open. At most `limit` are looked for and saved together, until there
        are none, or until `stopping`, which is asked before each time: after an import there may be very many.
        """
        ended, closed = 0, 1
        while closed and not stopping():
            now = utc(self._clock.now())
            overdue = self.store.overdue(now, self.rule_of, limit)
            over = [close_overdue(visit, to_micros(now), self.rule_of(visit.site_id)) for visit in overdue]
            closed = self.store.end_overdue([visit for visit in over if visit is not None])
            ended += closed
        return ended

    def rule_of(self, site_id: str) -> VisitRule:
        """Return the rule of a site; that of new sites when the site is gone and its events are still there."""
        try:
            return self._sites.get(site_id).rule
        except SiteNotFound:
            return self._sites.default_rule

    def _close(self, visit: Visit, now: int) -> bool:
        closed = close_overdue(visit, now, self.rule_of(visit.site_id))
        if closed is None or closed.end is None or closed.end_reason is None:
            return False
        return self.store.end(
            visit.site_id, visit.id, from_micros(closed.end), closed.end_reason.value, closed.end_evidence
        )

    def _start_of(self, site: Site, distinct_id: str, context: VisitContext, newest: Visit | None) -> Event:
        now = self._now_after(newest)
        raw = RawEvent(
            name=SESSION_START,
            at=now,
            received_at=now,
            id=_next_id(distinct_id, newest),
            distinct_id=distinct_id,
            url=context.url,
            referrer=context.referrer,
            user_agent=context.user_agent,
            address=context.address,
            user_id=context.user_id,
            utm=context.utm,
            device=context.device,
            geo=context.geo,
            properties={**context.properties, UNLESS_OPEN: True},
        )
        return self._maker(site).make(raw)

    def _save(self, new: Event) -> Visit:
        self.store.save([new], self.rule_of)
        visit = self.store.get(self.site_id, new.id)
        if visit is None:
            raise VisitNotFound("the event is in no visit")
        return visit

    def _maker(self, site: Site) -> EventMaker:
        return EventMaker(site, visitors=_NAMED, geography=self._geography)

    def _now(self) -> int:
        return to_micros(utc(self._clock.now()))

    def _now_after(self, visit: Visit | None) -> int:
        """Return a moment behind all of a visit's events, though somebody may have set the clock back."""
        return self._now() if visit is None else max(self._now(), visit.last_event[0] + 1)


def _check_id(name: str, value: str) -> None:
    is_text = "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)
    if not (0 < len(value) <= MAX_ID_LENGTH and is_text):
        raise InvalidData(f"{name} must have 1 to {MAX_ID_LENGTH} characters, without NUL and lone surrogates")


def _would_continue(visit: Visit, start: Event, rule: VisitRule) -> bool:
    """Whether the visit is open at that moment and nothing about the visitor who comes begins another one."""
    if visit.end is not None and as_open(visit) is visit:
        return False
    return len(resume(visit, [start], rule, visit.visitor_id)) == 1


class _Named:
    """Every visitor here brings an id."""

    def visitor_id(self, address: str, user_agent: str, at: int) -> str:
        raise NotImplementedError


_NAMED = _Named()


def _next_id(distinct_id: str, newest: Visit | None) -> str:
    """Return the id of the start behind a visitor's newest visit: all who ask for one at once make one event."""
    after = (distinct_id,) if newest is None else (newest.visitor_id, newest.id, newest.last_event[1])
    return blake2b(msgspec.json.encode(after), digest_size=16, person=b"lastseen-start").hexdigest()


def _new_id() -> str:
    """Return 128 random bits, as 32 hexadecimal digits."""
    return secrets.token_hex(16)
