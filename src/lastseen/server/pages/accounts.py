"""Sign in and out, choose a password, see one's own devices."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Controller, Response, get, post
from litestar.enums import RequestEncodingType
from litestar.params import Body

from lastseen.accounts.account import Account, AccountError, AccountNotFound
from lastseen.accounts.manager import Accounts, Actor, FormProblem
from lastseen.accounts.passwords import MIN_LENGTH, RECOMMENDED_LENGTH
from lastseen.accounts.sign_in import Throttled
from lastseen.clock import SYSTEM_CLOCK, utc
from lastseen.server.access import SIGN_IN
from lastseen.server.pages.exports import exports
from lastseen.server.pages.frame import AnyRequest, go, show, show_problem, viewer_of
from lastseen.server.pages.password_threads import PasswordThreads
from lastseen.server.pages.relative import relative
from lastseen.server.problem import Problem
from lastseen.server.rights import Right
from lastseen.sessions.session import Session
from lastseen.web.sessions.asgi import reauthenticate, request_session, return_target, sign_in, sign_out
from lastseen.web.sessions.threads import in_thread

Form = Annotated[dict[str, str], Body(media_type=RequestEncodingType.URL_ENCODED)]
Page = Response[Any]

MAX_FORM = 16 * 1024
WRONG = "The name or the password is wrong."


def actor_of(request: AnyRequest) -> Actor:
    """Return who asks; raises the answer for somebody who is not signed in, which happens before the set-up only."""
    viewer = viewer_of(request)
    if viewer is None:
        raise Problem(404, "there are no accounts yet; open the set-up link that lastseen serve has printed")
    return Actor(account=viewer, address=address_of(request))


def address_of(request: AnyRequest) -> str:
    """Return the address of the client, as the connection shows it: no header is believed."""
    return request_session(request).head.address


def account_of(actor: Actor) -> Account:
    """Return the account of somebody who is signed in."""
    if actor.account is None:
        raise Problem(404, "there are no accounts yet")
    return actor.account


def session_of(request: AnyRequest) -> Session:
    """Return the session of somebody who is signed in."""
    return request_session(request).require()


def devices_of(sessions: Any, current: Session | None) -> list[dict[str, Any]]:
    """Return what a list of devices shows."""
    now = utc(SYSTEM_CLOCK.now())
    return [
        {
            "id": session.id,
            "device": session.device or "Unknown device",
            "network": network_of(session.address),
            "since": session.created_at,
            "since_words": relative(session.created_at, now),
            "active": session.last_activity_at,
            "active_words": relative(session.last_activity_at, now),
            "is_current": current is not None and session.id == current.id,
        }
        for session in sessions
    ]


def network_of(address: str) -> str:
    """Return how a coarse address is shown."""
    return "this machine" if address in {"127.0.0.0", "::"} else address


class SignInController(Controller):
    """The pages that need no session."""

    opt = {"needs": Right.PUBLIC}  # noqa: RUF012 - Litestar's own way
    include_in_schema = False
    exception_handlers = {Exception: show_problem}  # noqa: RUF012 - Litestar's own way
    request_max_body_size = MAX_FORM

    @get(SIGN_IN)
    async def sign_in_page(self, request: AnyRequest) -> Page:
        """Ask for name and password; who is signed in goes on."""
        if viewer_of(request) is not None:
            return go("/")
        return _sign_in_form(request)

    @post(SIGN_IN)
    async def sign_in(self, request: AnyRequest, accounts: Accounts, threads: PasswordThreads, data: Form) -> Page:
        """Check them; the session that came with the request ends."""
        name, password, address = data.get("name", ""), data.get("password", ""), address_of(request)
        try:
            account = await threads.run(accounts.verify, name, password, address)
        except Throttled as throttled:
            headers = {"retry-after": str(throttled.seconds)}
            return _sign_in_form(request, problem=str(throttled), name=name, status=429, headers=headers)
        if account is None:
            return _sign_in_form(request, problem=WRONG, name=name, status=403)
        return await _enter(request, accounts, account)

    @post("/sign-out")
    async def sign_out(self, request: AnyRequest, accounts: Accounts) -> Page:
        """End the session."""
        viewer, session = viewer_of(request), request_session(request).session
        if await sign_out(request) and session is not None:
            actor = Actor(account=viewer, address=address_of(request))
            await in_thread(accounts.signed_out, actor, session.device)
        return go(SIGN_IN)

    @get("/set-up/{token:str}")
    async def set_up_page(self, request: AnyRequest, accounts: Accounts, token: str) -> Page:
        """Ask the first administrator for name and password."""
        if not await in_thread(accounts.is_set_up_token, token):
            raise AccountNotFound("This link has been used or has expired. Restart the server for a new one.")
        return _password_form(request, for_set_up=True)

    @post("/set-up/{token:str}")
    async def set_up(
        self, request: AnyRequest, accounts: Accounts, threads: PasswordThreads, token: str, data: Form
    ) -> Page:
        """Make the first administrator, who is signed in at once."""
        name = data.get("name", "")
        try:
            account = await threads.run(accounts.set_up, token, name, data.get("password", ""), address_of(request))
        except FormProblem as problem:
            return _password_form(request, for_set_up=True, name=name, problem=problem)
        return await _enter(request, accounts, account)

    @get("/welcome/{token:str}")
    async def link_page(self, request: AnyRequest, accounts: Accounts, token: str) -> Page:
        """Ask the owner of a one-time link for a password."""
        account = await in_thread(accounts.link_account, token)
        if account is None:
            raise AccountNotFound("This link has been used or has expired. Ask an administrator for a new one.")
        return _password_form(request, name=account.name)

    @post("/welcome/{token:str}")
    async def use_link(
        self, request: AnyRequest, accounts: Accounts, threads: PasswordThreads, token: str, data: Form
    ) -> Page:
        """Set the password; the owner is signed in at once."""
        try:
            account = await threads.run(accounts.redeem_link, token, data.get("password", ""), address_of(request))
        except FormProblem as problem:
            owner = await in_thread(accounts.link_account, token)
            return _password_form(request, name="" if owner is None else owner.name, problem=problem)
        return await _enter(request, accounts, account)


class OwnAccountController(Controller):
    """One's own devices and password."""

    path = "/account"
    opt = {"needs": Right.PERSON}  # noqa: RUF012 - as above
    include_in_schema = False
    exception_handlers = {Exception: show_problem}  # noqa: RUF012 - Litestar's own way
    request_max_body_size = MAX_FORM

    @get("/devices")
    async def devices(self, request: AnyRequest, accounts: Accounts) -> Page:
        """Show where one is signed in."""
        account, session = account_of(actor_of(request)), session_of(request)
        sessions = await in_thread(accounts.sessions_of, account.user_id)
        shown = devices_of(sessions, session)
        return show(request, "devices.html", devices=shown, exports=exports("/api/v1/sessions"))

    @post("/devices/{session_id:str}/revoke")
    async def revoke(self, request: AnyRequest, accounts: Accounts, session_id: str) -> Page:
        """Sign out one device; somebody else's is as unknown as any other."""
        actor = actor_of(request)
        await in_thread(accounts.revoke, actor, account_of(actor).user_id, session_id)
        return go("/account/devices")

    @post("/devices/revoke-others")
    async def revoke_others(self, request: AnyRequest, accounts: Accounts) -> Page:
        """Sign out every device but this one."""
        actor, session = actor_of(request), session_of(request)
        await in_thread(accounts.revoke_all, actor, account_of(actor).user_id, except_id=session.id)
        return go("/account/devices")

    @get("/password")
    async def password_page(self, request: AnyRequest) -> Page:
        """Ask for the current password and a new one."""
        return _change_form(request, account_of(actor_of(request)))

    @post("/password")
    async def change_password(
        self, request: AnyRequest, accounts: Accounts, threads: PasswordThreads, data: Form
    ) -> Page:
        """Change it: this session gets a new token, all others end."""
        actor, session = actor_of(request), session_of(request)
        account = account_of(actor)
        try:
            await threads.run(
                accounts.change_password, actor, data.get("current_password", ""), data.get("password", "")
            )
        except AccountError as problem:
            return _change_form(request, account, problem)
        await in_thread(accounts.revoke_all, actor, account.user_id, except_id=session.id)
        await reauthenticate(request)
        return go("/account/devices")


async def _enter(request: AnyRequest, accounts: Accounts, account: Account) -> Page:
    issued = await sign_in(request, account.user_id)
    await in_thread(accounts.signed_in, account, address_of(request), issued.session.device)
    return go(return_target(request))


def _sign_in_form(
    request: AnyRequest,
    *,
    problem: str | None = None,
    name: str = "",
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Page:
    head = request_session(request).head
    # Browsers send this header to trustworthy addresses only (https://www.w3.org/TR/fetch-metadata/): without it the
    # page came over plain http, and the browser will not keep the cookie.
    lacks_tls = "sec-fetch-site" not in head.headers and not head.is_plain_localhost()
    return show(
        request, "sign_in.html", status=status, headers=headers, problem=problem, name=name, lacks_tls=lacks_tls
    )


def _password_form(
    request: AnyRequest, *, for_set_up: bool = False, name: str = "", problem: FormProblem | None = None
) -> Page:
    return show(
        request,
        "choose_password.html",
        status=200 if problem is None else 422,
        for_set_up=for_set_up,
        name=name,
        problem=problem,
        field=None if problem is None else problem.field,
        min_length=MIN_LENGTH,
        recommended_length=RECOMMENDED_LENGTH,
    )


def _change_form(request: AnyRequest, account: Account, problem: AccountError | None = None) -> Page:
    throttled = isinstance(problem, Throttled)
    return show(
        request,
        "change_password.html",
        status=200 if problem is None else 429 if throttled else 422,
        name=account.name,
        problem=problem,
        field=problem.field if isinstance(problem, FormProblem) else None,
        min_length=MIN_LENGTH,
        recommended_length=RECOMMENDED_LENGTH,
    )
