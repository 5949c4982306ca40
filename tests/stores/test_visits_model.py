"""Any sequence of calls: the visits of a database are those in memory, and a copy that follows has them too."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from lastseen.stores import Store, open_store
from lastseen.stores.memory import MemoryVisits
from lastseen.testing import moment
from lastseen.testing.streams import SITE, alias, event, identify
from lastseen.testing.visit_copies import RULE, Replica, save, stored
from lastseen.visits.event import SESSION_END, SESSION_START, Event, EventFlags
from lastseen.visits.rule import VisitRule
from lastseen.visits.utm import UtmParams
from tests.servers import ask

LONG = 100
TABLES = (
    "lastseen_events",
    "lastseen_identities",
    "lastseen_identity_links",
    "lastseen_visits",
    "lastseen_visit_writes",
    "lastseen_visits_removed",
)
IDS = st.sampled_from(["a", "b", "c", "ann", "ben"])
EVENT_IDS = st.integers(0, 30).map("e{:02}".format)
MOMENTS = st.integers(0, 12).map(lambda number: number * 600.0) | st.sampled_from(
    [1_799.999_999, 1_800.000_001, 90_000]
)
PLAIN = st.builds(
    event,
    EVENT_IDS,
    IDS,
    MOMENTS,
    st.sampled_from(["$pageview", "click", SESSION_START, SESSION_END]),
    flags=st.sampled_from([0, 0, 0, int(EventFlags.PASSIVE), int(EventFlags.SERVER)]),
    utm=st.none() | st.sampled_from([UtmParams(source="a"), UtmParams(source="b")]),
)
IDENTIFICATIONS = st.builds(identify, EVENT_IDS, st.sampled_from(["ann", "ben"]), st.none() | IDS, MOMENTS)
ALIASES = st.builds(alias, EVENT_IDS, IDS, IDS, MOMENTS)
BATCHES = st.lists(PLAIN | PLAIN | IDENTIFICATIONS | ALIASES, min_size=1, max_size=6)
RULES = {
    "usual": RULE,
    "short": VisitRule(timeout=timedelta(minutes=10)),
    "alike": VisitRule(timeout=timedelta(hours=2)),
}


def state_machine(store: Store, empty: Callable[[], object]) -> type[RuleBasedStateMachine]:
    """Return a machine that drives this store, emptied before every run, beside a fresh one in memory."""

    class VisitStoreModel(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            empty()
            self.real: Any = store.visits
            self.model: Any = MemoryVisits()
            self.rule = RULE
            self.replica = Replica()
            self.replica.position = self.real.changes("", 1_000_000).position

        def both(self, call: Callable[[Any], Any]) -> Any:
            """Call both, demand the same answer and the same visits."""
            answers = [call(side) for side in (self.real, self.model)]
            assert answers[0] == answers[1]
            assert stored(self.real) == stored(self.model)
            return answers[0]

        @rule(batch=BATCHES)
        def save(self, batch: list[Event]) -> None:
            self.both(lambda side: save(side, *batch, rule=self.rule).new)

        @rule(name=st.sampled_from(sorted(RULES)))
        def change_the_rule(self, name: str) -> None:
            self.rule = RULES[name]
            visitors = self.both(lambda side: list(side.visitor_ids(SITE)))
            self.both(lambda side: side.refold(SITE, visitors, self.rule))

        @rule(hours=st.integers(0, 4))
        def end_what_is_overdue(self, hours: int) -> None:
            def end(side: Any) -> list[bool]:
                overdue = side.overdue(moment(hours=hours), lambda _site: self.rule)
                visits = sorted(overdue, key=lambda visit: visit.id)
                return [side.end(SITE, visit.id, visit.last_activity_at, "timeout") for visit in visits]

            assert all(self.both(end))

        @rule(event_id=EVENT_IDS, distinct_id=IDS)
        def look(self, event_id: str, distinct_id: str) -> None:
            visit = self.both(lambda side: side.get(SITE, event_id))
            self.both(lambda side: side.get_by_visitor(SITE, distinct_id))
            if visit is not None:
                self.both(lambda side: list(side.events_of(visit)))

        @rule(limit=st.integers(1, 9))
        def follow(self, limit: int) -> None:
            self.replica.follow(self.real, limit)

        def teardown(self) -> None:
            self.replica.catch_up(self.real)
            assert self.replica.visits_by_visitor() == stored(self.real)

    return VisitStoreModel


def run_model(store: Store, empty: Callable[[], object], examples: int, steps: int) -> None:
    """Run the machine that often."""
    run_state_machine_as_test(
        state_machine(store, empty),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            report_multiple_bugs=False,
            # To find what is wrong is for a person; that something is wrong need not be shrunk.
            phases=[Phase.generate] if examples < LONG else list(Phase),
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture
def emptied(any_store: Store) -> Iterator[Callable[[], object]]:
    """Empty the tables between two runs."""
    address = any_store.address
    if not address.startswith("sqlite"):
        yield lambda: ask(address, f"TRUNCATE {', '.join(TABLES)}")
        return
    connection = sqlite3.connect(address.removeprefix("sqlite:///"))
    yield lambda: connection.executescript(";".join(f"DELETE FROM {table}" for table in TABLES))
    connection.close()


@pytest.mark.hypothesis
@pytest.mark.parametrize(
    ("examples", "steps"), [(8, 12), pytest.param(200, 50, marks=pytest.mark.faults)], ids=["short", "long"]
)
def test_a_database_is_as_memory(any_store: Store, emptied: Callable[[], object], examples: int, steps: int) -> None:
    """Batches, copies, late events, links, ends by time, other rules: in any sequence."""
    run_model(any_store, emptied, examples, steps)


@pytest.mark.hypothesis
def test_a_store_that_forgets_a_link_is_noticed(tmp_path: Path) -> None:
    """The model finds a store that does not move the visits of an id that was joined."""
    file = open_store(f"sqlite:///{tmp_path}/other.db")
    file.migrate()
    empty = ";".join(f"DELETE FROM {table}" for table in TABLES)
    connection = sqlite3.connect(tmp_path / "other.db")
    connection.execute(
        "CREATE TRIGGER forget AFTER UPDATE OF visitor ON lastseen_identities WHEN NEW.visitor <> NEW.no "
        "BEGIN UPDATE lastseen_identities SET visitor = NEW.no WHERE no = NEW.no; END"
    )
    connection.commit()
    with pytest.raises(AssertionError):
        run_model(file, lambda: connection.executescript(empty), 30, 12)
    connection.close()
    file.close()
