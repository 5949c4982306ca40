"""Accounts in a store, with hashes that cost next to nothing and are counted."""

from __future__ import annotations

from lastseen.accounts.account import Account
from lastseen.accounts.manager import Accounts, Actor
from lastseen.accounts.passwords import Argon2Hasher
from lastseen.stores import Store
from lastseen.testing import ManualClock

PASSWORD = "three words together"
OTHER_PASSWORD = "four other words together"
ADDRESS = "192.0.2.77"


class CountingHasher(Argon2Hasher):
    """The real one, made cheap; says how often it has worked."""

    def __init__(self, time_cost: int = 1) -> None:
        super().__init__(time_cost=time_cost, memory_cost=8, parallelism=1)
        self.verified = 0

    def verify(self, password_hash: str | None, password: str) -> bool:
        self.verified += 1
        return super().verify(password_hash, password)


class World:
    """A server's accounts with one administrator, Ada."""

    def __init__(self, store: Store, *, hasher: CountingHasher | None = None) -> None:
        self.clock = ManualClock()
        self.store = store
        self.hasher = hasher or CountingHasher()
        self.accounts = Accounts(store.accounts, store.sessions, hasher=self.hasher, clock=self.clock)
        token = self.accounts.new_set_up_token()
        self.ada = self.accounts.set_up(token, "Ada", PASSWORD, ADDRESS)
        self.by_ada = Actor(account=self.ada, address=ADDRESS)

    def sign_in(self, account: Account) -> str:
        """Make a session; its token."""
        return self.accounts.sessions.sign_in(account.user_id, address=ADDRESS, device="Firefox on Linux").token

    def actions(self) -> list[str]:
        """Return what the trail tells, the newest first."""
        return [record.entry.action.value for record in self.accounts.trail()]
