"""`/api/v1/sites…`: where events and visits belong."""

from __future__ import annotations

import base64
import binascii

from litestar import Controller, Response, delete, get, patch, post
from msgspec import UNSET

from lastseen.accounts.audit import AuditAction
from lastseen.app import LastSeen
from lastseen.devices.key import Scope
from lastseen.errors import InvalidCursor
from lastseen.server.api.asking import Cursor, Limit, id_of
from lastseen.server.api.exports import Export, ExportOperation
from lastseen.server.api.idempotency import Once
from lastseen.server.problem import Problem
from lastseen.server.rights import Principal
from lastseen.server.trail import Trail
from lastseen.visits.site import Site, is_site_id
from lastseen.wire.sites import NewSite, SiteChanges, SiteList, SiteView, changed_rule


class SitesController(Controller):
    """Sites. A key that belongs to one finds that one alone."""

    path = "/sites"
    tags = ("sites",)

    @post("/", needs=Scope.SITES_WRITE, sync_to_thread=True, summary="Make a site", operation_id="CreateSite")
    def create(self, seen: LastSeen, trail: Trail, once: Once, data: NewSite) -> SiteView:
        """Make a site; 409 when its id is taken."""

        def make() -> SiteView:
            name = None if data.name is UNSET else data.name
            rule = None if data.rule is UNSET else changed_rule(seen.sites.default_rule, data.rule)
            site = seen.sites.create(data.id, name=name, domains=tuple(data.domains), rule=rule)
            trail.note(AuditAction.SITE_CREATED, site.id, site.name)
            return SiteView.of(site)

        return once("CreateSite", data, make)

    @get(
        "/",
        needs=Scope.SITES_READ,
        sync_to_thread=True,
        summary="List sites",
        operation_id="ListSites",
        operation_class=ExportOperation,
    )
    def list_sites(
        self, seen: LastSeen, principal: Principal, export: Export, limit: Limit = 100, cursor: Cursor = None
    ) -> Response[SiteList]:
        """Return one page of sites, by id."""
        after = None if cursor is None else _decoded(cursor)
        if principal.site_id is not None:
            own = seen.store.sites.get_site(principal.site_id)
            return export(SiteList(sites=[] if own is None else [SiteView.of(own)], next_cursor=None))
        found = seen.sites.list(limit + 1, after)
        following = _encoded(found[limit - 1].id) if len(found) > limit else None
        return export(SiteList(sites=[SiteView.of(site) for site in found[:limit]], next_cursor=following))

    @get("/{site_id:str}", needs=Scope.SITES_READ, sync_to_thread=True, summary="Show one site", operation_id="GetSite")
    def show(self, seen: LastSeen, principal: Principal, site_id: str) -> SiteView:
        """Return one site."""
        return SiteView.of(_find(seen, principal, site_id))

    @patch(
        "/{site_id:str}",
        needs=Scope.SITES_WRITE,
        sync_to_thread=True,
        summary="Change a site",
        operation_id="ChangeSite",
    )
    def change(self, seen: LastSeen, principal: Principal, trail: Trail, site_id: str, data: SiteChanges) -> SiteView:
        """Change its name, its domains or its rule; what is left out stays."""
        site = _find(seen, principal, site_id)
        changed = seen.sites.change(
            site.id,
            name=None if data.name is UNSET else data.name,
            domains=None if data.domains is UNSET else tuple(data.domains),
            rule=None if data.rule is UNSET else changed_rule(site.rule, data.rule),
        )
        trail.note(AuditAction.SITE_EDITED, site.id, changed.name)
        return SiteView.of(changed)

    @post(
        "/{site_id:str}/rotate-write-key",
        needs=Scope.SITES_WRITE,
        status_code=200,
        sync_to_thread=True,
        summary="Replace a site's write key",
        operation_id="RotateWriteKey",
    )
    def rotate_write_key(self, seen: LastSeen, principal: Principal, trail: Trail, site_id: str) -> SiteView:
        """Give a site a new write key. Pages that send the old one are refused within seconds."""
        site = seen.sites.rotate_write_key(_find(seen, principal, site_id).id)
        trail.note(AuditAction.WRITE_KEY_REPLACED, site.id, site.name)
        return SiteView.of(site)

    @delete(
        "/{site_id:str}",
        needs=Scope.SITES_WRITE,
        sync_to_thread=True,
        summary="Delete a site",
        operation_id="DeleteSite",
    )
    def delete(self, seen: LastSeen, principal: Principal, trail: Trail, site_id: str) -> None:
        """Remove a site, so that nothing more is taken for it.

        Its visits and events are not deleted: they stay in the database, where nothing shows them unless a site with
        this id is made again.
        """
        site = _find(seen, principal, site_id)
        seen.sites.delete(site.id)
        trail.note(AuditAction.SITE_DELETED, site.id, site.name)


def _find(seen: LastSeen, principal: Principal, segment: str) -> Site:
    site_id = id_of(segment, "site")
    if principal.site_id not in {None, site_id}:
        raise Problem(404, "there is no such site")
    return seen.sites.get(site_id)


def _encoded(site_id: str) -> str:
    return base64.urlsafe_b64encode(f"sites:{site_id}".encode()).rstrip(b"=").decode()


def _decoded(cursor: str) -> str:
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        listing, _, site_id = base64.b64decode(padded, b"-_", validate=True).decode().partition(":")
    except (ValueError, binascii.Error) as error:
        raise InvalidCursor("this cursor is not one that a listing returned; start again without it") from error
    if listing != "sites" or not is_site_id(site_id):
        raise InvalidCursor("this cursor is not one that a listing returned; start again without it")
    return site_id
