"""A second, slow road from events and visits to an answer: loops over values, the calendar of `zoneinfo`, no SQL.

It shares nothing with the product but the types of question and answer.
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from lastseen.reports.answer import Answer
from lastseen.reports.question import Question
from lastseen.visits.event import Event, EventFlags
from lastseen.visits.store import VisitStore
from lastseen.visits.visit import Visit

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EVENT_METRICS = {"page_views", "events", "active_visitors"}
COUNTS = {*EVENT_METRICS, "visitors", "visits", "engaged_time"}
TIMES = {"hour", "day", "week", "month"}


@dataclass(frozen=True)
class Seen:
    """An event, its visitor, and its visit, if it is in one."""

    event: Event
    visitor: str
    visit: Visit | None

    @property
    def is_bot(self) -> bool:
        return self.visit.is_bot if self.visit else bool(self.event.flags & EventFlags.BOT)


@dataclass(frozen=True)
class Truth:
    """What a store holds of one site."""

    seen: Sequence[Seen]
    visits: Sequence[Visit]

    def of(self, visit: Visit) -> list[Seen]:
        return [each for each in self.seen if each.visit is visit]


def truth_of(store: VisitStore, site: str = "default") -> Truth:
    """Read all of a site."""
    visitors: list[str] = []
    while page := store.visitor_ids(site, after=visitors[-1] if visitors else ""):
        visitors += page
    visits: list[Visit] = []
    seen: list[Seen] = []
    for first in range(0, len(visitors), 500):
        names = visitors[first : first + 500]
        of_visitors = store.visits_of_visitors(site, names)
        for visitor, events in store.events_of_visitors(site, names).items():
            own = of_visitors.get(visitor, ())
            visits += own
            seen += [Seen(event, visitor, visit_of(event, own)) for event in events]
    assert len(seen) == len(list(store.all_events(site)))
    return Truth(seen, visits)


def visit_of(event: Event, visits: Iterable[Visit]) -> Visit | None:
    """Find the visit by the places of its first and last event."""
    place = (event.at, event.id)
    return next((visit for visit in visits if (visit.start, visit.id) <= place <= visit.last_event), None)


def moment(micros: int) -> datetime:
    return EPOCH + timedelta(microseconds=micros)


def path(url: str | None) -> str | None:
    return None if url is None else (urlsplit(url).path or "/")


def text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def visit_value(name: str, visit: Visit | None) -> str | None:
    if visit is None:
        return None
    utm = {f"utm_{field}": visit.utm and getattr(visit.utm, field) for field in
           ("source", "medium", "campaign", "term", "content")}  # fmt: skip
    values: Mapping[str, Any] = utm | {
        "entry": path(visit.landing_page),
        "exit": path(visit.exit_page),
        "source": utm["utm_source"] or visit.referrer_domain,
        "referrer": visit.referrer,
        "channel": visit.channel,
        "country": visit.geo and visit.geo.country,
        "region": visit.geo and visit.geo.region,
        "city": visit.geo and visit.geo.city,
        "device": visit.device and visit.device.type,
        "browser": visit.device and visit.device.browser,
        "os": visit.device and visit.device.os,
    }
    value: str | None = values[name]
    return value


def event_value(name: str, event: Event) -> str | None:
    if name == "page":
        return path(event.url)
    if name == "event":
        return event.name
    return text(event.properties.get(name.removeprefix("property:")))


def is_of_events(name: str) -> bool:
    return name in {"page", "event"} or name.startswith("property:")


def bucket(name: str, at: datetime, zone: ZoneInfo) -> date | datetime:
    local = at.astimezone(zone)
    if name == "hour":
        return local.replace(minute=0, second=0, microsecond=0).astimezone(UTC)
    day = local.date()
    if name == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if name == "month" else day


def label(key: Any, zone: ZoneInfo) -> str | None:
    if isinstance(key, datetime):
        return key.astimezone(zone).isoformat(timespec="minutes")
    return key.isoformat() if isinstance(key, date) else key


def passes(value: str | None, operator: str, values: Sequence[str]) -> bool:
    checks: dict[str, Callable[[], bool]] = {
        "is": lambda: value == values[0],
        "is_not": lambda: value != values[0],
        "contains": lambda: value is not None and values[0] in value,
        "contains_not": lambda: value is None or values[0] not in value,
        "one_of": lambda: value in values,
        "none_of": lambda: value not in values,
        "unknown": lambda: value is None,
        "known": lambda: value is not None,
    }
    return checks[operator]()


def figures(question: Question, visits: Sequence[Visit], seen: Sequence[Seen]) -> tuple[Any, ...]:
    """Return the metrics of some visits (each once) and some events."""
    count = len(visits)
    durations = [(v.duration // timedelta(microseconds=1)) for v in visits]
    engaged = sum(v.engaged_ms for v in visits)
    found: dict[str, Any] = {
        "visits": count,
        "visitors": len({v.visitor_id for v in visits}),
        "bounce_rate": sum(v.page_views <= 1 and v.engaged_ms < 10_000 for v in visits) / count if count else None,
        "average_duration": sum(durations) / count / 1e6 if count else None,
        "median_duration": statistics.median(durations) / 1e6 if count else None,
        "engaged_time": engaged / 1e3,
        "average_engaged_time": engaged / count / 1e3 if count else None,
        "page_views": sum(each.event.name == "$pageview" for each in seen),
        "events": len(seen),
        "active_visitors": len({each.visitor for each in seen if not each.event.flags & EventFlags.PASSIVE}),
    }
    return tuple(found[metric] for metric in question.metrics)


def period_of(question: Question) -> tuple[datetime, datetime]:
    zone = ZoneInfo(question.time_zone)

    def at(value: date | datetime | None) -> datetime:
        assert value is not None
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=zone).astimezone(UTC)
        return datetime.combine(value, time(), zone).astimezone(UTC)

    return at(question.since), at(question.until)


def counted(
    question: Question, truth: Truth, start: datetime, end: datetime
) -> tuple[dict[tuple[Any, ...], tuple[Any, ...]], tuple[Any, ...]]:
    """Return the figures by key, and the totals."""
    zone = ZoneInfo(question.time_zone)
    names = [each.name for each in question.by]
    of_visit = [each for each in question.filters if not is_of_events(each.dimension.name)]
    of_event = [each for each in question.filters if is_of_events(each.dimension.name)]

    def bots_pass(is_bot: bool) -> bool:
        return {"without": not is_bot, "with": True, "only": is_bot}[question.bots]

    def visit_passes(visit: Visit | None) -> bool:
        return all(passes(visit_value(f.dimension.name, visit), f.operator, f.values) for f in of_visit)

    def event_passes(event: Event) -> bool:
        return all(passes(event_value(f.dimension.name, event), f.operator, f.values) for f in of_event)

    visits_by: dict[tuple[Any, ...], list[Visit]] = defaultdict(list)
    seen_by: dict[tuple[Any, ...], list[Seen]] = defaultdict(list)
    all_visits: list[Visit] = []
    all_seen: list[Seen] = []
    events_of: dict[str, list[Seen]] = defaultdict(list)
    for each in truth.seen:
        if each.visit is not None:
            events_of[each.visit.id].append(each)
    for visit in truth.visits:
        if not (start <= moment(visit.start) < end and bots_pass(visit.is_bot) and visit_passes(visit)):
            continue
        events = [each.event for each in events_of[visit.id] if event_passes(each.event)]
        if of_event and not events:
            continue
        all_visits.append(visit)
        keys = {
            tuple(
                bucket(name, moment(visit.start), zone) if name in TIMES
                else event_value(name, event) if is_of_events(name)
                else visit_value(name, visit)
                for name in names
            )
            for event in events
        }  # fmt: skip
        for key in keys:
            visits_by[key].append(visit)
    for each in truth.seen:
        at = moment(each.event.at)
        if start <= at < end and bots_pass(each.is_bot) and visit_passes(each.visit) and event_passes(each.event):
            all_seen.append(each)
            key = tuple(
                bucket(name, at, zone) if name in TIMES
                else event_value(name, each.event) if is_of_events(name)
                else visit_value(name, each.visit)
                for name in names
            )  # fmt: skip
            seen_by[key].append(each)
    wanted = {metric in EVENT_METRICS for metric in question.metrics}
    found = {
        key: figures(question, visits_by.get(key, []), seen_by.get(key, []))
        for key in (visits_by.keys() if False in wanted else set()) | (seen_by.keys() if True in wanted else set())
    }
    return found, figures(question, all_visits, all_seen)


def expected(question: Question, truth: Truth) -> tuple[list[tuple[Any, ...]], tuple[Any, ...], bool]:
    """Return the rows (labels, then figures), the totals, and whether there are more rows."""
    start, end = period_of(question)
    zone = ZoneInfo(question.time_zone)
    found, totals = counted(question, truth, start, end)
    names = [each.name for each in question.by]
    if not names:
        return [totals], totals, False
    is_series = len(names) == 1 and names[0] in TIMES
    if is_series:
        empty = tuple(0 if metric in COUNTS else None for metric in question.metrics)
        at = start
        while at < end:
            found.setdefault((bucket(names[0], at, zone),), empty)
            at += timedelta(minutes=15)
    rows = list(found.items())
    for by, is_descending in reversed(order_of(question, names)):
        place = names.index(by) if by in names else list(question.metrics).index(by)  # type: ignore[arg-type]
        side = 0 if by in names else 1

        def value(row: tuple[Any, Any], side: int = side, place: int = place) -> Any:
            return row[side][place]

        known = sorted((row for row in rows if value(row) is not None), key=value, reverse=is_descending)
        rows = known + [row for row in rows if value(row) is None]
    has_more = not is_series and len(rows) > question.offset + question.limit
    if not is_series:
        rows = rows[question.offset : question.offset + question.limit]
    return [(*(label(part, zone) for part in key), *each) for key, each in rows], totals, has_more


def order_of(question: Question, names: Sequence[str]) -> list[tuple[str, bool]]:
    if question.order is not None:
        first = (question.order.by, question.order.is_descending)
    elif TIMES & set(names):
        first = (next(name for name in names if name in TIMES), False)
    else:
        first = (str(question.metrics[0]), True)
    return [first, *((name, False) for name in names)]


def check(answer: Answer, truth: Truth) -> None:
    """Fail unless the answer is what the truth says."""
    rows, totals, has_more = expected(answer.question, truth)
    shown = [(*row.keys, *row.figures) for row in answer.rows]
    assert shown == rows
    assert answer.totals == totals
    assert answer.has_more is has_more
    check_sums(answer)
    check_comparison(answer, truth)


def check_sums(answer: Answer) -> None:
    """Fail where all the rows are there, a column says that they add up, and they do not."""
    if answer.has_more or answer.question.offset or not answer.question.by:
        return
    for place, column in enumerate(column for column in answer.columns if column.is_metric):
        if column.adds_up:
            assert sum(row.figures[place] or 0 for row in answer.rows) == answer.totals[place], column


def check_comparison(answer: Answer, truth: Truth) -> None:
    """Fail unless every row stands beside the figures of the same key in the other period."""
    question, compared = answer.question, answer.compared_period
    if compared is None:
        assert all(row.compared is None for row in answer.rows)
        return
    zone = ZoneInfo(question.time_zone)
    found, totals = counted(question, truth, compared.start, compared.end)
    assert answer.compared_totals == totals
    labelled = {tuple(label(part, zone) for part in key): each for key, each in found.items()}
    empty = tuple(0 if metric in COUNTS else None for metric in question.metrics)
    places = {each.name: place for place, each in enumerate(question.by)}
    time_place = next((place for name, place in places.items() if name in TIMES), None)
    for row in answer.rows:
        key = list(row.keys)
        if not question.by:
            assert row.compared == totals
            continue
        if time_place is not None:
            if row.compared_key is None:
                assert row.compared is None
                continue
            key[time_place] = row.compared_key
        assert row.compared == labelled.get(tuple(key), empty)
