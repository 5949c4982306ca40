"""What one request's session decides, without any framework; and what the adapters do that HTTP does not show."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lastseen.errors import ConfigurationError
from lastseen.sessions.cookie import Cookie, RequestHead
from lastseen.sessions.credentials import BearerSource, CompositeSource, CookieSource
from lastseen.sessions.manager import SessionManager
from lastseen.sessions.policy import NATIVE_APP
from lastseen.sessions.token import new_token
from lastseen.stores import open_store
from lastseen.testing import ManualClock
from lastseen.web.sessions import RequestRefused, RequestSession, WebSessions, asgi, wsgi
from lastseen.web.sessions.device import device_of
from lastseen.web.sessions.gate import KEY
from lastseen.web.sessions.threads import StoreThreads
from tests.web.sessions.world import ORIGIN, World


def begin(world: World, method: str = "GET", target: str = "/", **headers: str) -> RequestSession:
    head = RequestHead(method=method, host="app.example", path=target, target=target, headers=headers)
    return RequestSession.begin(world.sessions, head)


def signed_in(world: World, **options: Any) -> str:
    """Return the token of a new session."""
    return world.manager.sign_in(world.user("alice"), **options).token


def test_a_page_does_not_vary_unless_it_was_asked_who_is_there() -> None:
    """Public pages of anonymous visitors stay cacheable."""
    request = begin(World())
    assert request.finish([]) == []
    assert request.session is None
    assert request.finish([]) == [("Vary", "Cookie"), ("Vary", "Authorization")]
    assert request.finish([("vary", "accept, COOKIE")]) == [("Vary", "Authorization")]
    assert request.finish([("Vary", "*")]) == []


def test_the_sources_policy_must_be_the_managers() -> None:
    """Deadlines that nobody applies are an error at the start."""
    world = World()
    with pytest.raises(ConfigurationError, match="policies_of"):
        WebSessions(SessionManager(world.store), credentials=BearerSource(policy=NATIVE_APP))


@pytest.mark.parametrize(
    "options",
    [
        {"origin": "app.example"},
        {"origin": "https://app.example/path"},
        {"trusted_origins": "https://app.example"},
        {"trusted_origins": ["null"]},
        {"redirect_origins": ["https://*"], "origin": "ftp://app.example"},
    ],
)
def test_an_origin_is_scheme_and_host(options: dict[str, Any]) -> None:
    """Anything else is an error at the start."""
    with pytest.raises(ConfigurationError):
        WebSessions(World().manager, **options)


def test_the_own_origin_is_where_the_request_went_unless_configured() -> None:
    """Behind a proxy that hides the scheme it is configured."""
    world = World()
    token = signed_in(world)
    own = WebSessions(world.manager, credentials=world.sessions.credentials)
    for origin, refused in ((ORIGIN, False), ("https://evil.example", True)):
        head = RequestHead(
            method="POST", host="App.Example:443", headers={"cookie": f"__Host-id={token}", "origin": origin}
        )
        assert (RequestSession.begin(own, head).refusal is not None) == refused


def test_a_request_that_came_with_a_credential_keeps_to_its_source() -> None:
    """A login of a bearer client is one of a bearer client; a cookie cannot be asked for on the side."""
    world = World()
    token = signed_in(world, credential_kind="bearer")
    request = begin(world, "POST", authorization=f"Bearer {token}")
    with pytest.raises(ConfigurationError):
        request.sign_in(world.user("alice"), credential="cookie")
    assert request.sign_in(world.user("alice")).session.credential_kind == "bearer"
    with pytest.raises(ConfigurationError):
        begin(world, "POST").sign_in(world.user("alice"), credential="carrier pigeon")


def test_a_store_that_fails_in_a_login_is_not_a_crash() -> None:
    """503 as everywhere; and a cookie whose session cannot be confirmed is not written."""
    world = World()
    request = begin(world, "POST", **{"sec-fetch-site": "same-origin"})
    request.sign_in(world.user("alice"))
    world.store.broken = True
    assert [name for name, _ in request.finish([])] == ["Vary", "Vary", "Cache-Control"]
    with pytest.raises(RequestRefused) as refused:
        request.rotate()
    assert refused.value.refusal.status == 503


def test_a_sensitive_action_is_checked_past_the_cache() -> None:
    """A revocation in another process counts at once, though the cache still knows the session."""
    world = World(manager_options={"cache": timedelta(seconds=5)})
    token = signed_in(world)
    assert begin(world, cookie=f"__Host-id={token}").session is not None
    [session] = world.store._sessions.values()
    world.store.delete_session(session.id)
    stale = begin(world, cookie=f"__Host-id={token}")
    assert stale.session is not None
    with pytest.raises(RequestRefused):
        stale.require_recent(timedelta(minutes=5))


def test_the_way_back_is_always_safe() -> None:
    """From the query, the form or the cookie: a path of this site or an allowed origin, whatever was planted."""
    world = World(redirect_origins=["https://shop.example"])
    evil = "//evil.example"
    assert begin(world, target=f"/login?next={evil}").return_target() == "/"
    assert begin(world).return_target(evil) == "/"
    assert begin(world, cookie="__Host-next=%2F%2Fevil.example").return_target() == "/"
    assert begin(world, cookie="__Host-next=/a; __Host-next=/b").return_target() == "/"
    assert begin(world, target="/login?next=https://shop.example/x").return_target() == "https://shop.example/x"
    assert begin(world, target="//[::1?next=/a").return_target() == "/a"
    assert begin(world, target="/?" + "a=b&" * 1000 + "next=/a").return_target() == "/"
    request = begin(world, cookie="__Host-next=/a%3Fb")
    assert request.return_target() == "/a?b"
    assert [name for name, _ in request.finish([])] == ["Set-Cookie", "Cache-Control"]


@settings(deadline=None)
@given(
    st.binary(max_size=100).map(lambda raw: raw.decode("latin-1")),
    st.one_of(st.binary(max_size=100).map(lambda raw: raw.decode("latin-1")), st.just(f"Bearer {new_token()}")),
)
def test_no_credential_breaks_a_request(value: str, authorization: str) -> None:
    """Whatever is in the headers: anonymous, or a clean refusal."""
    request = begin(World(), cookie=f"__Host-id={value}", authorization=authorization)
    assert request.session is None
    assert request.refusal is None or request.refusal.status == 400
    for name, text in request.finish([]):
        assert not set("\r\n\0") & set(name + text)


def test_sessions_in_a_file(tmp_path: Path) -> None:
    """The same over SQLite, with the reads in the threads."""
    store = open_store(f"sqlite:///{tmp_path / 'sessions.db'}")
    store.migrate()
    clock = ManualClock()
    manager = SessionManager(store.sessions, clock=clock)
    issued = manager.sign_in(store.sessions.upsert_user("alice", clock.utc()))
    head = RequestHead(headers={"cookie": f"__Host-id={issued.token}"})
    request = asyncio.run(StoreThreads().run(RequestSession.begin, WebSessions(manager), head))
    assert request.session == issued.session
    manager.close()
    store.close()


async def ask_asgi(app: Any, scope: dict[str, Any]) -> list[Any]:
    """Put one connection through an ASGI application; return what it sent."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    base = {"type": "http", "method": "GET", "path": "/", "raw_path": b"/", "query_string": b"", "headers": []}
    await app({**base, **scope}, receive, send)
    return sent


def test_the_store_is_never_asked_on_the_event_loop() -> None:
    """Reading, and the check before a cookie is written, happen in threads of their own."""
    world = World()
    threads: set[str] = set()
    read = world.store.find_session

    def watched(digest: bytes) -> Any:
        threads.add(threading.current_thread().name)
        return read(digest)

    world.store.find_session = watched  # type: ignore[method-assign]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asgi.rotate(scope)
        await asgi.require_recent(scope, timedelta(minutes=5))
        await send({"type": "http.response.start", "status": 200, "headers": []})

    headers = [(b"cookie", f"__Host-id={signed_in(world)}".encode())]
    sent = asyncio.run(ask_asgi(asgi.SessionMiddleware(app, world.sessions), {"headers": headers}))
    assert any(name == b"set-cookie" for name, _ in sent[0]["headers"])
    assert threads
    assert all(name.startswith("lastseen-sessions") for name in threads)


@pytest.mark.parametrize(
    ("origin", "user"), [(ORIGIN, "alice"), ("https://evil.example", None), (None, None)], ids=["own", "evil", "none"]
)
def test_another_site_cannot_open_a_websocket_with_the_cookie(origin: str | None, user: str | None) -> None:
    """Browsers send cookies with the handshake from anywhere, so it is checked like an unsafe method."""
    world = World()
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(world.name_of(asgi.require_session(scope)))
        await send({"type": "websocket.accept"})

    headers = [(b"cookie", f"__Host-id={signed_in(world)}".encode()), (b"host", b"app.example")]
    headers += [(b"origin", origin.encode())] if origin else []
    scope = {"type": "websocket", "scheme": "wss", "headers": headers}
    sent = asyncio.run(ask_asgi(asgi.SessionMiddleware(app, world.sessions), scope))
    assert [message["type"] for message in sent] == ["websocket.accept" if user else "websocket.close"]
    assert seen == ([user] if user else [])


def test_a_websocket_without_a_session_is_closed() -> None:
    """A refusal inside the application closes it before it is accepted."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asgi.require_session(scope)

    sent = asyncio.run(ask_asgi(asgi.SessionMiddleware(app, World().sessions), {"type": "websocket"}))
    assert sent == [{"type": "websocket.close", "code": 1008, "reason": "session_required"}]


def test_the_lifespan_passes_by() -> None:
    """What is no request has no session."""
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)

    asyncio.run(ask_asgi(asgi.SessionMiddleware(app, World().sessions), {"type": "lifespan"}))
    assert KEY not in scopes[0]


def test_a_refusal_wins_over_the_error_page_that_a_framework_makes_of_it() -> None:
    """A framework outside whose handlers the middleware stands turns the exception into a 500 and raises it again."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            asgi.require_session(scope)
        except RequestRefused:
            await send({"type": "http.response.start", "status": 500, "headers": []})
            await send({"type": "http.response.body", "body": b"Internal Server Error"})
            raise

    start, body = asyncio.run(ask_asgi(asgi.SessionMiddleware(app, World().sessions), {}))
    assert start["status"] == 401
    assert json.loads(body["body"])["code"] == "session_required"


def test_an_application_may_answer_a_refusal_itself() -> None:
    """Its own page stays."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            asgi.require_session(scope)
        except RequestRefused as refused:
            await send({"type": "http.response.start", "status": refused.refusal.status, "headers": []})
            await send({"type": "http.response.body", "body": b"my own page"})

    _, body = asyncio.run(ask_asgi(asgi.SessionMiddleware(app, World().sessions), {}))
    assert body["body"] == b"my own page"


def test_a_refusal_ends_a_bare_wsgi_application() -> None:
    """The exception alone is enough."""
    started: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        wsgi.require_session(environ)
        raise AssertionError("never reached")

    environ = {"REQUEST_METHOD": "GET", "wsgi.url_scheme": "https", "PATH_INFO": "/"}
    [body] = wsgi.SessionMiddleware(app, World().sessions)(environ, lambda *start: started.append(start))
    assert started[0][0] == "401 Unauthorized"
    assert json.loads(body)["code"] == "session_required"


def test_a_wsgi_application_that_is_a_generator_may_refuse() -> None:
    """Nothing of it runs before the server asks for the first piece of the answer; the refusal is answered then."""
    started: list[Any] = []
    closed: list[bool] = []

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        try:
            wsgi.require_session(environ)
            start_response("200 OK", [])
            yield b"secret"
        finally:
            closed.append(True)

    environ = {"REQUEST_METHOD": "GET", "wsgi.url_scheme": "https", "PATH_INFO": "/"}
    [body] = wsgi.SessionMiddleware(app, World().sessions)(environ, lambda *start: started.append(start))
    assert [start[0] for start in started] == ["401 Unauthorized"]
    assert json.loads(body)["code"] == "session_required"
    assert closed


def test_the_middleware_is_needed() -> None:
    """Asking without it is a mistake of the application, and says so."""
    for module in (asgi, wsgi):
        with pytest.raises(ConfigurationError, match="not installed"):
            module.current_session({})


def test_paths_are_those_below_the_mount_point() -> None:
    """Patterns see what routes see; the way back is the whole address."""
    scope = {"path": "/app/a b", "raw_path": b"/app/a%20b", "root_path": "/app", "query_string": b"c=d"}
    head = asgi.head_of({"type": "http", "method": "GET", "headers": [], **scope})
    assert (head.path, head.target) == ("/a b", "/app/a%20b?c=d")
    environ = {"SCRIPT_NAME": "/app", "PATH_INFO": "/a b", "QUERY_STRING": "c=d"}
    head = wsgi.head_of({**environ, "REQUEST_METHOD": "GET", "wsgi.url_scheme": "http"})
    assert (head.path, head.target) == ("/a b", "/app/a%20b?c=d")


def test_the_way_back_has_the_mount_point_that_a_proxy_took_away() -> None:
    """A proxy that cuts the prefix off, and `FastAPI(root_path="/app")`: the browser's address has it still."""
    scope = {"path": "/a b", "raw_path": b"/a%20b", "root_path": "/app", "query_string": b"c=d"}
    head = asgi.head_of({"type": "http", "method": "GET", "headers": [], **scope})
    assert (head.path, head.target) == ("/a b", "/app/a%20b?c=d")


@pytest.mark.parametrize(
    ("path", "raw_path"), [("/app/sign in", b"/app/sign%20in"), ("/sign in", b"/sign%20in"), ("/sign in", None)]
)
def test_the_login_page_of_an_application_below_a_prefix_is_open(path: str, raw_path: bytes | None) -> None:
    """Browsers are sent to an address with the prefix; it must not send them on to itself for ever."""
    answers: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"sign in here"})

    async def send(message: Any) -> None:
        answers.append(message)

    world = World(login_url="/app/sign%20in?lang=en")
    scope = {"type": "http", "method": "GET", "root_path": "/app", "headers": [(b"accept", b"text/html")]}
    served = asgi.SessionMiddleware(app, world.sessions, require=True)
    asyncio.run(served({**scope, "path": path, "raw_path": raw_path}, None, send))  # type: ignore[arg-type]
    assert answers[0]["status"] == 200
    asyncio.run(served({**scope, "path": "/app/page", "raw_path": b"/app/page"}, None, send))  # type: ignore[arg-type]
    assert (answers[2]["status"], dict(answers[2]["headers"])[b"location"]) == (
        307,
        b"/app/sign%20in?lang=en&next=/app/page",
    )

    def wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return []

    environ = {"REQUEST_METHOD": "GET", "wsgi.url_scheme": "https", "SCRIPT_NAME": "/app", "PATH_INFO": "/sign in"}
    started: list[Any] = []
    wsgi.SessionMiddleware(wsgi_app, world.sessions, require=True)(environ, lambda *start: started.append(start))
    assert started[0][0] == "200 OK"


def test_repeated_headers_are_joined() -> None:
    """HTTP/2 splits cookies over several headers; two of another kind make neither of them."""
    scope = {"type": "http", "method": "GET", "path": "/"}
    headers = [
        (b"cookie", b"a=1"),
        (b"cookie", b"b=2"),
        (b"authorization", b"Bearer a"),
        (b"authorization", b"Bearer b"),
    ]
    head = asgi.head_of({**scope, "headers": headers})
    assert head.headers == {"cookie": "a=1; b=2", "authorization": "Bearer a, Bearer b"}


@pytest.mark.parametrize(
    ("user_agent", "device"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
        (
            "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/140.0 Safari/537.36",
            "Chrome on Windows",
        ),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/140.0 Safari/537.36 Edg/140.0", "Edge on Windows"),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Mobile/15E Safari/604.1",
            "Safari on iPhone",
        ),
        ("Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 Chrome/140.0 Mobile Safari/537.36", "Chrome on Android"),
        ("curl/8.1", "curl"),
        ("", ""),
        ("\x1b[31mred/1", "[31mred"),
        ("x" * 5000, "x" * 60),
    ],
)
def test_devices_are_named_coarsely(user_agent: str, device: str) -> None:
    """No version, so that an update is not a new device; nothing that could not be shown."""
    assert device_of(user_agent) == device


def test_all_sources_are_asked_when_there_are_others_than_the_usual() -> None:
    """A source of one's own may use any header."""
    world = World()
    token = signed_in(world, credential_kind="key")

    class KeySource(BearerSource):
        vary = "X-Key"

        def read(self, request: RequestHead) -> str | None:
            return request.headers.get("x-key")

    own = CompositeSource(CookieSource(cookie=Cookie(name="id")), KeySource(name="key"))
    sessions = WebSessions(world.manager, credentials=own)
    users: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        users.append(asgi.current_session(scope))

    asyncio.run(ask_asgi(asgi.SessionMiddleware(app, sessions), {"headers": [(b"x-key", token.encode())]}))
    assert [session.credential_kind for session in users] == ["key"]
