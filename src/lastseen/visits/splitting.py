"""Why an event cannot belong to the visit before it: the rule itself. Pure."""

from __future__ import annotations

import msgspec

from lastseen.visits.event import (
    GROUP_IDENTIFY,
    PAGELEAVE,
    PAGEVIEW,
    SESSION_END,
    SESSION_START,
    UNLESS_OPEN,
    Event,
    EventFlags,
)
from lastseen.visits.limits import Limits, campaign_text, evidence_of_length, evidence_of_silence
from lastseen.visits.opened import OpenVisit, known_referrer, user_of
from lastseen.visits.visit import EndReason, Evidence, StartReason

_PASSIVE = int(EventFlags.PASSIVE)
_SERVER = int(EventFlags.SERVER)
_UNATTENDED = _PASSIVE | _SERVER
_NEVER_FIRST = frozenset({SESSION_END, PAGELEAVE, GROUP_IDENTIFY})


class Split(msgspec.Struct, frozen=True, gc=False):
    """The end of one visit and the start of another, and the two values that were compared."""

    start: StartReason
    end: EndReason
    evidence: Evidence | None = None

    @property
    def is_arrival(self) -> bool:
        """Whether the visitor came from elsewhere once more, while the visit went on."""
        return self.start is StartReason.CAMPAIGN or self.start is StartReason.REFERRER


def split_before(visit: OpenVisit, event: Event, limits: Limits) -> Split | None:
    """Return why something that the visitor did starts another visit, or None when it continues this one.

    Of several reasons the first counts: silence, length, another user, asked for by hand, campaign, referrer. A window
    that goes on as it came before the visit brings its visitor from nowhere: who has two pages open is there once.
    """
    if visit.end is not None:
        return Split(StartReason.ENDED, EndReason.ASKED)
    silence, length = event.at - visit.last_activity, event.at - visit.start
    if silence > limits.timeout:
        return Split(StartReason.TIMEOUT, EndReason.TIMEOUT, evidence_of_silence(silence, limits))
    if length > limits.max_duration:
        evidence = evidence_of_length(length, limits)
        return Split(StartReason.MAX_DURATION, EndReason.MAX_DURATION, evidence)
    user = user_of(event)
    if user is not None and visit.user_id is not None and user != visit.user_id:
        return Split(StartReason.OTHER_USER, EndReason.OTHER_USER, _evidence(visit.user_id, user))
    if is_asked_for(event):
        return Split(StartReason.ASKED, EndReason.STARTED)
    return _other_origin(visit, event, limits)


def is_asked_for(event: Event) -> bool:
    """Return whether the event starts a visit by hand, whether or not one is open."""
    return event.name == SESSION_START and event.properties.get(UNLESS_OPEN) is not True


def only_attaches(event: Event, limits: Limits) -> bool:
    """Return whether the event says nothing about what its visitor does: it neither starts nor extends a visit.

    Naming a group is no activity: some clients send it in the name of the group.
    """
    if event.name == SESSION_START:
        return False
    if event.flags & _PASSIVE or event.name == GROUP_IDENTIFY:
        return True
    return bool(event.flags & _SERVER) and event.name != PAGEVIEW and not limits.counts_servers


def cannot_begin(event: Event, limits: Limits) -> bool:
    """Return whether the event can only belong to a visit that is open.

    What only attaches, an end by hand, and leaving a page, which was seen before and may have been forgotten for hours.
    """
    name = event.name
    return name in _NEVER_FIRST or (event.flags & _UNATTENDED != 0 and only_attaches(event, limits))


def _other_origin(visit: OpenVisit, event: Event, limits: Limits) -> Split | None:
    mine, its = visit.utm, event.utm
    if limits.splits_by_campaign and mine is not None and its is not None and its != mine and its.differs_from(mine):
        came_from = visit.origin_of(event.window_id)
        if came_from is None or came_from.utm is None or its.differs_from(came_from.utm):
            evidence = _evidence(campaign_text(mine), campaign_text(its))
            return Split(StartReason.CAMPAIGN, EndReason.CAMPAIGN, evidence)
    if limits.splits_by_referrer and event.referrer_domain is not None:
        before = known_referrer(visit.referrer, visit.referrer_domain, limits)
        after = known_referrer(event.referrer, event.referrer_domain, limits)
        if before is not None and after is not None and after != before:
            came_from = visit.origin_of(event.window_id)
            if came_from is None or came_from.referrer_domain != after:
                return Split(StartReason.REFERRER, EndReason.REFERRER, _evidence(before, after))
    return None


def _evidence(before: str, after: str) -> Evidence:
    return Evidence(before=before, after=after)
