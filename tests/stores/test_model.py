"""Any sequence of calls: a store on a database answers exactly as the store in memory does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from lastseen.activity.store import ClientFilter, ClientOrder, ClientQuery
from lastseen.stores import Store, open_store
from lastseen.stores.memory import MemoryClients
from lastseen.testing import moment

CLIENT_IDS = st.sampled_from(["a", "B", "b", "é", "日本", "a%", "a_b", "Z'z", "😀", "0"])
MOMENTS = st.integers(-10, 10).map(lambda seconds: moment(seconds, microseconds=seconds % 3))
HOURS = st.integers(-3, 3).map(lambda hours: moment(hours=hours))
FILTERS = st.builds(
    ClientFilter,
    seen_after=st.none() | MOMENTS,
    seen_until=st.none() | MOMENTS,
    search=st.sampled_from(["", "a", "B", "%", "_", "'", "z"]),
)


def state_machine(store: Store) -> type[RuleBasedStateMachine]:
    """Return a machine that drives this store, emptied before every run, beside a fresh one in memory."""

    class ClientStoreModel(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            empty(store)
            self.real = store.clients
            self.model = MemoryClients()

        @rule(updates=st.dictionaries(CLIENT_IDS, MOMENTS))
        def record(self, updates: dict[str, datetime]) -> None:
            batch = dict(sorted(updates.items()))
            assert self.real.batch_record_activity(batch) == self.model.batch_record_activity(batch)

        @rule(hours=st.dictionaries(CLIENT_IDS, st.sets(HOURS, max_size=3)))
        def record_hours(self, hours: dict[str, set[datetime]]) -> None:
            assert self.real.batch_record_hours(hours) == self.model.batch_record_hours(hours)

        @rule(client_id=CLIENT_IDS)
        def get(self, client_id: str) -> None:
            assert self.real.get_client(client_id) == self.model.get_client(client_id)

        @rule(
            where=FILTERS,
            order=st.sampled_from(ClientOrder),
            limit=st.integers(1, 5),
            after=st.none() | st.tuples(MOMENTS, CLIENT_IDS),
        )
        def listing(
            self, where: ClientFilter, order: ClientOrder, limit: int, after: tuple[datetime, str] | None
        ) -> None:
            query = ClientQuery(where=where, order=order, limit=limit, after=after)
            assert self.real.list_clients(query) == self.model.list_clients(query)

        @rule(where=st.lists(FILTERS, max_size=3))
        def count(self, where: list[ClientFilter]) -> None:
            assert self.real.count_clients(where) == self.model.count_clients(where)

        @rule(client_ids=st.lists(CLIENT_IDS, unique=True, max_size=4), since=HOURS)
        def hours(self, client_ids: list[str], since: datetime) -> None:
            assert self.real.active_hours(client_ids, since) == self.model.active_hours(client_ids, since)
            assert self.real.active_clients_by_hour(since) == self.model.active_clients_by_hour(since)

    return ClientStoreModel


def empty(store: Store) -> None:
    """Remove every row; no store offers that."""
    with store._database.write() as connection:  # type: ignore[attr-defined]  # both have one
        connection.execute("DELETE FROM client_activity")
        connection.execute("DELETE FROM client_active_hours")


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    url = f"sqlite:///{tmp_path}/model.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    store = open_store(url, deadline=timedelta(seconds=5))
    store.migrate()
    yield store
    store.close()


@pytest.mark.hypothesis
@pytest.mark.parametrize(
    ("runs", "steps"), [(50, 50), pytest.param(200, 50, marks=pytest.mark.faults)], ids=["short", "long"]
)
def test_a_store_equals_its_model(store: Store, runs: int, steps: int) -> None:
    """Fifty runs of fifty calls each, and two hundred in the long run."""
    run_state_machine_as_test(
        state_machine(store),
        settings=settings(
            max_examples=runs, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
