"""Random questions and random events, around the changes of the clocks in Europe."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from lastseen.reports.period import Compare
from lastseen.reports.question import Bots, Filter, Operator, Order, Question
from lastseen.reports.terms import DIMENSIONS, Dimension, Metric, TimeBucket
from lastseen.visits.event import ALIAS, IDENTIFY, PAGEVIEW, Device, Event, EventFlags, Geo
from lastseen.visits.utm import UtmParams

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BEGIN = datetime(2026, 3, 28, 12, tzinfo=UTC)
"""Half a day before Europe's clocks jump from 2 to 3 o'clock."""
MINUTE = 60_000_000
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Sydney", "Asia/Kathmandu"]

_URLS = [None, "https://e.org/a", "https://e.org/b?x=1#y", "https://e.org", "/a", "https://e.org/ü?"]
_NAMES = [PAGEVIEW, PAGEVIEW, PAGEVIEW, "signup", "buy", IDENTIFY, ALIAS]
_PEOPLE = ["ann", "bob", "cy", "dee", "a%'\"", "日本"]
_UTM = [None, None, None, UtmParams(source="news", campaign="may"), UtmParams(medium="cpc", term="t", content="c")]
_DEVICES = [None, Device(type="mobile", os="Android", browser="Chrome"), Device(type="desktop", os="Linux")]
_GEO = [None, Geo(country="DE", region="BE", city="Berlin"), Geo(country="US")]
_FLAGS = [0, 0, 0, 0, EventFlags.PASSIVE, EventFlags.SERVER, EventFlags.BOT]
_PROPERTIES: list[Mapping[str, Any]] = [{}, {"plan": "pro"}, {"plan": 3}, {"plan": True, "$lib": "x"}, {"plan": None}]


@st.composite
def events(draw: st.DrawFn, number: int, site: str = "default") -> Event:
    """Return one event; numbers keep ids apart, not in the order of time."""
    name = draw(st.sampled_from(_NAMES))
    at = int((BEGIN - EPOCH) / timedelta(microseconds=1)) + draw(st.integers(0, 48 * 6)) * 10 * MINUTE
    properties = dict(draw(st.sampled_from(_PROPERTIES)))
    if name in (IDENTIFY, ALIAS):
        other = draw(st.sampled_from(_PEOPLE))
        properties |= {"$anon_distinct_id": other} if name == IDENTIFY else {"alias": other}
    referrer = draw(st.sampled_from([None, None, "a.com", "b.com"]))
    return Event(
        id=f"{draw(st.integers(0, 9))}-{number}",
        site_id=site,
        distinct_id=draw(st.sampled_from(_PEOPLE)),
        name=name,
        at=at + draw(st.sampled_from([0, 0, 1, MINUTE])),
        received_at=at,
        url=draw(st.sampled_from(_URLS)),
        referrer=None if referrer is None else f"https://{referrer}/from",
        referrer_domain=referrer,
        utm=draw(st.sampled_from(_UTM)),
        flags=int(draw(st.sampled_from(_FLAGS))),
        engaged_ms=draw(st.sampled_from([0, 0, 4_000, 11_000])),
        device=draw(st.sampled_from(_DEVICES)),
        geo=draw(st.sampled_from(_GEO)),
        properties=properties,
    )


@st.composite
def histories(draw: st.DrawFn, most: int = 40) -> list[Event]:
    """Return the events of a few visitors on two sites."""
    count = draw(st.integers(0, most))
    sites = st.sampled_from(["default"] * 6 + ["other"])
    return [draw(events(number, draw(sites))) for number in range(count)]


_TEXTS = ["/a", "/", "a", "signup", "pro", "3", "true", "news", "a.com", "DE", "Android", "mobile", "%"]
dimensions = st.sampled_from([*DIMENSIONS, "property:plan"]).map(Dimension)
_filtered = st.sampled_from([*(name for name in DIMENSIONS if name not in list(TimeBucket)), "property:plan"])


@st.composite
def filters(draw: st.DrawFn) -> Filter:
    """Return one filter."""
    operator = draw(st.sampled_from(Operator))
    dimension = Dimension(draw(_filtered))
    texts = _TEXTS if dimension.property_name is None else [*_TEXTS, ""]
    if operator in (Operator.UNKNOWN, Operator.KNOWN):
        values: tuple[str, ...] = ()
    else:
        many = operator in (Operator.ONE_OF, Operator.NONE_OF)
        values = tuple(draw(st.lists(st.sampled_from(texts), min_size=1, max_size=3 if many else 1)))
    return Filter(dimension, operator, values)


@st.composite
def questions(draw: st.DrawFn) -> Question:
    """Return any question about some of those days."""
    metrics = tuple(draw(st.lists(st.sampled_from(Metric), min_size=1, max_size=len(Metric), unique=True)))
    by = draw(st.lists(dimensions, max_size=2, unique=True))
    if sum(each.bucket is not None for each in by) > 1:
        by = by[:1]
    first = date(2026, 3, 27) + timedelta(days=draw(st.integers(0, 3)))
    order = draw(st.none() | st.sampled_from([*metrics, *(each.name for each in by)]))
    return Question(
        metrics=metrics,
        by=tuple(by),
        filters=tuple(draw(st.lists(filters(), max_size=2))),
        since=first,
        until=first + timedelta(days=draw(st.integers(1, 3))),
        time_zone=draw(st.sampled_from(ZONES)),
        compare=draw(st.none() | st.just(Compare.PREVIOUS)),
        order=None if order is None else Order(order, is_descending=draw(st.booleans())),
        limit=draw(st.sampled_from([1, 3, 100])),
        offset=draw(st.sampled_from([0, 0, 0, 2])),
        bots=draw(st.sampled_from([Bots.WITHOUT, Bots.WITHOUT, *Bots])),
    )


@st.composite
def questions_by_page(draw: st.DrawFn) -> Question:
    """Return a question about the visitors of pages, with a filter of each kind that has a road of its own."""
    page = Dimension("page")
    about_pages = (
        filters().filter(lambda each: "" not in each.values).map(lambda each: Filter(page, each.operator, each.values))
    )
    about_events = st.builds(
        lambda name, operator: Filter(Dimension(name), operator, () if operator is Operator.KNOWN else ("pro",)),
        st.sampled_from(["property:plan", "event"]),
        st.sampled_from([Operator.IS_NOT, Operator.NONE_OF, Operator.KNOWN, Operator.IS]),
    )
    metrics = (Metric.VISITORS, *draw(st.lists(st.sampled_from([*Metric][1:]), max_size=3, unique=True)))
    by = draw(st.sampled_from([(page,), (page,), (page, Dimension("country")), (Dimension("source"), page)]))
    order = draw(st.none() | st.sampled_from([*metrics, by[0].name]))
    first = date(2026, 3, 27) + timedelta(days=draw(st.integers(0, 3)))
    return Question(
        metrics=metrics,
        by=by,
        filters=tuple(draw(st.lists(st.one_of(about_pages, about_pages, filters(), about_events), max_size=2))),
        since=first,
        until=first + timedelta(days=draw(st.integers(1, 3))),
        compare=draw(st.none() | st.just(Compare.PREVIOUS)),
        order=None if order is None else Order(order, is_descending=draw(st.sampled_from([True, True, False]))),
        limit=draw(st.sampled_from([1, 2, 100])),
        offset=draw(st.sampled_from([0, 0, 1])),
        bots=draw(st.sampled_from(Bots)),
    )
