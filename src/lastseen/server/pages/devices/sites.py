"""Sites: the line to paste, their domains, the rule that visits are folded by, and their write keys."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from litestar import get, post

from lastseen.accounts.audit import AuditAction
from lastseen.app import LastSeen
from lastseen.devices.key import Scope
from lastseen.server.pages.devices.asking import Form, Pages, WrongField, address, checking, show_form
from lastseen.server.pages.exports import list_exports
from lastseen.server.pages.frame import AnyRequest, go, show
from lastseen.server.pages.hint import event_line, script_line
from lastseen.server.pages.live import Page
from lastseen.server.rights import Principal
from lastseen.server.trail import Trail
from lastseen.settings import format_span, parse_span
from lastseen.visits.rule import VisitRule
from lastseen.visits.site import Site, checked_domains

LONGEST = timedelta(days=366)
_SWITCHES = ("new_visit_on_referrer_change", "new_visit_on_utm_change", "count_server_events")


class SitePages(Pages):
    """The list of sites, and the pages of one."""

    path = "/"

    @get("/sites", needs=Scope.SITES_READ, sync_to_thread=True)
    def show_list(self, request: AnyRequest, seen: LastSeen, principal: Principal) -> Page:
        """Show all sites, by id."""
        return _list_page(request, seen, principal, {})

    @post("/sites", needs=Scope.SITES_WRITE, sync_to_thread=True)
    def create(self, request: AnyRequest, seen: LastSeen, principal: Principal, trail: Trail, data: Form) -> Page:
        """Make a site."""
        try:
            domains = _domains("domains", data)
            with checking("id"):
                site = seen.sites.create(data.get("id", "").strip(), name=_name(data), domains=domains)
        except WrongField as problem:
            return _list_page(request, seen, principal, data, problem)
        trail.note(AuditAction.SITE_CREATED, site.id, site.name)
        return go(_address(site))

    @get("/site", needs=Scope.SITES_READ, sync_to_thread=True)
    def show_site(self, request: AnyRequest, seen: LastSeen, id: str = "") -> Page:  # noqa: A002 - its name in the address
        """Show one site."""
        site = seen.sites.get(id)
        return _site_page(request, site, _fields(site))

    @post("/site", needs=Scope.SITES_WRITE, sync_to_thread=True)
    def change(
        self,
        request: AnyRequest,
        seen: LastSeen,
        trail: Trail,
        data: Form,
        id: str = "",  # noqa: A002 - as above
    ) -> Page:
        """Change its name, its domains and its rule."""
        site = seen.sites.get(id)
        try:
            domains, rule = _domains("domains", data), _rule(site.rule, data)
            with checking("name"):
                changed = seen.sites.change(site.id, name=_name(data) or "", domains=domains, rule=rule)
        except WrongField as problem:
            return _site_page(request, site, data, problem)
        trail.note(AuditAction.SITE_EDITED, site.id, changed.name)
        return go(_address(site))

    @get("/site/rotate", needs=Scope.SITES_WRITE, sync_to_thread=True)
    def ask_to_rotate(self, request: AnyRequest, seen: LastSeen, id: str = "") -> Page:  # noqa: A002 - as above
        """Ask once more."""
        site = seen.sites.get(id)
        return show(
            request,
            "devices/confirm.html",
            question=f"Replace the write key of {site.name}?",
            words="Pages that send the old one are refused within seconds, until you have pasted the new line.",
            action=address("/site/rotate", {"id": site.id}),
            button="Replace it",
            back=_address(site),
        )

    @post("/site/rotate", needs=Scope.SITES_WRITE, sync_to_thread=True)
    def rotate(self, seen: LastSeen, trail: Trail, id: str = "") -> Page:  # noqa: A002 - as above
        """Give it a new write key."""
        site = seen.sites.rotate_write_key(seen.sites.get(id).id)
        trail.note(AuditAction.WRITE_KEY_REPLACED, site.id, site.name)
        return go(_address(site))

    @get("/site/delete", needs=Scope.SITES_WRITE, sync_to_thread=True)
    def ask_to_delete(self, request: AnyRequest, seen: LastSeen, id: str = "") -> Page:  # noqa: A002 - as above
        """Ask once more."""
        site = seen.sites.get(id)
        return show(
            request,
            "devices/confirm.html",
            question=f"Delete the site {site.name}?",
            words="Nothing more is taken for it: what sends its write key is refused within seconds, and its API keys "
            "do nothing any more. Its visits and events are not deleted: they stay in the database, where no page and "
            f"no report shows them unless a site with the id {site.id} is made again.",
            action=address("/site/delete", {"id": site.id}),
            button="Delete the site",
            back=_address(site),
        )

    @post("/site/delete", needs=Scope.SITES_WRITE, sync_to_thread=True)
    def delete(self, seen: LastSeen, trail: Trail, id: str = "") -> Page:  # noqa: A002 - as above
        """Remove it; its visits and events stay."""
        site = seen.sites.get(id)
        seen.sites.delete(site.id)
        trail.note(AuditAction.SITE_DELETED, site.id, site.name)
        return go("/sites")


def _name(data: Form) -> str | None:
    return data.get("name", "").strip() or None


def _domains(field: str, data: Form) -> tuple[str, ...]:
    """Return the domains that are in a field, one a line or with commas between."""
    words = data.get(field, "").replace(",", " ").split()
    with checking(field):
        return checked_domains(tuple(words))


def _rule(rule: VisitRule, data: Form) -> VisitRule:
    switches: dict[str, Any] = {name: name in data for name in _SWITCHES}
    return replace(
        rule,
        timeout=_span("timeout", data),
        max_duration=_span("max_duration", data),
        excluded_referrers=frozenset(_domains("excluded_referrers", data)),
        **switches,
    )


def _span(field: str, data: Form) -> timedelta:
    try:
        span = parse_span(data.get(field, ""))
    except ValueError as error:
        raise WrongField(field, "Write a span such as 30m, 2h or 1d.") from error
    if not timedelta(0) < span <= LONGEST:
        raise WrongField(field, f"Must be longer than nothing and at most {LONGEST.days} days.")
    return span


def _fields(site: Site) -> dict[str, str]:
    """Return what the fields of the form hold; a switch is there when it is on."""
    switches = {name: "on" for name in _SWITCHES if getattr(site.rule, name)}
    return {
        "name": site.name,
        "domains": "\n".join(site.domains),
        "timeout": format_span(site.rule.timeout),
        "max_duration": format_span(site.rule.max_duration),
        "excluded_referrers": "\n".join(sorted(site.rule.excluded_referrers)),
        **switches,
    }


def _list_page(
    request: AnyRequest, seen: LastSeen, principal: Principal, fields: dict[str, str], problem: WrongField | None = None
) -> Page:
    here = str(request.base_url).rstrip("/")
    rows = [{"site": site, "href": _address(site), "line": script_line(here, site.write_key)} for site in _all(seen)]
    may_create = principal.may(Scope.SITES_WRITE)
    return show_form(
        request,
        "devices/sites.html",
        problem,
        fields=fields,
        sites=rows,
        may_create=may_create,
        exports=list_exports("/api/v1/sites"),
    )


def _all(seen: LastSeen) -> list[Site]:
    return list(seen.sites.list())


def _site_page(request: AnyRequest, site: Site, fields: dict[str, str], problem: WrongField | None = None) -> Page:
    here = str(request.base_url).rstrip("/")
    context: dict[str, Any] = {
        "script_line": script_line(here, site.write_key),
        "curl_line": event_line(here, site.write_key),
        "visits": address("/visits", {"site": site.id}),
    }
    return show_form(request, "devices/site.html", problem, fields=fields, site=site, **context)


def _address(site: Site) -> str:
    return address("/site", {"id": site.id})
