"""For administrators: users, their sessions, and what happened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from litestar import Controller, get, post

from lastseen.accounts.account import Account, LastAdministrator, NameTaken, Role
from lastseen.accounts.manager import LINK_LIFE, Accounts, FormProblem
from lastseen.app import LastSeen
from lastseen.clock import SYSTEM_CLOCK, utc
from lastseen.devices.device import Group
from lastseen.devices.store import MAX_PAGE
from lastseen.errors import NotFound
from lastseen.server.pages.accounts import MAX_FORM, Form, Page, actor_of, devices_of, network_of, session_of
from lastseen.server.pages.exports import exports, list_exports
from lastseen.server.pages.frame import AnyRequest, go, show, show_problem
from lastseen.server.pages.relative import relative
from lastseen.server.rights import Right
from lastseen.web.sessions.asgi import request_session
from lastseen.web.sessions.threads import in_thread

AUDIT_PAGE = 100


class UsersController(Controller):
    """Users and their sessions."""

    path = "/users"
    include_in_schema = False
    opt = {"needs": Right.ADMINISTRATOR}  # noqa: RUF012 - Litestar's own way
    exception_handlers = {Exception: show_problem}  # noqa: RUF012 - Litestar's own way
    request_max_body_size = MAX_FORM

    @get("/")
    async def users(self, request: AnyRequest, accounts: Accounts) -> Page:
        """List everybody."""
        return await _users_page(request, accounts)

    @post("/")
    async def create(self, request: AnyRequest, accounts: Accounts, data: Form) -> Page:
        """Make a user; the link for the password is on the answer, and nowhere else."""
        name = data.get("name", "")
        role = Role.ADMINISTRATOR if data.get("role") == Role.ADMINISTRATOR else Role.MEMBER
        try:
            account, token = await in_thread(accounts.create, actor_of(request), name, role)
        except (FormProblem, NameTaken) as problem:
            return await _users_page(request, accounts, problem=str(problem), name=name)
        return _link_page(request, account, token)

    @get("/{user_id:str}")
    async def user(self, request: AnyRequest, accounts: Accounts, seen: LastSeen, user_id: str) -> Page:
        """Show one user and where they are signed in."""
        groups = await in_thread(seen.devices.list_groups, limit=MAX_PAGE)
        return await _user_page(request, accounts, user_id, groups=list(groups))

    @post("/{user_id:str}/group")
    async def group(self, request: AnyRequest, accounts: Accounts, seen: LastSeen, user_id: str, data: Form) -> Page:
        """Limit a member to a group, or let them see everything again."""
        group_id = data.get("group_id") or None
        if group_id is not None and await in_thread(seen.devices.get_group, group_id) is None:
            raise NotFound("there is no such group")
        await in_thread(accounts.set_group, actor_of(request), user_id, group_id)
        return go(f"/users/{user_id}")

    @post("/{user_id:str}/link")
    async def link(self, request: AnyRequest, accounts: Accounts, user_id: str) -> Page:
        """Make a link with which the user chooses a new password."""
        token = await in_thread(accounts.new_link, actor_of(request), user_id)
        return _link_page(request, await in_thread(accounts.get, user_id), token)

    @post("/{user_id:str}/disable")
    async def disable(self, request: AnyRequest, accounts: Accounts, user_id: str) -> Page:
        """Keep a user out, at once."""
        return await _change(request, accounts, accounts.disable, user_id, f"/users/{user_id}")

    @post("/{user_id:str}/enable")
    async def enable(self, request: AnyRequest, accounts: Accounts, user_id: str) -> Page:
        """Let a user in again."""
        return await _change(request, accounts, accounts.enable, user_id, f"/users/{user_id}")

    @post("/{user_id:str}/delete")
    async def delete(self, request: AnyRequest, accounts: Accounts, user_id: str) -> Page:
        """Remove a user."""
        return await _change(request, accounts, accounts.delete, user_id, "/users")

    @post("/{user_id:str}/revoke-all")
    async def revoke_all(self, request: AnyRequest, accounts: Accounts, user_id: str) -> Page:
        """Sign a user out everywhere."""
        await in_thread(accounts.revoke_all, actor_of(request), user_id)
        return go(f"/users/{user_id}")

    @post("/{user_id:str}/sessions/{session_id:str}/revoke")
    async def revoke(self, request: AnyRequest, accounts: Accounts, user_id: str, session_id: str) -> Page:
        """Sign out one device of a user."""
        await in_thread(accounts.revoke, actor_of(request), user_id, session_id)
        return go(f"/users/{user_id}")


class AuditController(Controller):
    """What happened."""

    path = "/audit"
    include_in_schema = False
    opt = {"needs": Right.ADMINISTRATOR}  # noqa: RUF012 - Litestar's own way
    exception_handlers = {Exception: show_problem}  # noqa: RUF012 - Litestar's own way

    @get("/")
    async def trail(self, request: AnyRequest, accounts: Accounts, before: int | None = None) -> Page:
        """Show the newest entries, or those before one."""
        records = await in_thread(accounts.trail, before, AUDIT_PAGE + 1)
        now = utc(SYSTEM_CLOCK.now())
        shown = records[:AUDIT_PAGE]
        entries = [
            {
                "entry": record.entry,
                "words": relative(record.entry.at, now),
                "network": network_of(record.entry.address),
            }
            for record in shown
        ]
        older = shown[-1].id if len(records) > AUDIT_PAGE else None
        return show(
            request,
            "audit.html",
            entries=entries,
            older=older,
            newest=before is None,
            exports=list_exports("/api/v1/audit"),
        )


async def _change(request: AnyRequest, accounts: Accounts, change: Any, user_id: str, then: str) -> Page:
    try:
        await in_thread(change, actor_of(request), user_id)
    except LastAdministrator as problem:
        return await _user_page(request, accounts, user_id, problem=str(problem))
    return go(then)


async def _users_page(request: AnyRequest, accounts: Accounts, *, problem: str | None = None, name: str = "") -> Page:
    users = await in_thread(_users, accounts)
    status = 200 if problem is None else 422
    return show(
        request,
        "users.html",
        status=status,
        users=users,
        problem=problem,
        name=name,
        roles=list(Role),
        exports=exports("/api/v1/users"),
    )


def _users(accounts: Accounts) -> list[dict[str, Any]]:
    now = utc(SYSTEM_CLOCK.now())
    users = []
    for account in accounts.all():
        sessions = accounts.sessions_of(account.user_id)
        users.append(
            {
                "account": account,
                "state": _state(account),
                "sessions": len(sessions),
                "active_at": sessions[0].last_activity_at if sessions else None,
                "active_words": relative(sessions[0].last_activity_at, now) if sessions else "",
            }
        )
    return users


def _state(account: Account) -> str:
    if not account.is_enabled:
        return "disabled"
    return "" if account.has_password else "has not chosen a password yet"


async def _user_page(
    request: AnyRequest, accounts: Accounts, user_id: str, *, problem: str | None = None, groups: Sequence[Group] = ()
) -> Page:
    account = await in_thread(accounts.get, user_id)
    sessions = await in_thread(accounts.sessions_of, user_id)
    return show(
        request,
        "user.html",
        status=200 if problem is None else 409,
        user=account,
        state=_state(account),
        groups=groups,
        devices=devices_of(sessions, session_of(request)),
        exports=exports("/api/v1/sessions", [("user_id", account.user_id)]),
        problem=problem,
    )


def _link_page(request: AnyRequest, account: Account, token: str) -> Page:
    head = request_session(request).head
    # A proxy's scheme is not seen here; but for this machine itself, sessions work over TLS only.
    scheme = "http" if head.is_plain_localhost() else "https"
    link = f"{scheme}://{head.host}/welcome/{token}"
    return show(request, "link.html", user=account, link=link, days=LINK_LIFE.days)
