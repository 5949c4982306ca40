"""`/api/v1/sessions…`: where the server's own users are signed in."""

from __future__ import annotations

from litestar import Controller, Response, delete, get

from lastseen.accounts.account import Account, AccountNotFound
from lastseen.accounts.manager import Accounts, Actor
from lastseen.devices.key import Scope
from lastseen.errors import SessionNotFound
from lastseen.server.api.asking import AnyRequest, QueryId, checked_id, id_of
from lastseen.server.api.exports import Export, ExportOperation
from lastseen.server.rights import Principal
from lastseen.sessions.session import Session
from lastseen.web.sessions.asgi import head_of, request_session
from lastseen.web.sessions.gate import KEY
from lastseen.wire.sessions import SessionList, SessionView


def view_of(session: Session, current: Session | None) -> SessionView:
    """Return what is shown of a session."""
    return SessionView(
        id=session.id,
        user_id=session.user_id,
        device=session.device,
        network=session.address,
        created_at=session.created_at,
        last_activity_at=session.last_activity_at,
        idle_deadline=session.idle_deadline,
        absolute_deadline=session.absolute_deadline,
        is_current=current is not None and session.id == current.id,
    )


class SessionsController(Controller):
    """One's own sessions; those of others for administrators, and for keys that one has made for this."""

    path = "/sessions"
    tags = ("sessions",)

    @get(
        "/",
        needs=Scope.SESSIONS_READ,
        sync_to_thread=True,
        summary="List sessions",
        operation_id="ListSessions",
        operation_class=ExportOperation,
    )
    def list_sessions(
        self,
        request: AnyRequest,
        accounts: Accounts,
        principal: Principal,
        export: Export,
        user_id: QueryId = None,
    ) -> Response[SessionList]:
        """Return the valid sessions of a user: your own unless told otherwise; with a key, everybody's.

        A user who is not there, or whose sessions are not yours to see, has none.
        """
        found = [
            session
            for owner in _owners(accounts, principal, checked_id("user_id", user_id))
            for session in accounts.sessions_of(owner.user_id)
        ]
        current = _current(request)
        return export(SessionList(sessions=[view_of(session, current) for session in found]))

    @delete(
        "/{session_id:str}",
        needs=Scope.SESSIONS_WRITE,
        sync_to_thread=True,
        summary="End a session",
        operation_id="RevokeSession",
    )
    def revoke(self, request: AnyRequest, accounts: Accounts, principal: Principal, session_id: str) -> None:
        """Sign out one device; the session of somebody else is as unknown as any other, but for an administrator."""
        session = accounts.sessions.store.get_session(id_of(session_id, "session"))
        if session is None or not _may_see(principal, session.user_id):
            raise SessionNotFound("there is no such session")
        actor = Actor(account=principal.account, address=head_of(request.scope).address)  # type: ignore[arg-type]
        try:
            accounts.revoke(actor, session.user_id, session.id)
        except AccountNotFound:
            raise SessionNotFound("there is no such session") from None


def _owners(accounts: Accounts, principal: Principal, user_id: str | None) -> list[Account]:
    if user_id is None:
        return list(accounts.all()) if principal.account is None else [principal.account]
    account = accounts.find(user_id) if _may_see(principal, user_id) else None
    return [] if account is None else [account]


def _may_see(principal: Principal, user_id: str) -> bool:
    return principal.account is None or principal.is_administrator or principal.account.user_id == user_id


def _current(request: AnyRequest) -> Session | None:
    return request_session(request).session if KEY in request.scope else None
