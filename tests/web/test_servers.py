"""Real applications in real servers, asked over HTTP; what they recorded is looked up in the file afterwards."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.web.cases import CASES, Case
from tests.web.running import Server, running

APPS = "tests.web.apps"
STACKS = {
    "starlette-uvicorn": ("uvicorn", f"{APPS}.starlette_app:app"),
    "starlette-granian": ("granian", f"{APPS}.starlette_app:app"),
    "fastapi-uvicorn": ("uvicorn", f"{APPS}.fastapi_app:app"),
    "litestar-granian": ("granian", f"{APPS}.litestar_app:app"),
    "django-uvicorn": ("uvicorn", f"{APPS}.django_project:asgi_application"),
    "django-gunicorn": ("gunicorn", f"{APPS}.django_project:wsgi_application"),
    "flask-gunicorn": ("gunicorn", f"{APPS}.flask_app:app"),
}


def recorded(folder: Path) -> set[str]:
    """Return the clients in the file."""
    connection = sqlite3.connect(folder / "lastseen.db")
    try:
        return {client_id for (client_id,) in connection.execute("SELECT client_id FROM client_activity")}
    finally:
        connection.close()


def ask(server: Server, case: Case) -> None:
    """Send the case and check that the answer is the application's own."""
    connection = server.connect()
    try:
        connection.request(case.method, case.target, case.body or None, case.all_headers())
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    assert answer.status < 500, case
    if case.method == "POST" and case.path in {"/echo", "/stream"}:
        assert (answer.status, body == case.body) == (200, True), case


@pytest.mark.parametrize(("server", "app"), STACKS.values(), ids=STACKS.keys())
def test_every_case_over_http(server: str, app: str, tmp_path: Path) -> None:
    """Every case is answered, and SIGTERM saves exactly the clients that were named; nothing was written before."""
    with running(server, app, tmp_path) as web:
        for case in CASES:
            ask(web, case)
        head = b"POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
        two_segments = (head % b"/unread" + b"Content-Length: 27\r\n\r\n", b'{"client_id": "segmented" }')
        assert b" 200 " in web.send_raw(*two_segments)
        chunked = head % b"/echo" + b"Transfer-Encoding: chunked\r\n\r\n"
        pieces = (b'10\r\n{"client_id": "c\r\n', b'8\r\nhunked"}\r\n', b"0\r\n\r\n")
        assert b" 200 " in web.send_raw(chunked, *pieces)
        log = web.stop()
    assert "Traceback" not in log
    expected = {case.expected for case in CASES if case.expected is not None} | {"segmented"}
    # Django reads no body of unknown length from a WSGI server, and shows its middleware none from an ASGI server
    # before the view has read it.
    expected |= {"chunked"} if app != STACKS["django-gunicorn"][1] else set()
    assert recorded(tmp_path) == expected


@pytest.mark.parametrize("app", [STACKS["flask-gunicorn"][1], STACKS["django-gunicorn"][1]], ids=["flask", "django"])
def test_every_preloaded_worker_saves(app: str, tmp_path: Path) -> None:
    """Under gunicorn with `--preload`, each forked worker flushes what it heard, by its interval and at SIGTERM."""
    heard: dict[str, set[str]] = {}
    with running("gunicorn", app, tmp_path) as web:
        for number in range(3000):
            heard.setdefault(_ask_echo(web, f"c-{number}"), set()).add(f"c-{number}")
            if len(heard) == 3 and number >= 100:
                break
        assert len(heard) == 3, "not every worker was asked"
        web.stop()
    assert recorded(tmp_path) == set.union(*heard.values())


def test_workers_save_while_they_run(tmp_path: Path) -> None:
    """The flush thread runs in the workers, not only in the process that loaded the application."""
    with running("gunicorn", STACKS["flask-gunicorn"][1], tmp_path, LASTSEEN_FLUSH_INTERVAL="50ms") as web:
        workers: set[str] = set()
        for number in range(3000):
            worker = _ask_echo(web, f"c-{number}")
            workers.add(worker)
            if f"c-{number - 100}" in recorded(tmp_path) and len(workers) == 3:
                break
        else:
            pytest.fail("nothing was written while the workers ran")


def _ask_echo(server: Server, client_id: str) -> str:
    """Return which process answered."""
    connection = server.connect()
    try:
        connection.request("GET", f"/echo?client_id={client_id}")
        answer = connection.getresponse()
        answer.read()
        return answer.headers["X-Process"]
    finally:
        connection.close()
