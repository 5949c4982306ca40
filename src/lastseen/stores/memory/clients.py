"""Clients in memory."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from lastseen.activity.store import Client, ClientFilter, ClientOrder, ClientQuery


class MemoryClients:
    """Clients and their active hours."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: dict[str, Client] = {}
        self._hours: dict[str, set[datetime]] = {}

    def batch_record_activity(self, updates: Mapping[str, datetime]) -> int:
        """See `ActivityRecorder`."""
        moved = 0
        with self._lock:
            for client_id, at in updates.items():
                known = self._clients.get(client_id)
                if known is None or known.last_seen_at < at:
                    created_at = at if known is None else known.created_at
                    self._clients[client_id] = Client(client_id=client_id, last_seen_at=at, created_at=created_at)
                    moved += 1
        return moved

    def batch_record_hours(self, hours: Mapping[str, Collection[datetime]]) -> int:
        """See `ClientStore`."""
        with self._lock:
            before = sum(map(len, self._hours.values()))
            for client_id, active in hours.items():
                self._hours.setdefault(client_id, set()).update(active)
            return sum(map(len, self._hours.values())) - before

    def get_client(self, client_id: str) -> Client | None:
        """See `ClientStore`."""
        return self._clients.get(client_id)

    def list_clients(self, query: ClientQuery) -> list[Client]:
        """See `ClientStore`."""
        with self._lock:
            found = [client for client in self._clients.values() if _passes(client, query.where)]
        found.sort(key=lambda client: client.client_id)
        if query.order is not ClientOrder.CLIENT_ID:
            found.sort(key=lambda client: client.last_seen_at, reverse=query.order is ClientOrder.NEWEST)
        if query.after is not None:
            found = [client for client in found if _follows(client, query.order, *query.after)]
        return found[: query.limit]

    def count_clients(self, where: Sequence[ClientFilter]) -> list[int]:
        """See `ClientStore`."""
        with self._lock:
            return [sum(_passes(client, one) for client in self._clients.values()) for one in where]

    def active_hours(self, client_ids: Collection[str], since: datetime) -> dict[str, list[datetime]]:
        """See `ClientStore`."""
        with self._lock:
            found = {
                client_id: sorted(hour for hour in self._hours.get(client_id, ()) if hour >= since)
                for client_id in client_ids
            }
        return {client_id: hours for client_id, hours in found.items() if hours}

    def active_clients_by_hour(self, since: datetime) -> dict[datetime, int]:
        """See `ClientStore`."""
        with self._lock:
            counts = Counter(hour for hours in self._hours.values() for hour in hours if hour >= since)
        return dict(sorted(counts.items()))

    def check_schema(self) -> None:
        """Return: there is no schema."""

    def remove_clients(self, client_ids: Collection[str]) -> int:
        """See `ClientRemoval`."""
        with self._lock:
            for client_id in client_ids:
                self._hours.pop(client_id, None)
            return sum(self._clients.pop(client_id, None) is not None for client_id in client_ids)


def _passes(client: Client, where: ClientFilter) -> bool:
    return (
        (where.seen_after is None or client.last_seen_at > where.seen_after)
        and (where.seen_until is None or client.last_seen_at <= where.seen_until)
        and where.search.lower() in client.client_id.lower()
    )


def _follows(client: Client, order: ClientOrder, last_seen_at: datetime, client_id: str) -> bool:
    if order is not ClientOrder.CLIENT_ID and client.last_seen_at != last_seen_at:
        return (client.last_seen_at < last_seen_at) is (order is ClientOrder.NEWEST)
    return client.client_id > client_id
