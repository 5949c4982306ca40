"""Sites: where events and visits belong."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from lastseen.client.call import Call, once
from lastseen.wire.sites import NewSite, RuleChanges, SiteChanges, SiteList, SiteView

PATH = "/api/v1/sites"
ONE = f"{PATH}/{{site_id}}"


def create(
    site_id: str,
    *,
    name: str | UnsetType = UNSET,
    domains: tuple[str, ...] = (),
    rule: RuleChanges | UnsetType = UNSET,
) -> Call[SiteView]:
    """Make a site; what the rule leaves out is as the server's settings have it."""
    body = NewSite(id=site_id, name=name, domains=[*domains], rule=rule)
    return Call(
        operation="CreateSite", method="POST", template=PATH, answer=SiteView, body=body, idempotency_key=once()
    )


def list(*, limit: int | None = None, cursor: str | None = None) -> Call[SiteList]:  # noqa: A001 - sites.list
    """Ask for one page of sites, by id."""
    query = {"limit": limit, "cursor": cursor}
    return Call(operation="ListSites", method="GET", template=PATH, answer=SiteList, query=query)


def get(site_id: str) -> Call[SiteView]:
    """Ask for one site."""
    return Call(operation="GetSite", method="GET", template=ONE, answer=SiteView, path={"site_id": site_id})


def change(
    site_id: str,
    *,
    name: str | UnsetType = UNSET,
    domains: tuple[str, ...] | UnsetType = UNSET,
    rule: RuleChanges | UnsetType = UNSET,
) -> Call[SiteView]:
    """Change what is given."""
    body = SiteChanges(name=name, domains=UNSET if domains is UNSET else [*domains], rule=rule)
    return Call(
        operation="ChangeSite", method="PATCH", template=ONE, answer=SiteView, path={"site_id": site_id}, body=body
    )


def rotate_write_key(site_id: str) -> Call[SiteView]:
    """Give a site a new write key; the old one ends within seconds."""
    return Call(
        operation="RotateWriteKey",
        method="POST",
        template=f"{ONE}/rotate-write-key",
        answer=SiteView,
        path={"site_id": site_id},
    )


def delete(site_id: str) -> Call[None]:
    """Remove a site; its visits and events stay, and are shown again when a site with this id is made."""
    return Call(operation="DeleteSite", method="DELETE", template=ONE, answer=type(None), path={"site_id": site_id})
