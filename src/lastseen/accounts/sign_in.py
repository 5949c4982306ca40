"""Is this the password of this account? The same work whether there is such an account or not."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict

from lastseen.accounts.account import Account, AccountError, name_key
from lastseen.accounts.passwords import PasswordHasher
from lastseen.accounts.store import AccountStore
from lastseen.accounts.throttle import MOST_KEYS, Throttle
from lastseen.clock import Clock
from lastseen.sessions.address import anonymized


class Throttled(AccountError):
    """Too many attempts; `seconds` until the next one may be made."""

    def __init__(self, seconds: float) -> None:
        self.seconds = max(1, math.ceil(seconds))
        super().__init__(f"Too many attempts. Wait {self.seconds} s, then try again.")


class PasswordCheck:
    """Checks passwords, throttled by name and network together, by network, and by name alone.

    The last two are for who tries one password at many names, or one name from many networks. Where a name has signed
    in before, only the first counts: whoever guesses from elsewhere must not keep the owner out. Blocks; any thread may
    call.
    """

    def __init__(self, store: AccountStore, hasher: PasswordHasher, clock: Clock) -> None:
        self._store = store
        self._hasher = hasher
        self._clock = clock
        self._lock = threading.Lock()
        self._by_both = Throttle(free=5, longest_wait=60)
        self._by_network = Throttle(free=20, longest_wait=60)
        self._by_name = Throttle(free=50, longest_wait=10)
        self._homes: OrderedDict[str, None] = OrderedDict()

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

    def _take(self, name: str, network: str) -> None:
        now, both = self._clock.monotonic(), f"{name}\n{network}"
        with self._lock:
            wait = self._by_both.wait(both, now)
            if both not in self._homes:
                wait = max(wait, self._by_network.wait(network, now), self._by_name.wait(name, now))
            if wait > 0:
                raise Throttled(wait)
            self._by_both.take(both, now)
            self._by_network.take(network, now)
            self._by_name.take(name, now)

    def _give_back(self, name: str, network: str) -> None:
        both = f"{name}\n{network}"
        with self._lock:
            self._by_both.forget(both)
            self._by_network.give_back(network)
            self._by_name.give_back(name)
            self._homes[both] = None
            self._homes.move_to_end(both)
            if len(self._homes) > MOST_KEYS:
                self._homes.popitem(last=False)
