"""The contract of `ClientStore`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from lastseen.activity.recorder import ActivityRecorder
from lastseen.activity.store import Client, ClientFilter, ClientOrder, ClientQuery, ClientStore
from lastseen.testing.factories import moment
from lastseen.testing.recorder import ActivityRecorderContract

FOUR = {"bee": moment(30), "Ant_1": moment(20), "ant%2": moment(20), "cat": moment(10)}


class ClientStoreContract(ActivityRecorderContract):
    """Inherit and override the `store` fixture; includes the contract of recorders."""

    @pytest.fixture
    def store(self) -> ClientStore:
        """Return an empty client store with its tables."""
        raise NotImplementedError("override the store fixture")

    @pytest.fixture
    def recorder(self, store: ClientStore) -> ActivityRecorder:
        """Return the store: it records by itself."""
        return store

    def stored(self, recorder: Any, key: str) -> datetime | None:
        """Ask the store."""
        client = recorder.get_client(key)
        return None if client is None else client.last_seen_at

    def test_it_is_a_client_store(self, store: ClientStore) -> None:
        """The protocol is there, and so is the schema."""
        assert isinstance(store, ClientStore)
        store.check_schema()

    def test_a_new_client_was_created_when_it_was_seen(self, store: ClientStore) -> None:
        """`created_at` is the first time written and never changes, also for an older one that arrives late."""
        store.batch_record_activity({"a": moment(5)})
        store.batch_record_activity({"a": moment(9)})
        store.batch_record_activity({"a": moment(1)})
        assert store.get_client("a") == Client(client_id="a", last_seen_at=moment(9), created_at=moment(5))

    def test_a_client_never_seen_is_none(self, store: ClientStore) -> None:
        """Not there is None, not an error."""
        assert store.get_client("nobody") is None

    @pytest.mark.parametrize(
        ("order", "expected"),
        [
            (ClientOrder.NEWEST, ["bee", "Ant_1", "ant%2", "cat"]),
            (ClientOrder.OLDEST, ["cat", "Ant_1", "ant%2", "bee"]),
            (ClientOrder.CLIENT_ID, ["Ant_1", "ant%2", "bee", "cat"]),
        ],
    )
    def test_listings_are_sorted(self, store: ClientStore, order: ClientOrder, expected: list[str]) -> None:
        """Ties are broken by client id, bytewise."""
        store.batch_record_activity(FOUR)
        assert _ids(store.list_clients(ClientQuery(order=order))) == expected

    @pytest.mark.parametrize("order", ClientOrder)
    def test_pages_cover_everything_once(self, store: ClientStore, order: ClientOrder) -> None:
        """Following the last client of each page visits every client exactly once, also among equal times."""
        store.batch_record_activity({f"client-{number:02}": moment(number // 5) for number in range(23)})
        everything = _ids(store.list_clients(ClientQuery(order=order)))
        paged: list[str] = []
        after: tuple[datetime, str] | None = None
        while page := store.list_clients(ClientQuery(order=order, limit=4, after=after)):
            paged += _ids(page)
            after = (page[-1].last_seen_at, page[-1].client_id)
        assert paged == everything
        assert len(set(paged)) == 23

    def test_spans_divide_exactly(self, store: ClientStore) -> None:
        """Seen after a moment and seen until it are everybody, and nobody twice."""
        store.batch_record_activity(FOUR)
        after = store.list_clients(ClientQuery(where=ClientFilter(seen_after=moment(20))))
        until = store.list_clients(ClientQuery(where=ClientFilter(seen_until=moment(20))))
        assert _ids(after) == ["bee"]
        assert _ids(until) == ["Ant_1", "ant%2", "cat"]
        both = ClientFilter(seen_after=moment(10), seen_until=moment(20))
        assert _ids(store.list_clients(ClientQuery(where=both))) == ["Ant_1", "ant%2"]

    @pytest.mark.parametrize(
        ("search", "expected"),
        [("", 4), ("ant", 2), ("ANT", 2), ("%", 1), ("_", 1), ("a", 3), ("zebra", 0), ("'", 0), ("\\", 0)],
    )
    def test_search_is_a_part_of_the_client_id(self, store: ClientStore, search: str, expected: int) -> None:
        """The case of ASCII letters does not matter; no character is a wildcard."""
        store.batch_record_activity(FOUR)
        where = ClientFilter(search=search)
        assert len(store.list_clients(ClientQuery(where=where))) == expected
        assert store.count_clients([where]) == [expected]

    def test_counts(self, store: ClientStore) -> None:
        """Several questions are answered in their order."""
        store.batch_record_activity(FOUR)
        where = [ClientFilter(), ClientFilter(seen_after=moment(10)), ClientFilter(seen_until=moment(0))]
        assert store.count_clients(where) == [4, 3, 0]
        assert store.count_clients([]) == []

    def test_active_hours_are_kept_once(self, store: ClientStore) -> None:
        """An hour noted again is not new; hours come back in order, from the moment asked for."""
        noon, one, two = moment(), moment(hours=1), moment(hours=2)
        assert store.batch_record_hours({"a": [one, noon], "b": [noon]}) == 3
        assert store.batch_record_hours({"a": [two, noon]}) == 1
        assert store.batch_record_hours({}) == 0
        assert store.active_hours(["a", "b", "nobody"], noon) == {"a": [noon, one, two], "b": [noon]}
        assert store.active_hours(["a", "b"], one) == {"a": [one, two]}
        assert store.active_hours([], noon) == {}

    def test_active_clients_by_hour(self, store: ClientStore) -> None:
        """Each hour counts its distinct clients; hours without any are left out."""
        noon, two = moment(), moment(hours=2)
        store.batch_record_hours({"a": [noon, two], "b": [noon]})
        assert store.active_clients_by_hour(noon - timedelta(days=1)) == {noon: 2, two: 1}
        assert store.active_clients_by_hour(two) == {two: 1}


def _ids(clients: list[Client]) -> list[str]:
    return [client.client_id for client in clients]
