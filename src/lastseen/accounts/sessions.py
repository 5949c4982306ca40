"""Login sessions that are worth as much as the account behind them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from lastseen.accounts.store import AccountStore
from lastseen.sessions.manager import Authentication, Presented, SessionManager
from lastseen.sessions.store import SessionStore


class AccountSessions(SessionManager):
    """A session is only as valid as its account is enabled, on every request.

    To end the sessions of an account that is disabled is not enough: somebody whose password was just found to be right
    gets a session a moment later.
    """

    def __init__(self, store: SessionStore, accounts: AccountStore, **options: Any) -> None:
        super().__init__(store, **options)
        self._accounts = accounts

    def authenticate(
        self,
        token: str | None,
        *,
        kinds: Collection[str] | None = None,
        refresh: bool = False,
        fresh: bool = False,
    ) -> Authentication:
        """See `SessionManager`."""
        found = super().authenticate(token, kinds=kinds, refresh=refresh, fresh=fresh)
        if found.session is None:
            return found
        account = self._accounts.get_account(found.session.user_id)
        return found if account is not None and account.is_enabled else Authentication(presented=Presented.UNKNOWN)
