"""New API keys, and successors of old ones: the secret is on the answer to the form, and nowhere else."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from litestar import get, post

from lastseen.accounts.audit import AuditAction
from lastseen.app import LastSeen
from lastseen.clock import SYSTEM_CLOCK, utc
from lastseen.devices.key import GROUP_SCOPES, SITE_SCOPES, ApiKey, Scope, Secret
from lastseen.devices.values import MAX_NAME_LENGTH, check_text
from lastseen.server.api.keys import require_grantable, told
from lastseen.server.pages.devices.asking import (
    Form,
    Pages,
    WrongField,
    address,
    checking,
    find_group,
    groups_of,
    show_form,
)
from lastseen.server.pages.devices.device import find_device
from lastseen.server.pages.devices.key import OVERLAPS, find_key
from lastseen.server.pages.devices.key_list import OWNERS, name_of_owner
from lastseen.server.pages.frame import AnyRequest, show
from lastseen.server.pages.live import Page
from lastseen.server.problem import Problem
from lastseen.server.rights import Principal
from lastseen.server.trail import Trail
from lastseen.visits.site import SiteNotFound

SCOPE_WORDS = {
    Scope.ACTIVITY_WRITE: "say that a client was active",
    Scope.CLIENTS_READ: "clients and when they were active",
    Scope.DEVICES_READ: "list devices",
    Scope.DEVICES_WRITE: "register, change and delete devices",
    Scope.KEYS_READ: "list keys, never their secrets",
    Scope.KEYS_WRITE: "make, rotate and revoke keys",
    Scope.GROUPS_READ: "list groups",
    Scope.GROUPS_WRITE: "make, rename and delete groups",
    Scope.SITES_READ: "list sites",
    Scope.SITES_WRITE: "make, change and delete sites",
    Scope.EVENTS_WRITE: "send events",
    Scope.VISITS_READ: "visits and their events",
    Scope.REPORTS_READ: "figures about visits",
    Scope.SESSIONS_READ: "where users are signed in",
    Scope.SESSIONS_WRITE: "sign users out",
}
_FIELD = "scope "


class KeyMakingPages(Pages):
    """The pages that make secrets."""

    path = "/"

    @get("/keys/new", needs=Scope.KEYS_WRITE, sync_to_thread=True)
    def ask(  # noqa: PLR0917 - Litestar fills them by name
        self,
        request: AnyRequest,
        seen: LastSeen,
        principal: Principal,
        device: str = "",
        group: str = "",
        site: str = "",
    ) -> Page:
        """Ask what the new key may do."""
        given = {"device": device, "group": group, "site": site}
        owner = next((kind for kind in OWNERS if given[kind]), None)
        if owner is None:
            return _new_form(request, seen, principal, {})
        name_of_owner(seen, principal, owner, given[owner])
        return _new_form(request, seen, principal, {"owner": f"{owner} {given[owner]}"})

    @post("/keys/new", needs=Scope.KEYS_WRITE, sync_to_thread=True)
    def create(self, request: AnyRequest, seen: LastSeen, principal: Principal, trail: Trail, data: Form) -> Page:
        """Make it."""
        try:
            key, secret = _create(seen, principal, data)
        except WrongField as problem:
            return _new_form(request, seen, principal, data, problem)
        trail.note(AuditAction.KEY_CREATED, key.id, *told(key))
        return _show_secret(request, key, secret)

    @post("/key/rotate", needs=Scope.KEYS_WRITE, sync_to_thread=True)
    def rotate(  # noqa: PLR0917 - Litestar fills them by name
        self,
        request: AnyRequest,
        seen: LastSeen,
        principal: Principal,
        trail: Trail,
        data: Form,
        id: str = "",  # noqa: A002 - its name in the address
    ) -> Page:
        """Make a successor; the old key works on for the overlap."""
        old = find_key(seen, principal, id)
        require_grantable(principal, old.scopes)
        overlap = data.get("overlap", "")
        if overlap not in {str(seconds) for seconds, _ in OVERLAPS}:
            raise Problem(422, "choose from the list when the old key ends")
        key, secret = seen.keys.rotate(old.id, overlap=timedelta(seconds=int(overlap)), within=principal.within)
        trail.note(AuditAction.KEY_ROTATED, old.id, *told(key))
        return _show_secret(request, key, secret, old=find_key(seen, principal, old.id))


def _create(seen: LastSeen, principal: Principal, data: Form) -> tuple[ApiKey, Secret]:
    name = data.get("name", "").strip()
    with checking("name"):
        check_text("The name", name, MAX_NAME_LENGTH, required=True)
    owner = _owner(seen, principal, data.get("owner", ""))
    with checking("scopes"):
        scopes = frozenset(Scope(field.removeprefix(_FIELD)) for field in data if _is_scope(field))
        require_grantable(principal, scopes)
    expires_at = _expiry(data.get("expires", ""))
    with checking("scopes"):
        return seen.keys.create(name, scopes=scopes, expires_at=expires_at, within=principal.within, **owner)


def _is_scope(field: str) -> bool:
    return field.startswith(_FIELD) and field.removeprefix(_FIELD) in set(Scope)


def _owner(seen: LastSeen, principal: Principal, text: str) -> dict[str, str]:
    """Return what the key is to belong to; raises `WrongField` when that is not there for this principal."""
    kind, _, owner_id = text.partition(" ")
    if not text:
        if principal.within is not None:
            raise WrongField("owner", "Choose your group, or one of its devices.")
        return {}
    try:
        if kind == "device":
            find_device(seen, principal, owner_id)
        elif kind == "group":
            find_group(seen, principal, owner_id)
        elif kind == "site" and principal.within is None:
            seen.sites.get(owner_id)
        else:
            raise WrongField("owner", "Choose one of the list.")
    except (Problem, SiteNotFound) as error:
        raise WrongField("owner", f"There is no such {kind}.") from error
    return {f"{kind}_id": owner_id}


def _expiry(text: str) -> datetime | None:
    """Return the last second of a day, UTC; raises `WrongField` for what is no day to come."""
    if not text:
        return None
    try:
        end = datetime.combine(date.fromisoformat(text), time(23, 59, 59), UTC)
    except ValueError as error:
        raise WrongField("expires", "Write a day as 2027-01-31.") from error
    if end <= utc(SYSTEM_CLOCK.now()):
        raise WrongField("expires", "This day is over; the key would never work.")
    return end


def _new_form(
    request: AnyRequest, seen: LastSeen, principal: Principal, fields: dict[str, str], problem: WrongField | None = None
) -> Page:
    return show_form(
        request,
        "devices/key_new.html",
        problem,
        fields=fields,
        owners=_owners(seen, principal, fields.get("owner", "")),
        within=principal.within,
        scopes=_scopes(principal, fields),
        today=utc(SYSTEM_CLOCK.now()).date().isoformat(),
    )


def _owners(seen: LastSeen, principal: Principal, chosen: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return what can be chosen, by kind; a device only when one comes from its page, there may be too many."""
    kind, _, device_id = chosen.partition(" ")
    devices = []
    if kind == "device":
        device = seen.devices.get(device_id, within=principal.within)
        devices = [] if device is None else [(f"device {device.id}", device.name or device.id)]
    groups = [(f"group {group.id}", group.name) for group in groups_of(seen, principal)]
    sites = [] if principal.within is not None else [(f"site {site.id}", site.name) for site in seen.sites.list()]
    return [(word, choices) for word, choices in (("Device", devices), ("Groups", groups), ("Sites", sites)) if choices]


def _scopes(principal: Principal, fields: dict[str, str]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the scopes that this principal may give, by what may hold them."""
    kinds = (
        ("For the key of a device or a group, or of nothing", GROUP_SCOPES),
        ("For the key of a site, or of nothing", SITE_SCOPES),
        ("Only for a key of nothing", frozenset(Scope) - GROUP_SCOPES - SITE_SCOPES),
    )
    found = []
    for words, scopes in kinds:
        offered = [scope for scope in Scope if scope in scopes & principal.grantable]
        rows = [
            {"name": scope.value, "words": SCOPE_WORDS[scope], "is_chosen": f"{_FIELD}{scope.value}" in fields}
            for scope in offered
        ]
        if rows:
            found.append((words, rows))
    return found


def _show_secret(request: AnyRequest, key: ApiKey, secret: Secret, old: ApiKey | None = None) -> Page:
    # Said here too, whatever the gate says of every page: this one must never be kept by anybody.
    headers = {"cache-control": "no-store"}
    back = address("/key", {"id": key.id})
    return show(request, "devices/key_made.html", headers=headers, key=key, secret=secret.reveal(), old=old, back=back)
