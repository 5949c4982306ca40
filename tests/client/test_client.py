"""The client: one description of each operation, sent by a client that blocks and by one that awaits."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from types import ModuleType
from typing import Any

import httpx
import pytest

from lastseen.client import (
    ApiError,
    AsyncClient,
    Call,
    Client,
    activity,
    clients,
    devices,
    groups,
    keys,
    reports,
    sessions,
    sites,
    visits,
)
from lastseen.devices.key import Scope
from lastseen.errors import ConfigurationError
from lastseen.reports.question import Filter, Operator
from lastseen.reports.terms import Dimension
from lastseen.wire.devices import DeviceView
from lastseen.wire.sites import RuleChanges
from tests.server import people
from tests.server.described import all_operations, document
from tests.server.running import DEADLINE, ServerProcess, eventually

# One server a module, and a module a process.

MODULES: tuple[ModuleType, ...] = (activity, clients, devices, groups, keys, reports, sessions, sites, visits)


def all_calls() -> list[Call[Any]]:
    """Make one of every call, with `x` wherever something must be named."""
    found = []
    for module in MODULES:
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ != module.__name__ or name.startswith("_"):
                continue
            required = [
                parameter
                for parameter in inspect.signature(function).parameters.values()
                if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL
            ]
            found.append(function(*([] if parameter.name == "touches" else "x" for parameter in required)))
    return found


def test_every_operation_has_one_call_and_every_call_an_operation() -> None:
    """Method, path and parameters are those of the document; nothing is kept twice by hand."""
    described = {operation.id: operation for operation in all_operations()}
    tags = {module.__name__.rpartition(".")[2] for module in MODULES}
    wanted = {
        operation["operationId"]
        for item in document()["paths"].values()
        for operation in item.values()
        if tags & set(operation["tags"])
    }
    calls = all_calls()
    assert {call.operation for call in calls} == wanted
    for call in calls:
        operation = described[call.operation]
        assert (call.method, call.template) == (operation.method, operation.path), call.operation
        parameters = document()["paths"][call.template][call.method.lower()].get("parameters", [])
        known = {parameter["name"] for parameter in parameters if parameter["in"] == "query"}
        # The client reads JSON, and names who was active in the body.
        assert set(call.query) == known - {"format", "client_id"}, call.operation
        assert set(call.path) == set(operation.parameters)


@pytest.fixture(scope="module")
def secret(server: ServerProcess) -> Iterator[str]:
    """Make a key that may do everything."""
    with closing(people.set_up(server)) as ada:
        yield str(ada.post("/api/v1/keys", json={"name": "all", "scopes": sorted(Scope)}).json()["secret"])


@pytest.fixture
def client(server: ServerProcess, secret: str) -> Iterator[Client]:
    """Open the client that blocks."""
    with Client(server.address, secret) as client:
        yield client


def test_devices_from_registration_to_deletion(client: Client) -> None:
    """Each verb, with an id that holds what paths are made of; what is not given stays."""
    device_id = "till/7 ü?#%2F"
    client.send(groups.create("Shop", group_id="shop"))
    made = client.send(devices.register(device_id, name="Till", group_id="shop", properties={"floor": 3}))
    assert isinstance(made, DeviceView)
    assert (made.id, made.last_seen_at, made.status) == (device_id, None, None)
    assert client.send(devices.get(device_id)) == made
    changed = client.send(devices.change(device_id, name="Till 7", group_id=None))
    assert (changed.name, changed.group_id, changed.properties) == ("Till 7", None, {"floor": 3})
    before = datetime.now(UTC)
    assert client.send(devices.record_seen(device_id)).seen_at >= before
    (seen,) = client.send(devices.list(is_seen=True, search="7 ü")).devices
    assert seen.last_seen_at is not None
    assert client.send(devices.delete(device_id)) is None
    with pytest.raises(ApiError, match="404 Not Found: there is no such device") as caught:
        client.send(devices.get(device_id))
    assert caught.value.status == 404


def test_pages_follow_to_the_last(client: Client) -> None:
    """By cursor, each once, and from any page on."""
    names = [f"page-{number}" for number in range(5)]
    for name in names:
        client.send(devices.register(name, owner_id="pager"))
    pages = list(client.pages(devices.list(owner_id="pager", limit=2)))
    assert [len(page.devices) for page in pages] == [2, 2, 1]
    assert [device.id for page in pages for device in page.devices] == names


def test_keys_are_made_rotated_and_revoked(client: Client, server: ServerProcess) -> None:
    """The secret works, is in no representation, and ends when it is told to."""
    issued = client.send(keys.create("reader", scopes=[Scope.DEVICES_READ]))
    assert issued.secret not in repr(issued)
    with Client(server.address, issued.secret) as reader:
        reader.send(devices.list())
        with pytest.raises(ApiError, match=r"403.*devices:write"):
            reader.send(devices.register("not-allowed"))
        successor = client.send(keys.rotate(issued.key.id, overlap=timedelta(hours=1)))
        reader.send(devices.list())
        assert not client.send(keys.revoke(issued.key.id)).is_valid
        with pytest.raises(ApiError, match=r"401.*unknown, expired or revoked"):
            reader.send(devices.list())
    with Client(server.address, successor.secret) as reader:
        reader.send(devices.list())
    known = client.send(keys.get(successor.key.id))
    assert known.last_used_at is not None
    assert (known.name, known.scopes) == ("reader", [Scope.DEVICES_READ])


def test_the_same_call_makes_nothing_twice(client: Client) -> None:
    """A creation carries its own Idempotency-Key: sent again, it gets the same answer, secret and all."""
    call = keys.create("once", scopes=[])
    assert client.send(call).secret == client.send(call).secret
    assert client.send(keys.create("once", scopes=[])).secret != client.send(call).secret
    with pytest.raises(ApiError, match=r"422.*another request"):
        client.send(replace(keys.create("another"), idempotency_key=call.idempotency_key))


def test_sites_and_their_rules(client: Client) -> None:
    """Made, changed setting by setting, given a new write key, deleted."""
    site = client.send(sites.create("shop", domains=("shop.example",), rule=RuleChanges(timeout_seconds=600)))
    assert (site.name, site.rule.timeout_seconds, site.rule.max_duration_seconds) == ("shop", 600, 86_400)
    changed = client.send(sites.change("shop", name="Shop", rule=RuleChanges(new_visit_on_utm_change=False)))
    assert (changed.name, changed.rule.timeout_seconds, changed.rule.new_visit_on_utm_change) == ("Shop", 600, False)
    assert client.send(sites.rotate_write_key("shop")).write_key != site.write_key
    assert {one.id for one in client.send(sites.list()).sites} == {"default", "shop"}
    client.send(sites.delete("shop"))
    with pytest.raises(ApiError, match="404"):
        client.send(sites.get("shop"))


def test_visits_events_and_reports(client: Client, server: ServerProcess) -> None:
    """What was sent as events comes back as visits and figures; filters may be several, moments are aware."""
    key = client.send(sites.create("shop")).write_key
    began = datetime(2026, 5, 1, 12, tzinfo=UTC)
    sent = [
        {"name": "$pageview", "distinct_id": "ada", "url": f"https://shop.example/{page}", "at": began.isoformat()}
        for page in ("tea", "cups")
    ]
    answer = httpx.post(f"{server.address}/api/v1/events", json={"write_key": key, "events": sent}, timeout=DEADLINE)
    assert answer.json() == {"accepted": 2, "dropped": 0}
    (visit,) = client.send(visits.list(site="shop", since=began, until=began + timedelta(hours=1))).visits
    assert (visit.distinct_id, visit.page_views, visit.started_at) == ("ada", 2, began)
    details = client.send(visits.get(visit.id, site="shop"))
    assert [event.id for event in client.send(visits.events(site="shop")).events] == [
        event.id for event in reversed(details.events)
    ]
    assert client.send(visits.count(site="shop", visitor="ada")).count == 1
    asked = reports.ask(
        "visits",
        metrics=["page_views"],
        by=["page"],
        filters=["page:contains:/c", Filter(Dimension("entry"), Operator.KNOWN)],
        since=date(2026, 5, 1),
        until=date(2026, 5, 2),
        site="shop",
    )
    rows = eventually(lambda: client.send(asked).rows, "the copy for reports to follow")
    assert rows == [{"page": "/cups", "page_views": 1}]
    counted = [
        client.send(visits.list(site="shop", filters=[f"page:is:/{page}"], since=since, until=date(2026, 5, 2))).visits
        for page, since in (("cups", date(2026, 5, 1)), ("jars", date(2026, 5, 1)))
    ]
    assert [[each.id for each in page] for page in counted] == [[visit.id], []]
    days = visits.list(site="shop", since=date(2026, 5, 2), until=date(2026, 5, 3), time_zone="Pacific/Kiritimati")
    assert [each.id for each in client.send(days).visits] == [visit.id]


def test_both_clients_do_the_same(client: Client, server: ServerProcess, secret: str) -> None:
    """What one has recorded, the other reads; pages, refusals and all."""

    async def ask() -> tuple[Any, ...]:
        async with AsyncClient(server.address, secret) as asking:
            client_view = await asking.send(clients.get("both"))
            pages = [page async for page in asking.pages(clients.list(limit=1))]
            with pytest.raises(ApiError, match="404"):
                await asking.send(clients.get("never"))
            return client_view, pages, await asking.send(sessions.list())

    recorded = client.send(activity.record("both", "other", ""))
    assert (recorded.accepted, recorded.rejected) == (2, 1)
    assert recorded.errors[0].index == 2
    client_view, pages, signed_in = asyncio.run(ask())
    assert client_view == client.send(clients.get("both"))
    assert pages == list(client.pages(clients.list(limit=1)))
    assert signed_in == client.send(sessions.list())
    assert client.send(clients.counts()).total == client.send(clients.count()).count == len(pages)
    assert client.send(clients.hours("both")).hours == [client.send(activity.by_hour()).hours[-1].hour]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (httpx.Response(502, text="<h1>Bad gateway</h1>"), "502 Refused: <h1>Bad gateway</h1>"),
        (httpx.Response(200, text="<h1>Welcome</h1>"), "200 Unexpected answer: this is no lastseen"),
        (httpx.Response(200, json={"devices": 5}), "200 Unexpected answer: this is no lastseen"),
    ],
    ids=["gateway", "page", "other"],
)
def test_an_answer_of_somebody_else_is_an_error(answer: httpx.Response, message: str) -> None:
    """A proxy's page, or another program at the address, is told as it is."""
    with (
        Client("http://elsewhere.example", transport=httpx.MockTransport(lambda _: answer)) as client,
        pytest.raises(ApiError, match=message),
    ):
        client.send(devices.list())


def test_how_long_to_wait_is_told() -> None:
    """A refusal for too many requests, or for a store that is away, says when to come back."""
    answer = httpx.Response(429, headers={"retry-after": "7"}, json={"status": 429, "title": "t", "detail": "d"})
    with (
        Client("http://elsewhere.example", transport=httpx.MockTransport(lambda _: answer)) as client,
        pytest.raises(ApiError) as caught,
    ):
        client.send(devices.list())
    assert caught.value.retry_after == 7


@pytest.mark.parametrize("make", [Client, AsyncClient])
def test_an_address_without_a_scheme_is_refused(make: Callable[[str], object]) -> None:
    """The message says what is missing."""
    with pytest.raises(ConfigurationError, match="http://"):
        make("seen.example.org")
