"""Events for tests: streams that hold every case of the rule, and what they must fold into."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lastseen.clock import to_micros
from lastseen.testing.factories import START
from lastseen.visits.event import ALIAS, IDENTIFY, PAGEVIEW, SESSION_END, SESSION_START, Event, EventFlags
from lastseen.visits.fold import fold
from lastseen.visits.identity import link_of, refused, resolve
from lastseen.visits.rule import VisitRule
from lastseen.visits.utm import UtmParams
from lastseen.visits.visit import Visit

SITE = "default"
NOON = to_micros(START)
SECOND = 1_000_000

# Spans between a visitor's events, seconds: within one visit, at the edge of the timeout, beyond, at the edge of a day.
_SPANS = (0, 0.000_001, 5, 300, 1_799, 1_800, 1_801, 3_600, 30_000, 86_400, 86_401)
_WEIGHTS = (1, 1, 9, 5, 1, 1, 2, 2, 1, 1, 1)
_CAMPAIGNS = (
    None,
    None,
    None,
    UtmParams(source="news"),
    UtmParams(source="NEWS "),
    UtmParams(source="ad", medium="cpc"),
)
_REFERRERS = (None, None, None, "search.example", "social.example")


def event(event_id: str, distinct_id: str = "alice", at: float = 0, name: str = PAGEVIEW, **details: Any) -> Event:
    """Return an event at a number of seconds after noon of 2026-01-01, UTC; a page view unless it is named."""
    micros = NOON + round(at * SECOND)
    details = {"site_id": SITE, "received_at": micros, **details}
    if name == PAGEVIEW:
        details.setdefault("url", f"https://shop.example/{event_id}")
    return Event(id=event_id, distinct_id=distinct_id, at=micros, name=name, **details)


def identify(event_id: str, user: str, anonymous: str | None, at: float = 0, **details: Any) -> Event:
    """Return what a client sends when its visitor signs in."""
    properties = {} if anonymous is None else {"$anon_distinct_id": anonymous}
    return event(event_id, user, at, IDENTIFY, properties=properties, **details)


def alias(event_id: str, one: str, other: str, at: float = 0, **details: Any) -> Event:
    """Return the statement that two ids are the same visitor."""
    return event(event_id, one, at, ALIAS, properties={"alias": other}, **details)


def stream(seed: int, count: int, *, visitors: int = 4, site_id: str = SITE) -> list[Event]:
    """Return events of some visitors with all that the rule and the identities can meet; the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311 - not for secrets
    clocks: dict[int, float] = defaultdict(lambda: chance.choice((0, 600, 40_000)))
    events = []
    for number in range(count):
        visitor = chance.randrange(visitors)
        clocks[visitor] += chance.choices(_SPANS, _WEIGHTS)[0]
        event_id = f"{chance.getrandbits(32):08x}-{number}"
        events.append(_any_event(chance, event_id, visitor, clocks[visitor], site_id))
    return events


def _any_event(chance: random.Random, event_id: str, visitor: int, at: float, site_id: str) -> Event:
    distinct_id = chance.choice((f"anonymous-{visitor}", f"anonymous-{visitor}", f"user-{visitor}"))
    kind = chance.random()
    if kind < 0.06:
        user = f"user-{visitor if chance.random() < 0.8 else visitor // 2}"
        return identify(event_id, user, chance.choice((None, f"anonymous-{visitor}")), at, site_id=site_id)
    if kind < 0.08:
        return alias(event_id, distinct_id, f"device-{chance.randrange(9)}", at, site_id=site_id)
    if kind < 0.12:
        return event(event_id, distinct_id, at, chance.choice((SESSION_START, SESSION_END)), site_id=site_id)
    if kind < 0.22:
        flag = chance.choice((EventFlags.PASSIVE, EventFlags.SERVER, EventFlags.BOT, EventFlags.LATE))
        return event(event_id, distinct_id, at, "thing", flags=int(flag), site_id=site_id)
    return event(
        event_id,
        distinct_id,
        at,
        chance.choice((PAGEVIEW, PAGEVIEW, "click")),
        site_id=site_id,
        utm=chance.choice(_CAMPAIGNS),
        referrer_domain=chance.choice(_REFERRERS),
        user_id=chance.choice((None, None, None, None, "ann", "ben")),
        engaged_ms=chance.randrange(5_000),
        properties={"number": chance.randrange(9)},
    )


def batches(seed: int, events: Sequence[Event], *, most: int = 9, repeats: float = 0.2) -> list[list[Event]]:
    """Return the events shuffled, some of them twice, in batches of one to `most`."""
    chance = random.Random(seed)  # noqa: S311 - not for secrets
    shuffled = [*events, *chance.sample(events, int(len(events) * repeats))]
    chance.shuffle(shuffled)
    found = []
    while shuffled:
        size = chance.randint(1, most)
        found.append(shuffled[:size])
        shuffled = shuffled[size:]
    return found


def folded(events: Iterable[Event], rule: VisitRule) -> Mapping[str, Sequence[Visit]]:
    """Return what the events of one site must become: the visits of each visitor who has any."""
    distinct = {each.id: each for each in events}.values()
    links = [link for each in distinct if (link := link_of(each)) is not None]
    visitors, others = resolve(links), refused(links)
    by_visitor: dict[str, list[Event]] = defaultdict(list)
    for each in distinct:
        by_visitor[visitors.get(each.distinct_id, each.distinct_id)].append(each)
    visits = {visitor: fold(of_visitor, rule, visitor, others=others) for visitor, of_visitor in by_visitor.items()}
    return {visitor: of_visitor for visitor, of_visitor in visits.items() if of_visitor}
