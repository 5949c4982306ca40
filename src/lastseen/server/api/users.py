"""`GET /api/v1/users` and `/api/v1/audit`: who the server's users are, and what they did; for administrators."""

from __future__ import annotations

from litestar import Controller, Response, get

from lastseen.accounts.manager import Accounts
from lastseen.errors import InvalidCursor
from lastseen.server.api.asking import Cursor, Limit
from lastseen.server.api.exports import Export, ExportOperation
from lastseen.server.rights import Right
from lastseen.wire.users import AuditList, AuditView, UserList, UserView

_LONGEST = 18
"""Digits of an entry's place: every database counts further than that."""


class UsersApiController(Controller):
    """Reads only, with the session of an administrator: no key reaches this."""

    tags = ("users",)

    @get(
        "/users",
        needs=Right.ADMINISTRATOR,
        sync_to_thread=True,
        summary="List users",
        operation_id="ListUsers",
        operation_class=ExportOperation,
    )
    def list_users(self, accounts: Accounts, export: Export) -> Response[UserList]:
        """Return all users, by name."""
        views = [UserView.of(account, accounts.sessions_of(account.user_id)) for account in accounts.all()]
        return export(UserList(users=views))

    @get(
        "/audit",
        needs=Right.ADMINISTRATOR,
        sync_to_thread=True,
        summary="List what happened",
        operation_id="ListAudit",
        operation_class=ExportOperation,
    )
    def list_audit(
        self, accounts: Accounts, export: Export, limit: Limit = 100, cursor: Cursor = None
    ) -> Response[AuditList]:
        """Return one page of the audit trail, the latest entries first."""
        records = accounts.trail(_place(cursor), limit + 1)
        shown = records[:limit]
        following = str(shown[-1].id) if len(records) > limit else None
        return export(AuditList(entries=[AuditView.of(record) for record in shown], next_cursor=following))


def _place(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= _LONGEST):
        raise InvalidCursor("this cursor is none that a listing has returned; start again without it")
    return int(cursor)
