"""Libraries of Segment, Plausible and Umami: recorded requests sent to a running server."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from lastseen import LastSeen
from lastseen.visits.event import Device
from tests.ingest.captured import Captured, captured
from tests.server.ingesting import SITE, Eyes, prepare, sqlite_url
from tests.server.running import ServerProcess

KEY = "wk_test"
"""The key in the recorded requests."""
Served = tuple[ServerProcess, Eyes]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Run a server whose site has the recorded key and domain; every recording was sent to it twice."""
    folder = tmp_path_factory.mktemp("others")
    url = sqlite_url(folder)
    prepare(url, KEY)
    with LastSeen.open(url) as seen:
        seen.sites.change(SITE, domains=("shop.test",))
    with ServerProcess(folder, url, measured=True) as server, Eyes(url) as eyes:
        for request in captured("segment") * 2:
            answer = send(server, request)
            assert (answer.status_code, answer.json()) == (200, {"success": True})
        for request in captured("plausible"):
            answer = send(server, request)
            assert (answer.status_code, answer.text) == (202, "ok")
            assert answer.headers["access-control-allow-origin"] == request.headers["origin"]
        yield server, eyes


def send(server: ServerProcess, request: Captured) -> Any:
    dropped = {"host", "content-length", "connection"}
    headers = {name: value for name, value in request.headers.items() if name not in dropped}
    return server.http.request(request.method, request.target, headers=headers, content=request.body)


def test_segments_messages_are_stored_once(served: Served) -> None:
    """257 in three requests and some more, each sent twice; a page is a page view, an identification a person."""
    sent = [item for request in captured("segment") for item in request.value()["batch"]]
    meant = {item["messageId"]: item for item in sent if item["type"] != "group"}
    stored = {event.id: event for event in served[1].events() if event.id in meant}
    assert stored.keys() == meant.keys()
    names = Counter(event.name for event in stored.values())
    assert names["$pageview"] == sum(item["type"] == "page" for item in meant.values())
    assert names["$identify"] == sum(item["type"] == "identify" for item in meant.values())
    order = next(event for event in stored.values() if event.name == "Order Completed")
    assert (order.url, order.user_id) == ("https://shop.test/a?utm_source=x", "user_1")
    assert order.utm is not None
    assert order.utm.source == "x"


def test_plausibles_pages_are_one_visit(served: Served) -> None:
    """Three pages of a browser without a cookie, what it did there, and how long it stayed."""
    (visit,) = [visit for visit in served[1].all_visits() if visit.landing_page and ":8801" in visit.landing_page]
    assert visit.page_views == 3
    assert visit.exit_page == "http://shop.test:8801/pricing"
    assert visit.utm is not None
    assert visit.utm.key[:2] == ("nl", "email")
    assert visit.referrer_domain == "google.com"
    assert visit.engaged_ms == 2_943 + 4_128 + 1_073
    names = Counter(event.name for event in served[1].visits.events_of(visit))
    assert names == {"$pageview": 3, "Signup": 1, "$pageleave": 3}


def test_umamis_events(served: Served) -> None:
    """A page view has no name, its address is a path, and the website is the site's key."""
    server, eyes = served
    payload = {"website": KEY, "hostname": "shop.test", "url": "/umami?a=1", "screen": "1280x720", "title": "Shop"}
    headers = {"user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"}
    for data in ({}, {"name": "bought", "data": {"price": 9.5}}):
        body = {"type": "event", "payload": {**payload, **data}}
        answer = server.http.post("/api/send", json=body, headers=headers)
        assert answer.status_code == 200
        assert "visitId" in answer.json()
    (visit,) = [visit for visit in eyes.all_visits() if visit.landing_page == "https://shop.test/umami"]
    assert (visit.page_views, visit.event_count) == (1, 2)
    assert visit.device is not None
    assert (visit.device.browser, visit.device.screen_resolution) == ("Firefox", "1280x720")


def test_a_telephone_makes_visits(served: Served) -> None:
    """By the short addresses, too; what a server sends about the same person makes none."""
    server, eyes = served
    phone = {"library": {"name": "analytics-swift"}, "os": {"name": "iOS", "version": "18.0"}}
    for visitor, context in (("phone", phone), ("server", {"library": {"name": "analytics-python"}})):
        screen = {"type": "screen", "name": "Home", "anonymousId": visitor, "context": context}
        assert server.http.post("/v1/b", json={"batch": [screen], "writeKey": KEY}).json() == {"success": True}
        tapped = {"event": "Tapped", "anonymousId": visitor, "context": context, "writeKey": KEY}
        assert server.http.post("/v1/t", content=json.dumps(tapped)).json() == {"success": True}
    found = {visit.distinct_id: visit for visit in eyes.all_visits() if visit.distinct_id in {"phone", "server"}}
    assert found.keys() == {"phone"}
    assert (found["phone"].event_count, found["phone"].device) == (
        2,
        Device(type="mobile", os="iOS", os_version="18.0"),
    )


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/batch", {"batch": [], "writeKey": "nobody"}, 401),
        ("/v1/batch", {"writeKey": KEY}, 400),
        ("/v1/batch", [], 400),
        ("/v1/track", {"event": "x", "userId": "u", "writeKey": KEY}, 200),
        ("/v1/track", {"userId": "u", "writeKey": KEY}, 200),
        ("/v1/g", {"userId": "u", "groupId": "g", "writeKey": KEY}, 200),
        ("/api/event", {"n": "pageview", "u": "https://elsewhere.test/", "d": "elsewhere.test"}, 401),
        ("/api/event", {"d": "shop.test"}, 400),
        ("/api/event", {"name": "pageview", "url": "https://shop.test/", "domain": "shop.test"}, 202),
        ("/api/event", {"n": "x", "u": "https://shop.test/", "d": KEY, "p": '{"a": 1}', "e": "long"}, 202),
        ("/api/event", "text", 400),
        ("/api/send", {"type": "event"}, 400),
        ("/api/send", {"type": "event", "payload": {"website": "00000000-0000-4000-8000-000000000000"}}, 401),
    ],
    ids=str,
)
def test_what_else_may_come(served: Served, path: str, body: Any, status: int) -> None:
    """Another site's key, forms that are none, long names: each is answered, none is a defect."""
    assert served[0].http.post(path, content=json.dumps(body)).status_code == status


def test_wrong_credentials_are_no_defect(served: Served) -> None:
    """A header that is no base64 names nobody."""
    for credentials in ("Basic ***", "Basic /w==", "Basic", "Bearer x"):
        answer = served[0].http.post("/v1/batch", json={"batch": []}, headers={"authorization": credentials})
        assert answer.status_code == 401
    assert "Traceback" not in served[0].log


def test_a_domain_is_whatever_names_it(new_server: ServerProcess) -> None:
    """Typed as people write it, over the API as everywhere else, and found by what a page's script then names."""
    domains = ["https://WWW.München.test:8443/ä", "Shop.Test."]
    kept = ["xn--mnchen-3ya.test", "shop.test"]
    made = new_server.http.post("/api/v1/sites", json={"id": "shop", "domains": domains})
    assert (made.status_code, made.json()["domains"]) == (201, kept)
    changes = {"domains": domains[:1], "rule": {"excluded_referrers": ["Pay.Test"]}}
    changed = new_server.http.patch("/api/v1/sites/shop", json=changes).json()
    assert (changed["domains"], changed["rule"]["excluded_referrers"]) == (kept[:1], ["pay.test"])
    for domain in ("münchen.test", kept[0]):
        view = {"n": "pageview", "u": "https://münchen.test/ä", "d": domain}
        assert new_server.http.post("/api/event", content=json.dumps(view)).status_code == 202
    for wrong in ("x..y", "a b", "", "ß" * 70):
        refused = new_server.http.post("/api/v1/sites", json={"id": "other", "domains": [wrong]})
        assert refused.status_code == 400
        assert "domain" in refused.text
