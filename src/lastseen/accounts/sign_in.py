"""Is this the password of this account? The same work whether there is such an account or not."""

from __future__ import annotations

import math
import threading

from lastseen.accounts.account import Account, AccountError, name_key
from lastseen.accounts.passwords import PasswordHasher
from lastseen.accounts.store import AccountStore
from lastseen.accounts.throttle import Throttle
from lastseen.clock import Clock
from lastseen.sessions.address import anonymized


class Throttled(AccountError):
    """Too many attempts; `seconds` until the next one may be made."""

    def __init__(self, seconds: float) -> None:
        self.seconds = max(1, math.ceil(seconds))
        super().__init__(f"Too many attempts. Wait {self.seconds} s, then try again.")


class PasswordCheck:
    """Checks passwords, throttled by account and by the client's network.

    An account's own wait is short: whoever guesses at it from elsewhere must not keep its owner out. Blocks; any thread
    may call.
    """

    def __init__(self, store: AccountStore, hasher: PasswordHasher, clock: Clock) -> None:
        self._store = store
        self._hasher = hasher
        self._clock = clock
        self._lock = threading.Lock()
        self._by_name = Throttle(free=5, longest_wait=30)
        self._by_address = Throttle(free=20, longest_wait=300)

    def check(self, name: str, password: str, address: str) -> Account | None:
        """Return the enabled account whose password this is, else None; exactly one hash is verified either way.

        Raises `Throttled` without having looked at either.
        """
        keys = name_key(name)[:200], anonymized(address)
        self._take(*keys)
        account = self._verified(name, password)
        if account is not None:
            self._give_back(*keys)
        return account

    def _verified(self, name: str, password: str) -> Account | None:
        found = self._store.find_credentials(name)
        usable = found is not None and found.account.is_enabled
        password_hash = found.password_hash if found is not None and usable else None
        if not self._hasher.verify(password_hash, password) or found is None or password_hash is None:
            return None
        if self._hasher.is_outdated(password_hash):
            self._store.refresh_hash(found.account.user_id, password_hash, self._hasher.hash(password))
        return found.account

    def _take(self, name: str, address: str) -> None:
        now = self._clock.monotonic()
        with self._lock:
            wait = max(self._by_name.wait(name, now), self._by_address.wait(address, now))
            if wait > 0:
                raise Throttled(wait)
            self._by_name.take(name, now)
            self._by_address.take(address, now)

    def _give_back(self, name: str, address: str) -> None:
        with self._lock:
            self._by_name.forget(name)
            # One good account of the same network must not pay for guessing at others.
            self._by_address.give_back(address)
