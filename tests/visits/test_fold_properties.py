"""The fold against a slow one, and against every order in which events may come."""

from __future__ import annotations

import random
from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import pairwise
from types import MappingProxyType

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from msgspec.structs import replace

from lastseen.visits import fold as fold_module
from lastseen.visits.event import IDENTIFY, Event
from lastseen.visits.fold import as_open, close_overdue, fold, fold_sorted, in_order, resume
from lastseen.visits.limits import Limits
from lastseen.visits.opened import OpenVisit, Run
from lastseen.visits.refold import Place, refold, refold_from
from lastseen.visits.rule import VisitRule
from lastseen.visits.visit import EndReason, StartReason, Visit
from tests.visits.naive import naive_fold
from tests.visits.streams import TICKS, rules, streams

FAST = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
# Any example will do, so none is made smaller.
SEARCH = settings(max_examples=2_000, deadline=None, phases=[Phase.generate])
Fold = Callable[[Sequence[Event], VisitRule, str], list[Visit]]


class Writers:
    """What any number of processes do to one visitor's visits, one transaction at a time."""

    def __init__(
        self, rule: VisitRule, visitor_id: str = "ann", others: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.rule = rule
        self.visitor_id = visitor_id
        self.others = others
        self.events: list[Event] = []
        self.visits: list[Visit] = []
        self.read = 0

    def save(self, batch: Sequence[Event]) -> None:
        """Add what is new of a batch and bring the visits up to date."""
        known = {event.id for event in self.events}
        new = in_order(event for event in batch if event.id not in known)
        for event in new:
            insort(self.events, event, key=lambda event: event.order)
        before = {visit.id: visit for visit in self.visits}
        done = refold(self.visits, new, self._since, self.rule, self.visitor_id, others=self.others)
        for removed in done.removed:
            del before[removed]
        before.update({visit.id: visit for visit in done.changed})
        self.visits = list(done.visits)
        assert sorted(before.values(), key=lambda visit: (visit.start, visit.id)) == self.visits

    def clean_up(self, now: int) -> None:
        """End the newest visit if it is overdue, as a process does that looks after the visits."""
        if self.visits:
            self.visits[-1] = close_overdue(self.visits[-1], now, self.rule) or self.visits[-1]

    def _since(self, place: Place | None) -> Iterable[Event]:
        for event in self.events:
            if place is None or event.order >= place:
                self.read += 1
                yield event


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[Event], list[list[Event]]]:
    """Return events, and batches in which they come: permuted, cut anywhere, with copies."""
    events = draw(streams())
    chance = random.Random(draw(st.integers(0, 2**32)))
    coming = events + chance.choices(events, k=chance.randrange(8)) if events else []
    chance.shuffle(coming)
    cuts = sorted(chance.choices(range(len(coming) + 1), k=chance.randrange(9)))
    edges = [0, *cuts, len(coming)]
    return events, [coming[start:end] for start, end in pairwise(edges)]


def facts(visits: Sequence[Visit]) -> list[dict[str, object]]:
    """Return what the slow fold says of a visit, of these."""
    names = [
        *(
            "id",
            "distinct_id",
            "start",
            "last_activity",
            "last_event",
            "start_reason",
            "end_reason",
            "end",
            "previous_id",
        ),
        *(
            "user_id",
            "page_views",
            "event_count",
            "entry_url",
            "landing_page",
            "exit_page",
            "referrer",
            "referrer_domain",
        ),
        *("utm", "geo", "engaged_ms", "is_bot", "has_late_events", "window_ids", "custom"),
    ]
    return [
        {**{name: getattr(visit, name) for name in names}, "device_type": visit.device.type if visit.device else None}
        for visit in visits
    ]


@FAST
@given(streams(), rules)
def test_it_equals_the_slow_fold(events: list[Event], rule: VisitRule) -> None:
    """Every field that a person could count is as the plain reading of the rule has it."""
    assert facts(fold(events, rule, "ann")) == naive_fold(events, rule)


@FAST
@given(deliveries(), rules)
def test_the_order_and_copies_of_events_do_not_matter(
    delivery: tuple[list[Event], list[list[Event]]], rule: VisitRule
) -> None:
    """Any permutation with any copies folds into the visits of the sorted list."""
    events, batches = delivery
    expected = fold_sorted(sorted(events, key=lambda event: event.order), rule, "ann")
    assert fold([event for batch in batches for event in batch], rule, "ann") == expected


@FAST
@given(deliveries(), rules, st.data())
def test_any_batches_over_any_writers_give_the_fold_of_everything(
    delivery: tuple[list[Event], list[list[Event]]], rule: VisitRule, data: st.DataObject
) -> None:
    """Late, early, doubled, in batches of any size, cleaned up at any time: the visits are those of the sorted list."""
    events, batches = delivery
    others = {each.id: "zoe" for each in events if each.name == IDENTIFY}
    writers = Writers(rule, others=others)
    for batch in batches:
        writers.save(batch)
        if data.draw(st.booleans()):
            writers.clean_up(data.draw(st.integers(0, 2 * TICKS)))
    expected = fold(events, rule, "ann", others=others)
    assert [*writers.visits[:-1], *map(as_open, writers.visits[-1:])] == expected


@FAST
@given(streams(), rules, st.integers(0, 30))
def test_going_on_from_a_visit_equals_folding_everything(events: list[Event], rule: VisitRule, cut: int) -> None:
    """A visit has all the state that the fold needs to go on, wherever the stream is cut."""
    ordered = in_order(events)
    visits = fold_sorted(ordered[:cut], rule, "ann")
    last = visits[-1] if visits else None
    later = ordered if last is None else [event for event in ordered if event.order > last.last_event]
    assert [*visits[:-1], *resume(last, later, rule, "ann")] == fold_sorted(ordered, rule, "ann")


@FAST
@given(streams(), rules)
def test_a_visit_covers_its_events_without_a_hole(events: list[Event], rule: VisitRule) -> None:
    """Visits follow one another, know the one before, and each event between first and last is counted."""
    visits = fold(events, rule, "ann")
    for before, after in pairwise(visits):
        assert before.last_event < (after.start, after.id)
        assert after.previous_id == before.id
        assert before.end is not None
        assert before.end >= before.last_activity >= before.start
        assert after.start_reason is not StartReason.FIRST
    for visit in visits:
        covered = [e for e in events if (visit.start, visit.id) <= e.order <= visit.last_event]
        asked = [e for e in covered if e.name in {"$session_start", "$session_end"}]
        assert visit.event_count == len(covered) - len(asked)
        assert visit.page_views <= visit.event_count


@FAST
@given(streams(), rules)
def test_every_split_but_the_asked_ones_shows_the_two_values(events: list[Event], rule: VisitRule) -> None:
    """Whoever reads why a visit began sees what was compared with what, and the two differ."""
    plain = {StartReason.FIRST, StartReason.ASKED, StartReason.ENDED}
    for visit in fold(events, rule, "ann"):
        evidence = visit.start_evidence
        assert (evidence is None) == (visit.start_reason in plain)
        assert evidence is None or (evidence.before and evidence.after and evidence.before != evidence.after)


@FAST
@given(streams(), rules, st.integers(0, 3 * TICKS))
def test_what_is_overdue_ends_at_its_last_activity_and_opens_again(
    events: list[Event], rule: VisitRule, now: int
) -> None:
    """Ending by time changes nothing but the end, and can be taken back."""
    for visit in fold(events, rule, "ann")[-1:]:
        ended = close_overdue(visit, now, rule)
        if ended is None:
            silence, length = now - visit.last_activity, now - visit.start
            in_time = (
                timedelta(microseconds=silence) <= rule.timeout and timedelta(microseconds=length) <= rule.max_duration
            )
            assert visit.end_reason is EndReason.ASKED or in_time
        else:
            assert ended.end == visit.last_activity
            assert ended.end_reason in {EndReason.TIMEOUT, EndReason.MAX_DURATION}
            assert as_open(ended) == visit


def unsorted_fold(events: Sequence[Event], rule: VisitRule, visitor_id: str) -> list[Visit]:
    """Forget to sort."""
    return fold_sorted(list({event.id: event for event in events}.values()), rule, visitor_id)


def doubling_fold(events: Sequence[Event], rule: VisitRule, visitor_id: str) -> list[Visit]:
    """Forget that copies are one event."""
    return fold_sorted(sorted(events, key=lambda event: event.order), rule, visitor_id)


def early_fold(events: Sequence[Event], rule: VisitRule, visitor_id: str) -> list[Visit]:
    """Split at the timeout instead of after it."""
    return fold(events, replace_timeout(rule, rule.timeout - timedelta(microseconds=1)), visitor_id)


def replace_timeout(rule: VisitRule, timeout: timedelta) -> VisitRule:
    """Return the rule with another timeout."""
    return VisitRule(
        timeout=timeout,
        max_duration=rule.max_duration,
        new_visit_on_referrer_change=rule.new_visit_on_referrer_change,
        new_visit_on_utm_change=rule.new_visit_on_utm_change,
        count_server_events=rule.count_server_events,
        own_domains=rule.own_domains,
        excluded_referrers=rule.excluded_referrers,
    )


def never_last_event_fold(events: Sequence[Event], rule: VisitRule, visitor_id: str) -> list[Visit]:
    """Take passive events for activity."""
    return fold([replace(event, flags=event.flags & ~1) for event in events], rule, visitor_id)


@pytest.mark.hypothesis
@pytest.mark.parametrize("broken", [unsorted_fold, doubling_fold, early_fold, never_last_event_fold])
def test_a_broken_fold_is_told_from_the_slow_one(broken: Fold) -> None:
    """The comparison above finds a fold that does not sort, counts copies, uses >= for >, or counts hidden pages."""

    def differs(case: tuple[tuple[list[Event], list[list[Event]]], VisitRule]) -> bool:
        (events, batches), rule = case
        coming = [event for batch in batches for event in batch]
        return facts(broken(coming, rule, "ann")) != naive_fold(events, rule)

    assert find(st.tuples(deliveries(), rules), differs, settings=SEARCH) is not None


@pytest.mark.hypothesis
def test_the_fold_is_not_told_from_the_slow_one() -> None:
    """The other half of the comparison: where it finds no broken fold, it finds nothing."""
    with pytest.raises(NoSuchExample):
        find(
            st.tuples(deliveries(), rules),
            lambda case: facts(fold(case[0][0], case[1], "ann")) != naive_fold(case[0][0], case[1]),
            settings=settings(max_examples=100, deadline=None),
        )


class HastyWriters(Writers):
    """Writers that only look at the visit in which a new event falls, and never at what comes after it."""

    def save(self, batch: Sequence[Event]) -> None:
        """Go on from the newest visit, whatever the new events' moments."""
        known = {event.id for event in self.events}
        new = in_order(event for event in batch if event.id not in known)
        self.events += new
        last = self.visits.pop() if self.visits else None
        self.visits += resume(last, new, self.rule, "ann")


@pytest.mark.hypothesis
def test_writers_that_only_go_on_are_found_out() -> None:
    """The comparison of writers finds one that does not fold the neighbourhood of late events again."""

    def differs(case: tuple[tuple[list[Event], list[list[Event]]], VisitRule]) -> bool:
        (events, batches), rule = case
        writers = HastyWriters(rule)
        for batch in batches:
            writers.save(batch)
        return writers.visits != fold(events, rule, "ann")

    assert find(st.tuples(deliveries(), rules), differs, settings=SEARCH)


def _no_run(visit: Visit | OpenVisit, events: Iterator[Event], _limits: Limits) -> Run:
    return None, 0, 0, 0, visit.landing_page, visit.exit_page, next(events, None)


def test_the_short_way_takes_what_the_long_way_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the short way for usual events the same visits come out."""

    @FAST
    @given(streams(), rules)
    def check(events: list[Event], rule: VisitRule) -> None:
        expected = fold(events, rule, "ann")
        with monkeypatch.context() as patch:
            patch.setattr(fold_module, "usual_run", _no_run)
            patch.setattr(fold_module, "begins_usually", lambda _event: False)
            assert fold(events, rule, "ann") == expected

    check()


@FAST
@given(streams(), rules, st.data())
def test_an_event_on_time_is_folded_without_reading_the_past(
    events: list[Event], rule: VisitRule, data: st.DataObject
) -> None:
    """Only what comes before the end of a visit makes its events be read again."""
    visits = fold(events, rule, "ann")
    if not visits:
        return
    last = visits[-1]
    at = data.draw(st.integers(last.last_event[0] + 1, last.last_event[0] + 40))
    new = replace(events[0], id="new", at=at)
    restart = refold_from(visits, [new])
    assert (restart.kept, restart.place, restart.goes_on) == (len(visits) - 1, last.last_event, True)
