"""The store in memory: the reference that the others are compared with, for tests and for trying things out."""

from __future__ import annotations

from lastseen.stores.memory.accounts import MemoryAccounts
from lastseen.stores.memory.clients import MemoryClients
from lastseen.stores.memory.devices import MemoryDevices
from lastseen.stores.memory.salts import MemorySalts
from lastseen.stores.memory.sessions import MemorySessions
from lastseen.stores.memory.sites import MemorySites
from lastseen.stores.memory.visits import MemoryVisits

__all__ = [
    "MemoryAccounts",
    "MemoryClients",
    "MemoryDevices",
    "MemorySalts",
    "MemorySessions",
    "MemorySites",
    "MemoryStore",
    "MemoryVisits",
]


class MemoryStore:
    """Everything in dictionaries, gone with the process."""

    def __init__(self) -> None:
        self.clients = MemoryClients()
        self.sessions = MemorySessions()
        self.accounts = MemoryAccounts()
        self.devices = MemoryDevices()
        self.sites = MemorySites()
        self.salts = MemorySalts()
        self.visits = MemoryVisits()

    @property
    def address(self) -> str:
        """Where the data is, without secrets."""
        return "memory:"

    def pending_migrations(self) -> list[str]:
        """Return nothing: there is no schema."""
        return []

    def newer_migrations(self) -> list[str]:
        """Return nothing: there is no schema."""
        return []

    def migrate(self) -> list[str]:
        """Return nothing: there is no schema."""
        return []

    def close(self) -> None:
        """Keep the data: a closed memory store can be looked at."""
