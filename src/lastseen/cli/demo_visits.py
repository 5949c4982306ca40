"""A believable month of a small shop's visitors. Pure: the moment and the dice are handed in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

from lastseen.visits.event import IDENTIFY, PAGELEAVE, PAGEVIEW, Device, Geo
from lastseen.visits.making import RawEvent

HOST = "https://shop.example"
VISITS_A_DAY = 60
_SECOND = 1_000_000
_DAY = 86_400
_OFFICE_DAYS = 5

_PAGES = ("/", "/tea", "/tea/green", "/tea/black", "/cups", "/cups/blue", "/basket", "/about", "/journal/brewing")
_ENTRIES = ("/", "/", "/", "/tea", "/tea/green", "/journal/brewing", "/journal/brewing", "/cups")
_SOURCES: tuple[tuple[int, str | None, str], ...] = (
    (30, None, ""),
    (26, "https://www.google.com/", ""),
    (6, "https://duckduckgo.com/", ""),
    (5, "https://news.ycombinator.com/", ""),
    (5, "https://old.reddit.com/r/tea/", ""),
    (8, None, "?utm_source=newsletter&utm_medium=email&utm_campaign=spring"),
    (7, "https://www.google.com/", "?utm_source=google&utm_medium=cpc&utm_campaign=green-tea"),
    (3, "https://www.instagram.com/", "?utm_source=instagram&utm_medium=social&utm_campaign=cups"),
)
_PLACES = (
    (30, Geo(country="DE", region="Berlin", city="Berlin", timezone="Europe/Berlin")),
    (12, Geo(country="DE", region="Bavaria", city="Munich", timezone="Europe/Berlin")),
    (16, Geo(country="GB", region="England", city="London", timezone="Europe/London")),
    (14, Geo(country="US", region="New York", city="New York", timezone="America/New_York")),
    (8, Geo(country="US", region="California", city="San Francisco", timezone="America/Los_Angeles")),
    (9, Geo(country="FR", region="Île-de-France", city="Paris", timezone="Europe/Paris")),
    (6, Geo(country="JP", region="Tokyo", city="Tokyo", timezone="Asia/Tokyo")),
)
_MACHINES = (
    (30, Device(type="desktop", os="Windows", browser="Chrome", screen_resolution="1920x1080")),
    (14, Device(type="desktop", os="macOS", browser="Safari", screen_resolution="1440x900")),
    (9, Device(type="desktop", os="Linux", browser="Firefox", screen_resolution="1920x1200")),
    (27, Device(type="mobile", os="iOS", browser="Mobile Safari", screen_resolution="390x844")),
    (18, Device(type="mobile", os="Android", browser="Chrome Mobile", screen_resolution="412x915")),
    (4, Device(type="tablet", os="iPadOS", browser="Safari", screen_resolution="820x1180")),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Visitor:
    """Somebody with a machine, at a place."""

    distinct_id: str
    place: Geo
    machine: Device


def demo_visits(now: float, days: int, dice: Random) -> Iterator[RawEvent]:
    """Yield the events of some days that end now; the same dice give the same visits."""
    visitors = [_visitor(number, dice) for number in range(days * VISITS_A_DAY // 2)]
    first = now - days * _DAY
    for day in range(days):
        noon = first + day * _DAY
        is_workday = datetime.fromtimestamp(noon, UTC).weekday() < _OFFICE_DAYS
        visits = round(VISITS_A_DAY * (1 if is_workday else 0.6) * (0.75 + day / days / 2) * dice.uniform(0.8, 1.2))
        for _ in range(visits):
            began = noon + dice.betavariate(2.4, 1.9) * _DAY
            yield from (event for event in demo_visit(dice.choice(visitors), began, dice) if event.at <= now * _SECOND)


def demo_visit(visitor: Visitor, began: float, dice: Random) -> Iterator[RawEvent]:
    """Yield one visit: some pages, sometimes an order, and how long each page was looked at."""
    _, referrer, query = _pick(_SOURCES, dice)
    at, path = began, dice.choice(_ENTRIES)
    for number in range(1 + int(dice.expovariate(0.55))):
        yield _event(visitor, PAGEVIEW, at, path + (query if number == 0 else ""), referrer if number == 0 else None)
        seconds = min(dice.expovariate(1 / 45) + 2, 900)
        at += seconds
        yield _event(visitor, PAGELEAVE, at, path, None, engaged_ms=int(seconds * 800))
        if path == "/basket" and dice.random() < 0.5:  # noqa: PLR2004 - every second basket is bought
            yield _event(visitor, "order", at + 5, path, None, {"plan": dice.choice(("once", "monthly"))})
            if dice.random() < 0.4:  # noqa: PLR2004 - some make an account
                user = f"{visitor.distinct_id[5:]}@shop.example"
                yield _event(visitor, IDENTIFY, at + 6, path, None, {"$anon_distinct_id": visitor.distinct_id}, user)
                return
        path = dice.choice(_PAGES)
        at += dice.uniform(1, 8)


def new_visitor(dice: Random) -> Visitor:
    """Return somebody who was never here before, most likely."""
    return _visitor(100_000 + dice.randrange(900_000), dice)


def _visitor(number: int, dice: Random) -> Visitor:
    return Visitor(distinct_id=f"demo-{number:05}", place=_pick(_PLACES, dice)[1], machine=_pick(_MACHINES, dice)[1])


def _event(  # noqa: PLR0917 - one line a kind of event
    visitor: Visitor,
    name: str,
    at: float,
    path: str,
    referrer: str | None,
    properties: dict[str, str] | None = None,
    user: str | None = None,
    *,
    engaged_ms: int = 0,
) -> RawEvent:
    moment = round(at * _SECOND)
    return RawEvent(
        name=name,
        at=moment,
        received_at=moment,
        distinct_id=user or visitor.distinct_id,
        url=HOST + path,
        referrer=referrer,
        device=visitor.machine,
        geo=visitor.place,
        engaged_ms=engaged_ms,
        properties=properties or {},
    )


def _pick(choices: tuple[Any, ...], dice: Random) -> Any:
    weights = [choice[0] for choice in choices]
    return dice.choices(choices, weights)[0]
