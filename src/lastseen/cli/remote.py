"""Commands that work on a database, or on a server through its API: the same calls, carried out here or there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

import typer
from msgspec import UNSET

from lastseen.app import LastSeen
from lastseen.cli.opening import open_for_reading
from lastseen.client.call import ApiError, Call
from lastseen.client.transport import Client
from lastseen.devices.device import Device
from lastseen.devices.store import DeviceOrder
from lastseen.errors import ConfigurationError, NotFound, StoreUnavailable
from lastseen.settings import API_KEY_VARIABLE, URL_VARIABLE, Settings, parse_span
from lastseen.wire.devices import DeviceList, DeviceView
from lastseen.wire.keys import IssuedKey, KeyList, KeyView
from lastseen.wire.sites import SiteList, SiteView, changed_rule

Answer = TypeVar("Answer")

Url = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", envvar=URL_VARIABLE, help="Ask this server instead of the database.", show_default=False
    ),
]
ApiKeyOption = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        metavar="SECRET",
        envvar=API_KEY_VARIABLE,
        help="The key for --url; the variable keeps it out of the list of processes.",
        show_default=False,
        show_envvar=True,
    ),
]


@contextmanager
def client_for(settings: Settings, url: str | None, api_key: str | None) -> Iterator[Client]:
    """Open what carries out calls: the server at the address, or else the database that the settings name."""
    if url is None:
        with open_for_reading(settings) as seen:
            yield LocalClient(seen)
        return
    client = Client(url, api_key)
    import httpx

    try:
        with client:
            yield client
    except ApiError as error:
        # As long as a server has no account, it asks programs on its machine for none.
        if error.status == HTTPStatus.UNAUTHORIZED and api_key is None:
            raise ConfigurationError(f"{url} asks for a key: set {API_KEY_VARIABLE}, or give --api-key") from error
        raise
    except httpx.HTTPError as error:
        raise StoreUnavailable(f"{url}: {str(error) or type(error).__name__}") from error


class LocalClient(Client):
    """Carries out calls on a database, as its server would for an administrator. Raises the features' own errors."""

    def __init__(self, seen: LastSeen) -> None:
        self._seen = seen

    def send(self, call: Call[Answer]) -> Answer:
        """Return the answer."""
        answer: Answer = _CARRIED_OUT[call.operation](self._seen, call)
        return answer

    def close(self) -> None:
        """Leave the database to whoever has opened it."""


def _list_keys(seen: LastSeen, call: Call[Any]) -> KeyList:
    page = seen.keys.list(**_given(call))
    return KeyList(keys=[KeyView.of(key, _now()) for key in page], next_cursor=page.next_cursor)


def _create_key(seen: LastSeen, call: Call[Any]) -> IssuedKey:
    new = call.body
    if new.site_id is not None:
        seen.sites.get(new.site_id)
    key, secret = seen.keys.create(
        new.name,
        scopes=new.scopes,
        device_id=new.device_id,
        group_id=new.group_id,
        site_id=new.site_id,
        expires_at=new.expires_at,
    )
    return IssuedKey(key=KeyView.of(key, _now()), secret=secret.reveal())


def _rotate_key(seen: LastSeen, call: Call[Any]) -> IssuedKey:
    overlap = timedelta(seconds=call.body.overlap_seconds)
    key, secret = seen.keys.rotate(call.path["key_id"], overlap=overlap)
    return IssuedKey(key=KeyView.of(key, _now()), secret=secret.reveal())


def _revoke_key(seen: LastSeen, call: Call[Any]) -> KeyView:
    return KeyView.of(seen.keys.revoke(call.path["key_id"]), _now())


def _list_devices(seen: LastSeen, call: Call[Any]) -> DeviceList:
    given = _given(call)
    for name in ("active_within", "inactive_for"):
        if name in given:
            given[name] = parse_span(given[name])
    page = seen.devices.list(**{"order": DeviceOrder.NAME, **given})
    return DeviceList(devices=[_device_view(seen, device) for device in page], next_cursor=page.next_cursor)


def _get_device(seen: LastSeen, call: Call[Any]) -> DeviceView:
    device = seen.devices.get(call.path["device_id"])
    if device is None:
        raise NotFound("there is no such device")
    return _device_view(seen, device)


def _register_device(seen: LastSeen, call: Call[Any]) -> DeviceView:
    new = call.body
    device = seen.devices.register(
        new.id,
        name=new.name,
        platform=new.platform,
        owner_id=new.owner_id,
        group_id=new.group_id,
        properties=new.properties,
        by_device=new.seen,
    )
    return _device_view(seen, device)


def _list_sites(seen: LastSeen, _: Call[Any]) -> SiteList:
    return SiteList(sites=[SiteView.of(site) for site in seen.sites.list()], next_cursor=None)


def _create_site(seen: LastSeen, call: Call[Any]) -> SiteView:
    new = call.body
    name = new.name if isinstance(new.name, str) else None
    rule = None if new.rule is UNSET else changed_rule(seen.sites.default_rule, new.rule)
    return SiteView.of(seen.sites.create(new.id, name=name, domains=tuple(new.domains), rule=rule))


def _change_site(seen: LastSeen, call: Call[Any]) -> SiteView:
    site, changes = seen.sites.get(call.path["site_id"]), call.body
    changed = seen.sites.change(
        site.id,
        name=None if changes.name is UNSET else changes.name,
        domains=None if changes.domains is UNSET else tuple(changes.domains),
        rule=None if changes.rule is UNSET else changed_rule(site.rule, changes.rule),
    )
    return SiteView.of(changed)


def _rotate_write_key(seen: LastSeen, call: Call[Any]) -> SiteView:
    return SiteView.of(seen.sites.rotate_write_key(call.path["site_id"]))


def _delete_site(seen: LastSeen, call: Call[Any]) -> None:
    seen.sites.delete(call.path["site_id"])


_CARRIED_OUT: dict[str, Callable[[LastSeen, Call[Any]], Any]] = {
    "ListKeys": _list_keys,
    "CreateKey": _create_key,
    "RotateKey": _rotate_key,
    "RevokeKey": _revoke_key,
    "ListDevices": _list_devices,
    "GetDevice": _get_device,
    "RegisterDevice": _register_device,
    "ListSites": _list_sites,
    "CreateSite": _create_site,
    "ChangeSite": _change_site,
    "RotateWriteKey": _rotate_write_key,
    "DeleteSite": _delete_site,
}
"""What the commands ask, by operation."""


def _given(call: Call[Any]) -> dict[str, Any]:
    return {name: value for name, value in call.query.items() if value is not None}


def _device_view(seen: LastSeen, device: Device) -> DeviceView:
    return DeviceView.of(device, seen.devices.status(device))


def _now() -> datetime:
    return datetime.now(UTC)
