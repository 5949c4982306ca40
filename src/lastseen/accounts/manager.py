"""The server's accounts: set up, sign in, manage, and say who did it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from lastseen.accounts.account import (
    Account,
    AccountError,
    AccountNotFound,
    OneTimeLink,
    Role,
    clean_name,
    name_problem,
)
from lastseen.accounts.audit import AuditAction, AuditEntry, AuditRecord
from lastseen.accounts.passwords import Argon2Hasher, PasswordHasher, password_problem
from lastseen.accounts.sessions import AccountSessions
from lastseen.accounts.set_up import SetUpLink
from lastseen.accounts.sign_in import PasswordCheck
from lastseen.accounts.store import AUDIT_PAGE, AccountStore
from lastseen.clock import SYSTEM_CLOCK, Clock, utc
from lastseen.sessions.address import anonymized
from lastseen.sessions.events import SessionEvent, SessionEventKind
from lastseen.sessions.manager import activity_tracking
from lastseen.sessions.policy import BROWSER
from lastseen.sessions.session import Session
from lastseen.sessions.store import SessionStore
from lastseen.sessions.token import digest_of, is_token, new_session_id, new_token

LINK_LIFE = timedelta(days=3)


@dataclass(frozen=True, kw_only=True, slots=True)
class Actor:
    """Who asks for something, and from which address; for the audit trail."""

    account: Account | None = None
    address: str = ""
    name: str = ""
    """Of a program, which has no account."""


class FormProblem(AccountError):
    """Something that was typed cannot be; `field` is name, password, current_password or group."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class Accounts:
    """Every change to accounts and their sessions, each with its entry in the audit trail.

    Methods block: they ask the store, and those that take a password hash it, which takes a tenth of a second. They
    raise `AccountError` for what a person can mend, and the store's errors.
    """

    def __init__(
        self,
        store: AccountStore,
        sessions: SessionStore,
        *,
        hasher: PasswordHasher | None = None,
        clock: Clock = SYSTEM_CLOCK,
        logger: logging.Logger | None = None,
    ) -> None:
        self._store = store
        self._hasher = hasher or Argon2Hasher()
        self._clock = clock
        self._logger = logger or logging.getLogger("lastseen.accounts")
        self._passwords = PasswordCheck(store, self._hasher, clock)
        self._set_up_link = SetUpLink()
        self.is_known_to_be_set_up = False
        """False also when nobody has looked since another process was told."""
        self.sessions = AccountSessions(
            sessions, store, policy=BROWSER, tracking=activity_tracking(), on_event=self._hear, clock=clock
        )
        self.watching_sessions = AccountSessions(sessions, store, policy=BROWSER, clock=clock)
        """The same sessions, for requests that a page makes by itself: they are no activity of a person."""

    # The first administrator

    def is_set_up(self) -> bool:
        """Return whether there is an administrator; once there is, nobody is asked again."""
        if not self.is_known_to_be_set_up and self._store.has_administrator():
            self.is_known_to_be_set_up = True
            self._set_up_link.end()
        return self.is_known_to_be_set_up

    def new_set_up_token(self) -> str:
        """Return the token of a link for the first administrator: works once, for an hour, in this process."""
        return self._set_up_link.make(self._clock.monotonic())

    def is_set_up_token(self, token: str) -> bool:
        """Return whether the link with this token still works."""
        return self._set_up_link.is_valid(token, self._clock.monotonic()) and not self.is_set_up()

    def set_up(self, token: str, name: str, password: str, address: str) -> Account:
        """Make the first administrator; raises `AccountNotFound` for a token that does not work, and `FormProblem`."""
        if not self.is_set_up_token(token):
            raise AccountNotFound("This link has been used or has expired. Restart the server for a new one.")
        _check(name, password)
        account = self._new_account(name, Role.ADMINISTRATOR)
        entry = self._entry(AuditAction.SET_UP, Actor(account=account, address=address), account)
        if not self._store.add_first_administrator(account, self._hasher.hash(password), entry):
            raise AccountNotFound("There is an administrator already.")
        self.is_set_up()
        return account

    # Passwords and links

    def verify(self, name: str, password: str, address: str) -> Account | None:
        """Return the account whose password this is, else None; raises `Throttled`. A failure is in the trail.

        Also what a failure costs is the same for a name that nobody has.
        """
        account = self._passwords.check(name, password, address)
        if account is None:
            found = self._store.find_credentials(name)
            subject = None if found is None else found.account
            detail = "unknown name" if subject is None else "" if subject.is_enabled else "disabled"
            self._tell(AuditAction.SIGN_IN_FAILED, Actor(address=address), subject, detail)
        return account

    def change_password(self, actor: Actor, current: str, password: str) -> None:
        """Replace one's own password; the caller rotates the session and ends the others.

        Raises `FormProblem` for a wrong current password and for one that is not good enough, and `Throttled`.
        """
        account = _required(actor.account)
        if problem := password_problem(password, account.name):
            raise FormProblem("password", problem)
        if self._passwords.check(account.name, current, actor.address) is None:
            self._tell(AuditAction.PASSWORD_REFUSED, actor, account)
            raise FormProblem("current_password", "This is not your current password.")
        entry = self._entry(AuditAction.PASSWORD_CHANGED, actor, account)
        self._store.set_password(account.user_id, self._hasher.hash(password), entry)

    def link_account(self, token: str) -> Account | None:
        """Return the account whose one-time link this is, while it works."""
        return self._store.find_link(digest_of(token), self._now()) if is_token(token) else None

    def redeem_link(self, token: str, password: str, address: str) -> Account:
        """Set the password that the link is for, and end all sessions of the account.

        Raises `AccountNotFound` for a link that does not work, and `FormProblem`.
        """
        account = self.link_account(token)
        if account is None:
            raise AccountNotFound("This link has been used or has expired. Ask an administrator for a new one.")
        if problem := password_problem(password, account.name):
            raise FormProblem("password", problem)
        entry = self._entry(AuditAction.LINK_USED, Actor(account=account, address=address), account)
        self._store.redeem_link(digest_of(token), self._hasher.hash(password), self._now(), entry)
        self.sessions.revoke_all(account.user_id, reason="new password")
        return account

    # Accounts

    def get(self, user_id: str) -> Account:
        """Return an account; raises `AccountNotFound`."""
        account = self._store.get_account(user_id)
        if account is None:
            raise AccountNotFound("There is no such user.")
        return account

    def find(self, user_id: str) -> Account | None:
        """Return an account, or None."""
        return self._store.get_account(user_id)

    def named(self, name: str) -> Account:
        """Return the account with this name, whatever its case; raises `AccountNotFound`."""
        found = self._store.find_credentials(name)
        if found is None:
            raise AccountNotFound(f"There is no account {clean_name(name)!r}; lastseen accounts list shows the names.")
        return found.account

    def all(self) -> Sequence[Account]:
        """Return all accounts, by name."""
        return self._store.list_accounts()

    def create(self, actor: Actor, name: str, role: Role, group_id: str | None = None) -> tuple[Account, str]:
        """Make an account; return it with the token of the link with which its owner chooses a password.

        Whether there is such a group is the caller's affair; only a member may be in one.
        """
        if problem := name_problem(name):
            raise FormProblem("name", problem)
        _check_group(role, group_id)
        account = replace(self._new_account(name, role, has_password=False), group_id=group_id)
        token, link = self._new_link()
        entry = self._entry(AuditAction.USER_CREATED, actor, account, role.value)
        self._store.add_account(account, link, entry)
        return account, token

    def new_link(self, actor: Actor, user_id: str) -> str:
        """Return the token of a link with which the owner chooses a new password; the old one works until then.

        Raises `AccountError` for an account that is disabled: its link would not work.
        """
        account = self.get(user_id)
        if not account.is_enabled:
            raise AccountError(
                f"{account.name} is disabled, and no link works; an administrator can enable the account."
            )
        token, link = self._new_link()
        self._store.set_link(user_id, link, self._entry(AuditAction.LINK_MADE, actor, account))
        return token

    def disable(self, actor: Actor, user_id: str) -> None:
        """Keep a user from signing in, and end the sessions."""
        entry = self._entry(AuditAction.USER_DISABLED, actor, self.get(user_id))
        self._store.disable_account(user_id, self._now(), entry)
        self.sessions.revoke_all(user_id, reason="disabled")

    def enable(self, actor: Actor, user_id: str) -> None:
        """Let a user sign in again."""
        self._store.enable_account(user_id, self._entry(AuditAction.USER_ENABLED, actor, self.get(user_id)))

    def set_group(self, actor: Actor, user_id: str, group_id: str | None) -> None:
        """Limit a member to a group, or None for no limit; raises `FormProblem` for an administrator."""
        account = self.get(user_id)
        _check_group(account.role, group_id)
        entry = self._entry(AuditAction.GROUP_CHANGED, actor, account, group_id or "no group")
        self._store.set_group(user_id, group_id, entry)

    def delete(self, actor: Actor, user_id: str) -> None:
        """Remove a user, and end the sessions; the trail keeps the name."""
        self._store.delete_account(user_id, self._entry(AuditAction.USER_DELETED, actor, self.get(user_id)))
        self.sessions.revoke_all(user_id, reason="deleted")

    # Sessions

    def sessions_of(self, user_id: str) -> Sequence[Session]:
        """Return the user's valid sessions, most recently active first."""
        return self.sessions.sessions_of(user_id)

    def signed_in(self, account: Account, address: str, device: str) -> None:
        """Note a sign-in that has just been made."""
        self._tell(AuditAction.SIGNED_IN, Actor(account=account, address=address), account, device)

    def signed_out(self, actor: Actor, device: str) -> None:
        """Note a sign-out that has just been made."""
        self._tell(AuditAction.SIGNED_OUT, actor, actor.account, device)

    def revoke(self, actor: Actor, user_id: str, session_id: str) -> None:
        """End one session of a user; raises `SessionNotFound`, also when it is somebody else's."""
        account = self.get(user_id)
        session = self.sessions.store.get_session(session_id)
        self.sessions.revoke(user_id, session_id)
        detail = session.device if session is not None else ""
        self._tell(AuditAction.SESSION_REVOKED, actor, account, detail)

    def revoke_all(self, actor: Actor, user_id: str, *, except_id: str | None = None) -> int:
        """End all sessions of a user, but for one."""
        account = self.get(user_id)
        ended = self.sessions.revoke_all(user_id, except_id=except_id)
        if ended:
            self._tell(AuditAction.SESSIONS_REVOKED, actor, account, f"{ended} ended")
        return ended

    def note(self, actor: Actor, action: AuditAction, subject_id: str, subject_name: str, detail: str = "") -> None:
        """Note what has just been done to something that is no account: a key, a device, a group, a site."""
        entry = self._entry(action, actor, None, detail)
        self._store.append_audit(replace(entry, subject_id=subject_id, subject_name=subject_name))

    def trail(self, before: int | None = None, limit: int = AUDIT_PAGE) -> Sequence[AuditRecord]:
        """Return what happened, the newest first."""
        return self._store.list_audit(limit, before)

    def stop_recording(self) -> None:
        """Record nothing more, and begin to save what is known of activity; `close` waits for that."""
        if self.sessions.tracker is not None:
            self.sessions.tracker.stop_recording()

    def close(self) -> int:
        """Save what is known of activity; returns how many sessions' could not be saved. Safe twice."""
        return self.sessions.close()

    # Inside

    def _new_account(self, name: str, role: Role, *, has_password: bool = True) -> Account:
        now = self._now()
        # A user of its own for each account: one who gets the name of a deleted one inherits nothing.
        user_id = self.sessions.store.upsert_user(f"account:{new_session_id()}", now)
        return Account(user_id=user_id, name=clean_name(name), role=role, created_at=now, has_password=has_password)

    def _new_link(self) -> tuple[str, OneTimeLink]:
        token = new_token()
        return token, OneTimeLink(digest=digest_of(token), expires_at=self._now() + LINK_LIFE)

    def _hear(self, event: SessionEvent) -> None:
        if event.kind is not SessionEventKind.NEW_DEVICE or event.user_id is None:
            return
        account = self._store.get_account(event.user_id)
        session = self.sessions.store.get_session(event.session_id or "")
        address = "" if session is None else session.address
        self._tell(AuditAction.NEW_DEVICE, Actor(account=account, address=address), account, event.detail["device"])

    def _tell(self, action: AuditAction, actor: Actor, subject: Account | None, detail: str = "") -> None:
        self._store.append_audit(self._entry(action, actor, subject, detail))

    def _entry(self, action: AuditAction, actor: Actor, subject: Account | None, detail: str = "") -> AuditEntry:
        return AuditEntry(
            at=self._now(),
            action=action,
            actor_id=None if actor.account is None else actor.account.user_id,
            actor_name=actor.name if actor.account is None else actor.account.name,
            subject_id=None if subject is None else subject.user_id,
            subject_name="" if subject is None else subject.name,
            address=anonymized(actor.address),
            detail=detail,
        )

    def _now(self) -> datetime:
        return utc(self._clock.now())


def _check(name: str, password: str) -> None:
    if problem := name_problem(name):
        raise FormProblem("name", problem)
    if problem := password_problem(password, clean_name(name)):
        raise FormProblem("password", problem)


def _check_group(role: Role, group_id: str | None) -> None:
    if group_id is not None and role is Role.ADMINISTRATOR:
        raise FormProblem("group", "An administrator sees everything; only a member can be limited to a group.")


def _required(account: Account | None) -> Account:
    if account is None:
        raise AccountNotFound("There is no such user.")
    return account
