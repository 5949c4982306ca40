"""`lastseen keys`: API keys, in the database or through a server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.text import Text

from lastseen.cli.options import JsonOption, span, with_settings
from lastseen.cli.output import absolute, console, print_json, print_table, relative
from lastseen.cli.remote import ApiKeyOption, Url, client_for
from lastseen.client import keys as calls
from lastseen.devices.api_keys import DEFAULT_OVERLAP
from lastseen.devices.key import KeyStatus, Scope
from lastseen.devices.store import MAX_PAGE
from lastseen.settings import Settings
from lastseen.wire.keys import IssuedKey, KeyList, KeyView

EXAMPLES = """\
[bold]Examples[/bold]

  lastseen keys create "till 7" --scope activity:write
  lastseen keys create dashboards --scope devices:read --scope clients:read --expires-in 90d
  lastseen keys list --group shop --status valid
  lastseen keys rotate KEY_ID --overlap 1h
  lastseen keys revoke KEY_ID
  LASTSEEN_API_KEY=ls_… lastseen keys list --url https://seen.example.org

A running server notices within 5 s what is revoked or rotated in its database.
"""

KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="The key's id, as the list shows it.")]
Device = Annotated[str | None, typer.Option("--device", metavar="ID", help="Of this device.")]
Group = Annotated[str | None, typer.Option("--group", metavar="ID", help="Of this group.")]
Site = Annotated[str | None, typer.Option("--site", metavar="ID", help="Of this site.")]

group = typer.Typer(no_args_is_help=True, help="API keys: make, list, rotate, revoke.", epilog=EXAMPLES)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(group, name="keys")


@group.command("list")
@with_settings()
def list_keys(
    *,
    device: Device = None,
    group_id: Group = None,
    site: Site = None,
    status: Annotated[KeyStatus | None, typer.Option("--status", help="Only what is this now.")] = None,
    url: Url = None,
    api_key: ApiKeyOption = None,
    as_json: JsonOption = False,
    settings: Settings,
) -> None:
    """List keys, the youngest first, also revoked and expired ones."""
    call = calls.list(device_id=device, group_id=group_id, site_id=site, status=status, limit=MAX_PAGE)
    with client_for(settings, url, api_key) as client:
        found = [key for page in client.pages(call) for key in page.keys]
    if as_json:
        print_json(KeyList(keys=found, next_cursor=None))
    elif not found:
        console(stderr=True).print("no keys")
    else:
        now = datetime.now(UTC)
        columns = ["ID", "NAME", "PREFIX", "STATE", "LAST USED", "OF", "SCOPES"]
        print_table(columns, [_row(key, now) for key in found], gives_way=columns.index("SCOPES"), whole=(0,))


@group.command()
@with_settings()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the list shows.")],
    *,
    scope: Annotated[
        list[Scope] | None, typer.Option("--scope", help="What it allows; may be given several times.")
    ] = None,
    device: Device = None,
    group_id: Group = None,
    site: Site = None,
    expires_in: Annotated[
        timedelta | None,
        typer.Option("--expires-in", parser=span, metavar="SPAN", help="It works no longer than this."),
    ] = None,
    url: Url = None,
    api_key: ApiKeyOption = None,
    as_json: JsonOption = False,
    settings: Settings,
) -> None:
    """Make a key. Its secret is printed here, once, and cannot be asked for again."""
    expires_at = None if expires_in is None else datetime.now(UTC) + expires_in
    call = calls.create(
        name, scopes=scope or (), device_id=device, group_id=group_id, site_id=site, expires_at=expires_at
    )
    with client_for(settings, url, api_key) as client:
        issued = client.send(call)
    _print_issued(issued, as_json=as_json)


@group.command()
@with_settings()
def rotate(
    key_id: KeyId,
    *,
    overlap: Annotated[
        timedelta | None,
        typer.Option(
            "--overlap", parser=span, metavar="SPAN", help="The old secret works on this long; by default 1d."
        ),
    ] = None,
    url: Url = None,
    api_key: ApiKeyOption = None,
    as_json: JsonOption = False,
    settings: Settings,
) -> None:
    """Make a successor with the same scopes. Its secret is printed here, once."""
    with client_for(settings, url, api_key) as client:
        issued = client.send(calls.rotate(key_id, overlap=DEFAULT_OVERLAP if overlap is None else overlap))
    _print_issued(issued, as_json=as_json)


@group.command()
@with_settings()
def revoke(
    key_id: KeyId,
    *,
    url: Url = None,
    api_key: ApiKeyOption = None,
    as_json: JsonOption = False,
    settings: Settings,
) -> None:
    """Let a key work no more, for good."""
    with client_for(settings, url, api_key) as client:
        key = client.send(calls.revoke(key_id))
    if as_json:
        print_json(key)
    else:
        typer.echo(f"revoked {key.name or key.id}")


def _print_issued(issued: IssuedKey, *, as_json: bool) -> None:
    if as_json:
        print_json(issued)
        return
    key = issued.key
    rows: list[list[Text | str]] = [
        ["key", key.id],
        ["name", key.name],
        ["scopes", ", ".join(key.scopes) or "none"],
        ["expires", "never" if key.expires_at is None else absolute(key.expires_at)],
        ["secret", issued.secret],
    ]
    print_table(["", ""], rows, header=False)
    console(stderr=True).print("the secret is shown here and never again", style="dim")
    if not key.scopes:
        text = "it has no scope: this server lets it do nothing; your own application may ask for keys without one"
        console(stderr=True).print(text, style="dim")


def _row(key: KeyView, now: datetime) -> list[Text | str]:
    used = "never" if key.last_used_at is None else relative(key.last_used_at, now)
    return [key.id, key.name, f"ls_{key.prefix}", _state(key), used, _owner(key), " ".join(key.scopes)]


def _state(key: KeyView) -> Text:
    if key.revoked_at is not None:
        return Text("revoked", style="bright_black")
    return Text("valid", style="green") if key.is_valid else Text("expired", style="bright_black")


def _owner(key: KeyView) -> str:
    owners = {"device": key.device_id, "group": key.group_id, "site": key.site_id}
    return next((f"{kind} {owner}" for kind, owner in owners.items() if owner is not None), "-")
