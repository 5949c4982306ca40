"""One API key: what it may do, and its end."""

from __future__ import annotations

from litestar import get, post

from lastseen.accounts.audit import AuditAction
from lastseen.app import LastSeen
from lastseen.clock import SYSTEM_CLOCK, utc
from lastseen.devices.key import ApiKey, Scope
from lastseen.server.api.keys import told
from lastseen.server.pages.devices.asking import Pages, address, checked_id, groups_of
from lastseen.server.pages.devices.key_rows import owner_of
from lastseen.server.pages.frame import AnyRequest, go, show
from lastseen.server.pages.live import Page
from lastseen.server.pages.relative import relative
from lastseen.server.problem import Problem
from lastseen.server.rights import Principal
from lastseen.server.trail import Trail

OVERLAPS = ((0, "at once"), (3_600, "in an hour"), (86_400, "in a day"), (7 * 86_400, "in a week"))
"""When the old key of a rotation ends: seconds, and words. The third is proposed."""


class KeyPages(Pages):
    """The pages of one key."""

    path = "/key"

    @get("/", needs=Scope.KEYS_READ, sync_to_thread=True)
    def show_key(self, request: AnyRequest, seen: LastSeen, principal: Principal, id: str = "") -> Page:  # noqa: A002 - its name in the address
        """Show what is known of a key; its secret is not."""
        now = utc(SYSTEM_CLOCK.now())
        key = find_key(seen, principal, id)
        names = {group.id: group.name for group in groups_of(seen, principal)}
        return show(
            request,
            "devices/key.html",
            key=key,
            state=key.status(now).value,
            owner=owner_of(key, names),
            scopes=sorted(key.scopes),
            is_grantable=key.scopes <= principal.grantable,
            overlaps=OVERLAPS,
            relative=lambda moment: relative(moment, now),
        )

    @get("/revoke", needs=Scope.KEYS_WRITE, sync_to_thread=True)
    def ask_to_revoke(self, request: AnyRequest, seen: LastSeen, principal: Principal, id: str = "") -> Page:  # noqa: A002 - as above
        """Ask once more."""
        key = find_key(seen, principal, id)
        return show(
            request,
            "devices/confirm.html",
            question=f"Revoke {key.name or key.prefix}?",
            words=f"Whatever still sends the key ls_{key.prefix}_… is refused from that moment, for good.",
            action=address("/key/revoke", {"id": key.id}),
            button="Revoke it for good",
            back=address("/key", {"id": key.id}),
        )

    @post("/revoke", needs=Scope.KEYS_WRITE, sync_to_thread=True)
    def revoke(
        self,
        seen: LastSeen,
        principal: Principal,
        trail: Trail,
        id: str = "",  # noqa: A002 - as above
    ) -> Page:
        """Let it work no more."""
        key = seen.keys.revoke(find_key(seen, principal, id).id, within=principal.within)
        trail.note(AuditAction.KEY_REVOKED, key.id, *told(key))
        return go(address("/key", {"id": key.id}))


def find_key(seen: LastSeen, principal: Principal, key_id: str) -> ApiKey:
    """Return a key; 404 when it is not there for this principal."""
    key = seen.keys.get(checked_id(key_id, "key"), within=principal.within)
    if key is None:
        raise Problem(404, "there is no such key")
    return key
