"""`/api/v1/keys…`: made, listed, rotated, revoked; never more than whoever asks may do themselves."""

from __future__ import annotations

from datetime import timedelta

from litestar import Controller, Response, delete, get, post

from lastseen.accounts.audit import AuditAction
from lastseen.app import LastSeen
from lastseen.clock import SYSTEM_CLOCK, utc
from lastseen.devices.key import ApiKey, KeyStatus, Scope, Secret
from lastseen.server.api.asking import Cursor, Limit, QueryId, checked_id, id_of
from lastseen.server.api.exports import Export, ExportOperation
from lastseen.server.api.idempotency import Once
from lastseen.server.problem import Problem
from lastseen.server.rights import Principal
from lastseen.server.trail import Trail
from lastseen.visits.site import SiteNotFound
from lastseen.wire.keys import IssuedKey, KeyList, KeyRotation, KeyView, NewApiKey


class KeysController(Controller):
    """API keys. Whoever is limited to a group, or to one device, finds the keys of these alone."""

    path = "/keys"
    tags = ("keys",)

    @post("/", needs=Scope.KEYS_WRITE, sync_to_thread=True, summary="Make a key", operation_id="CreateKey")
    def create(self, seen: LastSeen, principal: Principal, trail: Trail, once: Once, data: NewApiKey) -> IssuedKey:
        """Make a key. Its secret is in this answer and nowhere else."""
        require_grantable(principal, frozenset(data.scopes))
        _require_reach(seen, principal, data)

        def make() -> IssuedKey:
            key, secret = seen.keys.create(
                data.name,
                scopes=data.scopes,
                device_id=data.device_id,
                group_id=data.group_id,
                site_id=data.site_id,
                expires_at=data.expires_at,
                within=principal.within,
            )
            trail.note(AuditAction.KEY_CREATED, key.id, *told(key))
            return _issued(key, secret)

        return once("CreateKey", data, make)

    @get(
        "/",
        needs=Scope.KEYS_READ,
        sync_to_thread=True,
        summary="List keys",
        operation_id="ListKeys",
        operation_class=ExportOperation,
    )
    def list_keys(  # noqa: PLR0917 - Litestar fills them by name
        self,
        seen: LastSeen,
        principal: Principal,
        export: Export,
        device_id: QueryId = None,
        group_id: QueryId = None,
        site_id: QueryId = None,
        status: KeyStatus | None = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Response[KeyList]:
        """Return one page of keys, the youngest first; also revoked and expired ones unless a status is given."""
        own = principal.device_id
        page = seen.keys.list(
            device_id=checked_id("device_id", device_id) if own is None else own,
            group_id=checked_id("group_id", group_id),
            site_id=checked_id("site_id", site_id),
            status=status,
            limit=limit,
            cursor=cursor,
            within=principal.within,
        )
        hidden = own is not None and device_id not in {None, own}
        keys = [] if hidden else [_view_of(key) for key in page]
        return export(KeyList(keys=keys, next_cursor=None if hidden else page.next_cursor))

    @get("/{key_id:str}", needs=Scope.KEYS_READ, sync_to_thread=True, summary="Show one key", operation_id="GetKey")
    def show(self, seen: LastSeen, principal: Principal, key_id: str) -> KeyView:
        """Return what is known of a key; its secret is not."""
        return _view_of(_find(seen, principal, key_id))

    @post(
        "/{key_id:str}/rotate",
        needs=Scope.KEYS_WRITE,
        sync_to_thread=True,
        summary="Replace a key",
        operation_id="RotateKey",
    )
    def rotate(  # noqa: PLR0917 - Litestar fills them by name
        self,
        seen: LastSeen,
        principal: Principal,
        trail: Trail,
        once: Once,
        key_id: str,
        data: KeyRotation,
    ) -> IssuedKey:
        """Make a successor with the same scopes and owner; the old key works on for the overlap.

        The secret is in this answer and nowhere else.
        """
        key = _find(seen, principal, key_id)
        require_grantable(principal, key.scopes)

        def make() -> IssuedKey:
            overlap = timedelta(seconds=data.overlap_seconds)
            successor, secret = seen.keys.rotate(key.id, overlap=overlap, within=principal.within)
            trail.note(AuditAction.KEY_ROTATED, key.id, *told(successor))
            return _issued(successor, secret)

        return once(f"RotateKey {key.id}", data, make)

    @delete(
        "/{key_id:str}",
        needs=Scope.KEYS_WRITE,
        status_code=200,
        sync_to_thread=True,
        summary="Revoke a key",
        operation_id="RevokeKey",
    )
    def revoke(self, seen: LastSeen, principal: Principal, trail: Trail, key_id: str) -> KeyView:
        """Let a key work no more, for good; it stays in the list. Twice keeps the first moment."""
        key = seen.keys.revoke(_find(seen, principal, key_id).id, within=principal.within)
        trail.note(AuditAction.KEY_REVOKED, key.id, *told(key))
        return _view_of(key)


def _view_of(key: ApiKey) -> KeyView:
    return KeyView.of(key, utc(SYSTEM_CLOCK.now()))


def told(key: ApiKey) -> tuple[str, str]:
    """Return a key's name and more about it, for the audit trail."""
    owner = key.device_id or key.group_id or key.site_id
    return key.name, f"ls_{key.prefix}" + (f" of {owner}" if owner else "")


def _issued(key: ApiKey, secret: Secret) -> IssuedKey:
    return IssuedKey(key=_view_of(key), secret=secret.reveal())


def _find(seen: LastSeen, principal: Principal, segment: str) -> ApiKey:
    key = seen.keys.get(id_of(segment, "key"), within=principal.within)
    if key is None or principal.device_id not in {None, key.device_id}:
        raise Problem(404, "there is no such key")
    return key


def require_grantable(principal: Principal, scopes: frozenset[Scope]) -> None:
    """Refuse to hand out what the principal has not: else a key that may make keys could do everything."""
    too_much = scopes - principal.grantable
    if too_much:
        raise Problem(403, f"you cannot give what you have not: {', '.join(sorted(too_much))}", code="scope_missing")


def _require_reach(seen: LastSeen, principal: Principal, data: NewApiKey) -> None:
    """Refuse a key that reaches further than its maker."""
    if principal.device_id is not None and data.device_id != principal.device_id:
        raise Problem(404, "there is no such device")
    if principal.within is not None and data.group_id is None and data.device_id is None:
        raise Problem(403, "you are limited to a group; name it as group_id, or one of its devices as device_id")
    if data.site_id is not None:
        try:
            seen.sites.get(data.site_id)
        except SiteNotFound:
            raise Problem(404, "there is no such site") from None
