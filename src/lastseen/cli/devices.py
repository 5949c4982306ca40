"""`lastseen devices`: devices, in the database or through a server."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from lastseen.activity.status import ClientStatus
from lastseen.cli.options import JsonOption, with_settings
from lastseen.cli.output import absolute, console, print_json, print_table, relative, status_text
from lastseen.cli.remote import ApiKeyOption, Url, client_for
from lastseen.client import devices as calls
from lastseen.devices.store import MAX_PAGE, DeviceOrder
from lastseen.settings import Settings
from lastseen.wire.devices import DeviceList, DeviceView

EXAMPLES = """\
[bold]Examples[/bold]

  lastseen devices list --group shop --order=-last_seen
  lastseen devices list --never
  lastseen devices show till-7
  lastseen devices register till-7 --name "Till 7" --platform android --group shop --property floor=3
"""

DeviceId = Annotated[str, typer.Argument(metavar="DEVICE_ID", help="The whole id.")]

group = typer.Typer(no_args_is_help=True, help="Devices: list, show, register.", epilog=EXAMPLES)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(group, name="devices")


@group.command("list")
@with_settings()
def list_devices(
    *,
    group_id: Annotated[str | None, typer.Option("--group", metavar="ID", help="Only of this group.")] = None,
    owner: Annotated[str | None, typer.Option("--owner", metavar="ID", help="Only of this owner.")] = None,
    status: Annotated[ClientStatus | None, typer.Option("--status", help="Only of this status.")] = None,
    never: Annotated[bool, typer.Option("--never", help="Only those that were never seen.")] = False,
    search: Annotated[str | None, typer.Option("--search", metavar="TEXT", help="Part of the id or the name.")] = None,
    order: Annotated[DeviceOrder, typer.Option("--order", help="How they are sorted.")] = DeviceOrder.NAME,
    limit: Annotated[int, typer.Option("--limit", min=1, max=MAX_PAGE, help="How many to print.")] = 100,
    cursor: Annotated[
        str | None, typer.Option("--cursor", metavar="CURSOR", help="Go on after an earlier page.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Print all of them, whatever the limit.")] = False,
    url: Url = None,
    api_key: ApiKeyOption = None,
    as_json: JsonOption = False,
    settings: Settings,
) -> None:
    """List devices, by name."""
    call = calls.list(
        group_id=group_id,
        owner_id=owner,
        status=status,
        is_seen=False if never else None,
        search=search,
        order=order,
        limit=MAX_PAGE if everything else limit,
        cursor=cursor,
    )
    found: list[DeviceView] = []
    with client_for(settings, url, api_key) as client:
        for page in client.pages(call):
            found += page.devices
            more = page.next_cursor
            if not everything:
                break
    if as_json:
        print_json(DeviceList(devices=found, next_cursor=more))
        return
    if not found:
        console(stderr=True).print("no devices")
        return
    now = datetime.now(UTC)
    print_table(["DEVICE", "NAME", "STATUS", "LAST SEEN", "GROUP"], [_row(device, now) for device in found])
    if more is not None:
        console(stderr=True).print(f"there are more: --cursor {more}, or --all", style="dim")


@group.command()
@with_settings()
def show(
    device_id: DeviceId,
    *,
    url: Url = None,
    api_key: ApiKeyOption = None,
    as_json: JsonOption = False,
    settings: Settings,
) -> None:
    """Show one device; exit code 1 when it is not there."""
    with client_for(settings, url, api_key) as client:
        device = client.send(calls.get(device_id))
    _print_device(device, as_json=as_json)


@group.command("register")
@with_settings()
def register_device(
    device_id: DeviceId,
    *,
    name: Annotated[str, typer.Option("--name", metavar="TEXT", help="What lists show.")] = "",
    platform: Annotated[str, typer.Option("--platform", metavar="TEXT", help="What it runs on.")] = "",
    owner: Annotated[str | None, typer.Option("--owner", metavar="ID", help="Whose it is.")] = None,
    group_id: Annotated[str | None, typer.Option("--group", metavar="ID", help="The group it belongs to.")] = None,
    properties: Annotated[
        list[str] | None,
        typer.Option("--property", metavar="NAME=VALUE", help="Free; a value that is JSON is taken as such."),
    ] = None,
    seen: Annotated[bool, typer.Option("--seen", help="It was seen just now.")] = False,
    url: Url = None,
    api_key: ApiKeyOption = None,
    as_json: JsonOption = False,
    settings: Settings,
) -> None:
    """Make a device known, or register it again: what is left out stays as it was."""
    call = calls.register(
        device_id,
        name=name,
        platform=platform,
        owner_id=owner,
        group_id=group_id,
        properties=dict(map(_property, properties or ())),
        seen=seen,
    )
    with client_for(settings, url, api_key) as client:
        device = client.send(call)
    _print_device(device, as_json=as_json)


def _property(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"--property {text}: write NAME=VALUE")
    try:
        return name, msgspec.json.decode(value)
    except msgspec.DecodeError:
        return name, value


def _print_device(device: DeviceView, *, as_json: bool) -> None:
    if as_json:
        print_json(device)
        return
    now = datetime.now(UTC)
    rows: list[list[Text | str]] = [
        ["device", device.id],
        ["name", device.name],
        ["platform", device.platform],
        ["owner", device.owner_id or ""],
        ["group", device.group_id or ""],
        ["last seen", _seen(device, now)],
        ["registered", f"{relative(device.created_at, now)}   {absolute(device.created_at)}"],
    ]
    for name, value in device.properties.items():
        rows.append([f"  {name}", msgspec.json.encode(value).decode()])
    print_table(["", ""], rows, header=False)


def _seen(device: DeviceView, now: datetime) -> str:
    seen_at = device.last_seen_at
    return "never" if seen_at is None else f"{relative(seen_at, now)}   {absolute(seen_at)}"


def _row(device: DeviceView, now: datetime) -> list[Text | str]:
    status = Text("never", style="bright_black") if device.status is None else status_text(device.status)
    seen_at = "-" if device.last_seen_at is None else relative(device.last_seen_at, now)
    return [device.id, device.name, status, seen_at, device.group_id or "-"]
