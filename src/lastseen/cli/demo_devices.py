"""A believable fleet: groups, devices that were seen and some that never were, and their keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from lastseen.app import LastSeen
from lastseen.clock import utc
from lastseen.devices.device import Device
from lastseen.devices.key import ApiKey, NewKey, Scope, digest_of, new_id, new_secret
from lastseen.devices.values import JSON


@dataclass(frozen=True, kw_only=True, slots=True)
class Fleet:
    """Devices that live alike, in a group of their own."""

    group_id: str
    group: str
    name: str
    platform: str
    count: int
    silences: tuple[float, ...]
    """Hours since the last ones were seen; all others were seen within minutes."""
    never: int
    live: float
    """The chance of each that reports to do so within one second."""


FLEETS = (
    Fleet(
        group_id="vans",
        group="Delivery vans",
        name="Van",
        platform="Android 15",
        count=14,
        silences=(0.4, 3.0, 9.0, 60.0),
        never=2,
        live=0.05,
    ),
    Fleet(
        group_id="shops",
        group="Shops",
        name="Till",
        platform="Windows 11 IoT",
        count=12,
        silences=(0.2, 14.0, 200.0),
        never=1,
        live=0.08,
    ),
    Fleet(
        group_id="cellars",
        group="Cold stores",
        name="Thermometer",
        platform="ESP32",
        count=18,
        silences=(0.7, 30.0),
        never=0,
        live=0.02,
    ),
)
_ONLINE_MINUTES = 4.0
_PLACES = ("Berlin", "Munich", "Hamburg", "Cologne")


def fill_devices(seen: LastSeen, *, now: float, dice: Random) -> None:
    """Write the fleet as it is at this moment, with keys for some of it."""
    moment = utc(now)
    for fleet in FLEETS:
        seen.devices.create_group(fleet.group, group_id=fleet.group_id)
        for device, seen_at in _devices(fleet, moment, dice):
            seen.devices.store.upsert_device(device, seen_at)
    for key in _keys(moment):
        # Nobody knows their secrets: they are for looking at.
        seen.keys.store.add_key(NewKey(key=key, digest=digest_of(new_secret().reveal())))
    seen.sites.create("journal", name="The journal", domains=("journal.example",))


def live_devices(dice: Random) -> list[str]:
    """Return the devices that are seen within the next second."""
    return [
        device_id
        for fleet in FLEETS
        for number in range(1, fleet.count - fleet.never - len(fleet.silences) + 1)
        if dice.random() < fleet.live
        for device_id in [_device_id(fleet, number)]
    ]


def _devices(fleet: Fleet, now: datetime, dice: Random) -> Iterator[tuple[Device, datetime | None]]:
    for number in range(1, fleet.count + 1):
        properties: dict[str, JSON] = {"place": dice.choice(_PLACES), "firmware": f"2.{dice.randrange(4)}.1"}
        yield (
            Device(
                id=_device_id(fleet, number),
                name=f"{fleet.name} {number}",
                platform=fleet.platform,
                owner_id="acme" if number % 3 == 0 else None,
                group_id=fleet.group_id,
                properties=properties,
                created_at=now - timedelta(days=40 + dice.random() * 200),
            ),
            _seen_at(fleet, number, now, dice),
        )


def _seen_at(fleet: Fleet, number: int, now: datetime, dice: Random) -> datetime | None:
    from_the_end = fleet.count - number
    if from_the_end < fleet.never:
        return None
    if from_the_end < fleet.never + len(fleet.silences):
        return now - timedelta(hours=fleet.silences[from_the_end - fleet.never])
    return now - timedelta(minutes=dice.random() * _ONLINE_MINUTES)


def _device_id(fleet: Fleet, number: int) -> str:
    return f"{fleet.name.lower()}-{number}"


def _keys(now: datetime) -> Iterator[ApiKey]:
    def key(name: str, *, days: float, used: timedelta | None, **fields: object) -> ApiKey:
        prefix = new_secret().reveal()[3:11]
        return ApiKey(
            id=new_id(),
            name=name,
            prefix=prefix,
            created_at=now - timedelta(days=days),
            last_used_at=None if used is None else now - used,
            **fields,  # type: ignore[arg-type]  # each is a field of a key
        )

    writing = frozenset({Scope.ACTIVITY_WRITE, Scope.DEVICES_WRITE})
    yield key("Van 1", days=90, used=timedelta(minutes=2), device_id="van-1", scopes=writing)
    yield key("Van 2", days=88, used=timedelta(minutes=1), device_id="van-2", scopes=writing)
    reading = frozenset({Scope.DEVICES_READ, Scope.GROUPS_READ})
    yield key("Shop floor display", days=30, used=timedelta(seconds=20), group_id="shops", scopes=reading)
    everything = frozenset({Scope.REPORTS_READ, Scope.VISITS_READ, Scope.CLIENTS_READ, Scope.DEVICES_READ})
    yield key("Nightly report", days=200, used=timedelta(hours=9), scopes=everything, expires_at=now + timedelta(60))
    sending = frozenset({Scope.EVENTS_WRITE})
    yield key("Shop backend", days=12, used=timedelta(seconds=5), site_id="default", scopes=sending)
    yield key("Trial", days=45, used=timedelta(days=16), scopes=everything, expires_at=now - timedelta(days=15))
    yield key("Lost laptop", days=150, used=timedelta(days=70), scopes=writing, revoked_at=now - timedelta(days=70))
    yield key("Not rolled out yet", days=1, used=None, group_id="cellars", scopes=writing)
