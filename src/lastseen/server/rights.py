"""Who asks, and what they may: every route declares what it needs, and a route that declares nothing serves nobody."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from litestar import Litestar
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler

from lastseen.accounts.account import Account
from lastseen.devices.key import GROUP_SCOPES, ApiKey, Scope
from lastseen.errors import ConfigurationError
from lastseen.server.problem import Problem

PRINCIPAL = "lastseen.principal"
"""Where the ASGI scope keeps who asks."""

_EVERYTHING = frozenset(Scope)
_OF_PERSONS = frozenset({Scope.SESSIONS_READ, Scope.SESSIONS_WRITE})


class Right(StrEnum):
    """What a route needs that is no scope of a key."""

    PUBLIC = "public"
    """Nothing: signing in, liveness."""
    SIGNED_IN = "signed in"
    """Any session or key."""
    PERSON = "person"
    """A session: pages of one's own."""
    MONITORING = "monitoring"
    """A session without a group; requests from this machine get there without one."""
    ADMINISTRATOR = "administrator"


Need = Scope | Right


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """Who asks. Before there is an administrator, that is whoever can reach the loopback address."""

    name: str
    """Tells principals apart where requests are counted and answers remembered."""
    scopes: frozenset[Scope] = frozenset()
    rights: frozenset[Right] = frozenset({Right.PUBLIC})
    account: Account | None = None
    key: ApiKey | None = None
    within: str | None = None
    """The group that everything is limited to, or None for no limit."""

    @classmethod
    def of_account(cls, account: Account) -> Principal:
        """Return a person: an administrator may do everything, a member of a group what concerns the group."""
        if account.is_administrator:
            return cls(name=f"user {account.user_id}", scopes=_EVERYTHING, rights=frozenset(Right), account=account)
        if account.group_id is None:
            rights = frozenset(Right) - {Right.ADMINISTRATOR}
            return cls(name=f"user {account.user_id}", scopes=_EVERYTHING, rights=rights, account=account)
        return cls(
            name=f"user {account.user_id}",
            scopes=GROUP_SCOPES | _OF_PERSONS,
            rights=frozenset({Right.PUBLIC, Right.SIGNED_IN, Right.PERSON}),
            account=account,
            within=account.group_id,
        )

    @classmethod
    def of_key(cls, key: ApiKey) -> Principal:
        """Return a program: it may do what the scopes of its key say, with what the key belongs to."""
        rights = frozenset({Right.PUBLIC, Right.SIGNED_IN})
        return cls(name=f"key {key.id}", scopes=key.scopes, rights=rights, key=key, within=key.group_id)

    @property
    def is_nobody(self) -> bool:
        """Whether neither a person nor a key is known: a stranger, or whoever is there before there are accounts."""
        return self.account is None and self.key is None

    @property
    def is_administrator(self) -> bool:
        """Whether the accounts of others may be managed."""
        return self.account is not None and self.account.is_administrator

    @property
    def device_id(self) -> str | None:
        """The device that everything is limited to, or None for no limit."""
        return None if self.key is None else self.key.device_id

    @property
    def site_id(self) -> str | None:
        """The site that everything is limited to, or None for no limit."""
        return None if self.key is None else self.key.site_id

    @property
    def is_limited(self) -> bool:
        """Whether only a part of the devices and keys is there."""
        return self.within is not None or self.device_id is not None

    @property
    def grantable(self) -> frozenset[Scope]:
        """What a key may get that this principal makes; sessions of others are for who manages users."""
        if self.account is not None and not self.account.is_administrator:
            return self.scopes - _OF_PERSONS
        return self.scopes

    def may(self, need: Need) -> bool:
        """Return whether this principal has what a route needs."""
        return need in self.scopes or need in self.rights


STRANGER = Principal(name="stranger")
"""Who asks without a credential for what needs none."""

MONITOR = Principal(name="monitor", rights=frozenset({Right.PUBLIC, Right.MONITORING}))
"""Who asks from this machine for what monitoring reads."""

ANYBODY = Principal(name="anybody", scopes=_EVERYTHING, rights=frozenset(Right) - {Right.ADMINISTRATOR})
"""Who asks on a loopback address before there is an account."""


def principal_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Principal:
    """Return who asks."""
    found: Principal = connection.scope.get(PRINCIPAL, STRANGER)  # type: ignore[assignment]
    return found


def need_of(handler: BaseRouteHandler, method: str | None = None) -> Need | None:
    """Return what a route declares (`needs=`), or None. OPTIONS only tells which methods there are."""
    if method == "OPTIONS" and "needs" not in handler.opt:
        return Right.SIGNED_IN
    need: Need | None = handler.opt.get("needs")
    return need


def require_right(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Refuse who has not what the route needs; a guard of every route."""
    need = need_of(handler, connection.scope.get("method"))  # type: ignore[arg-type]
    principal = principal_of(connection)
    if need is None or not principal.may(need):
        raise refusal(need, principal)


def refusal(need: Need | None, principal: Principal) -> Problem:
    """Return the answer to somebody who may not."""
    if need is None:
        return Problem(403, "this route says not who may use it, so nobody may; that is a defect of lastseen")
    if need is Right.ADMINISTRATOR:
        if principal.is_nobody:
            return Problem(404, "there are no accounts yet; open the set-up link that lastseen serve has printed")
        return Problem(403, "only administrators may see this page")
    if isinstance(need, Scope):
        whose = "this key has not" if principal.key is not None else "you have not"
        return Problem(403, f"{whose} the scope {need} that this needs", code="scope_missing", scope=need.value)
    return Problem(403, "this needs the session of somebody who may see everything", code="scope_missing")


def check_declared(app: Litestar) -> None:
    """Raise `ConfigurationError` that names the routes which declare nothing, so that none is left open or shut."""
    missing = [
        path for path, methods, handler in handlers_of(app) if need_of(handler) is None and methods != {"OPTIONS"}
    ]
    if missing:
        raise ConfigurationError(
            f"these routes declare not what they need (needs=…): {', '.join(sorted(set(missing)))}"
        )


def handlers_of(app: Litestar) -> Iterator[tuple[str, set[str], HTTPRouteHandler]]:
    """Yield each route's path, methods and handler."""
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            if isinstance(handler, HTTPRouteHandler):
                yield route.path, {str(method) for method in handler.http_methods}, handler
