"""The audit trail, as a route writes in it: who asks is known already."""

from __future__ import annotations

from lastseen.accounts.audit import AuditAction
from lastseen.accounts.manager import Accounts, Actor


class Trail:
    """Notes what has been done, by whoever asks for it."""

    def __init__(self, accounts: Accounts, actor: Actor) -> None:
        self._accounts = accounts
        self._actor = actor

    def note(self, action: AuditAction, subject_id: str, subject_name: str, detail: str = "") -> None:
        """See `Accounts.note`."""
        self._accounts.note(self._actor, action, subject_id, subject_name, detail)


def provide_trail(accounts: Accounts, actor: Actor) -> Trail:
    """Return the trail for one request."""
    return Trail(accounts, actor)
