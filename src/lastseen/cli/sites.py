"""`lastseen sites`: where events and visits belong, in the database or through a server."""

from __future__ import annotations

from typing import Annotated

import typer
from msgspec import UNSET, UnsetType
from rich.text import Text

from lastseen.cli.options import JsonOption, with_settings
from lastseen.cli.output import print_json, print_table
from lastseen.cli.remote import ApiKeyOption, Url, client_for
from lastseen.client import sites as calls
from lastseen.settings import Settings
from lastseen.visits.site import checked_domains
from lastseen.wire.sites import RuleChanges, SiteList, SiteView

EXAMPLES = """\
[bold]Examples[/bold]

  lastseen sites list
  lastseen sites create shop --name "The shop" --domain shop.example
  lastseen sites edit shop --excluded-referrer checkout.stripe.com
  lastseen sites rotate-write-key shop
  lastseen sites delete shop
"""

_NONE = ""
Domains = Annotated[
    list[str] | None, typer.Option("--domain", metavar="DOMAIN", help="Its own; may be given several times.")
]
ExcludedReferrers = Annotated[
    list[str] | None,
    typer.Option(
        "--excluded-referrer",
        metavar="HOST",
        help="Where visitors only come back from, of payment or sign-on; may be given several times.",
    ),
]
SiteId = Annotated[str, typer.Argument(metavar="SITE_ID", help="Lower-case letters, digits and hyphens.")]

group = typer.Typer(
    no_args_is_help=True, help="Sites: list, create, edit, replace a write key, delete.", epilog=EXAMPLES
)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(group, name="sites")


@group.command("list")
@with_settings()
def list_sites(
    *, url: Url = None, api_key: ApiKeyOption = None, as_json: JsonOption = False, settings: Settings
) -> None:
    """List sites with their write keys, which are public."""
    with client_for(settings, url, api_key) as client:
        found = [site for page in client.pages(calls.list()) for site in page.sites]
    if as_json:
        print_json(SiteList(sites=found, next_cursor=None))
    else:
        print_table(["SITE", "NAME", "WRITE KEY", "DOMAINS"], [_row(site) for site in found])


@group.command()
@with_settings()
def create(
    site_id: SiteId,
    *,
    name: Annotated[str | None, typer.Option("--name", metavar="TEXT", help="What lists show.")] = None,
    domain: Domains = None,
    excluded_referrer: ExcludedReferrers = None,
    url: Url = None,
    api_key: ApiKeyOption = None,
    as_json: JsonOption = False,
    settings: Settings,
) -> None:
    """Make a site; its rule is as the settings have it, but for what is given."""
    domains = _names(domain)
    call = calls.create(site_id, name=name or site_id, domains=domains or (), rule=_rule(excluded_referrer))
    with client_for(settings, url, api_key) as client:
        _print(client.send(call), as_json=as_json)


@group.command()
@with_settings()
def edit(
    site_id: SiteId,
    *,
    name: Annotated[str | None, typer.Option("--name", metavar="TEXT", help="What lists show.")] = None,
    domain: Domains = None,
    excluded_referrer: ExcludedReferrers = None,
    url: Url = None,
    api_key: ApiKeyOption = None,
    as_json: JsonOption = False,
    settings: Settings,
) -> None:
    """Change what is given. Domains and referrers that are given are all there are then; an empty text is none.

    A new rule holds for what comes in from then on: lastseen visits rebuild changes the visits that are there.
    """
    call = calls.change(site_id, name=name or UNSET, domains=_names(domain), rule=_rule(excluded_referrer))
    with client_for(settings, url, api_key) as client:
        _print(client.send(call), as_json=as_json)


@group.command()
@with_settings()
def rotate_write_key(
    site_id: SiteId,
    *,
    url: Url = None,
    api_key: ApiKeyOption = None,
    as_json: JsonOption = False,
    settings: Settings,
) -> None:
    """Give a site a new write key; the old one ends within seconds."""
    with client_for(settings, url, api_key) as client:
        _print(client.send(calls.rotate_write_key(site_id)), as_json=as_json)


@group.command()
@with_settings()
def delete(
    site_id: SiteId,
    *,
    url: Url = None,
    api_key: ApiKeyOption = None,
    settings: Settings,
) -> None:
    """Remove a site, so that nothing more is taken for it. Its visits and events are not deleted.

    They stay in the database, where nothing shows them unless a site with this id is made again.
    """
    with client_for(settings, url, api_key) as client:
        client.send(calls.delete(site_id))
    typer.echo(f"deleted the site {site_id}; its visits and events stay in the database")


def _names(given: list[str] | None) -> tuple[str, ...] | UnsetType:
    """Return names as they are kept; `UNSET` where none were given."""
    return UNSET if given is None else checked_domains(tuple(name for name in given if name != _NONE))


def _rule(excluded_referrers: list[str] | None) -> RuleChanges | UnsetType:
    names = _names(excluded_referrers)
    return UNSET if names is UNSET else RuleChanges(excluded_referrers=[*names])


def _print(site: SiteView, *, as_json: bool) -> None:
    if as_json:
        print_json(site)
    else:
        excluded = " ".join(site.rule.excluded_referrers) or "-"
        print_table(["SITE", "NAME", "WRITE KEY", "DOMAINS", "EXCLUDED REFERRERS"], [[*_row(site), excluded]])


def _row(site: SiteView) -> list[Text | str]:
    return [site.id, site.name, site.write_key, " ".join(site.domains) or "-"]
