"""`lastseen serve` and `lastseen demo`, as the processes that people start."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from lastseen.cli.demo_data import DAY, KINDS, demo_history, live_clients
from tests.cli.conftest import LASTSEEN, Command
from tests.server.running import eventually

NOW = 1_769_860_800.0


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a command that serves on a free port, and stop it at the end; gives the process and its address."""
    with subprocess.Popen([LASTSEEN, *arguments, "--port", "0"], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            for line in server.stdout:
                if found := re.search(r"http://\S+", line):
                    yield server, found[0]
                    break
            else:
                raise AssertionError("the server ended without printing its address")
        finally:
            server.terminate()
            server.wait(timeout=60)


def ask(address: str, path: str, body: bytes | None = None) -> Any:
    """Ask the server, and return its JSON."""
    request = urllib.request.Request(f"{address}{path}", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read())


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_serving_on_a_fresh_machine(call: Command, alone: Path, end: signal.Signals) -> None:
    """Without any configuration it makes its database, takes activity, and has saved it when it is told to end."""
    with running("serve") as (server, address):
        assert ask(address, "/api/v1/activity", b'{"client_id": "till-7"}')["accepted"] == 1
        server.send_signal(end)
        assert server.wait(timeout=60) == 0
    assert (alone / ".local/share/lastseen/lastseen.db").is_file()
    assert call("clients", "show", "till-7", "--json").document["status"] == "online"


def test_the_command_line_reads_beside_the_server(call: Command, alone: Path) -> None:
    """Import and the questions work on the database of a server that runs."""
    (alone / "log").write_text('{"client_id": "older", "at": 1000}\n')
    with running("serve") as (_, address):
        assert call("import", "activity", alone / "log").code == 0
        assert call("clients", "count", "--json").document["total"] == 1
        assert ask(address, "/api/v1/clients")["clients"][0]["client_id"] == "older"


def test_a_taken_port_is_one_line(process: Command) -> None:
    """The message names the address and what to do."""
    with running("serve") as (_, address):
        done = process("serve", "--port", address.rpartition(":")[2])
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert "--port" in done.err


def test_a_host_that_nobody_knows_is_one_line(process: Command) -> None:
    """The message names the host and what to do."""
    done = process("serve", "--host", "nowhere.invalid", "--port", "0")
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert "nowhere.invalid" in done.err


def test_an_address_that_others_can_reach_is_refused(process: Command) -> None:
    """Without accounts the server listens on this machine only."""
    done = process("serve", "--host", "0.0.0.0", "--port", "0")
    assert (done.code, done.out) == (2, "")
    assert "0.0.0.0" in done.err


def test_the_demo_moves(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo serves all four statuses and weeks of visits; new activity arrives by itself; nothing is left behind."""
    monkeypatch.setenv("TMPDIR", str(alone))
    with running("demo") as (server, address):
        counts = ask(address, "/api/v1/clients?limit=1000")["clients"]
        assert {client["status"] for client in counts} == {"online", "recent", "idle", "inactive"}
        devices = ask(address, "/api/v1/devices?limit=1000")["devices"]
        assert {device["status"] for device in devices} == {"online", "recent", "idle", "inactive", None}
        keys = ask(address, "/api/v1/keys")["keys"]
        assert {key["is_valid"] for key in keys} == {True, False}
        assert ask(address, "/api/v1/visits/count")["count"] > 1_000
        first = newest(address)
        eventually(lambda: newest(address) != first, "new activity arrives")
        assert list(alone.glob("lastseen-demo-*/lastseen.db"))
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=60) == 0
    assert list(alone.iterdir()) == []


def newest(address: str) -> str:
    """Return when any client was last seen."""
    return str(ask(address, "/api/v1/clients?limit=1")["clients"][0]["last_seen_at"])


def test_the_demo_data_can_be_printed(call: Command, alone: Path) -> None:
    """Without serving it prints its clients and their counts, and uses no database of the user's."""
    (alone / "lastseen.toml").write_text(f'database_url = "sqlite:///{alone}/real.db"\n')
    done = call("demo", "--no-serve", "--days", "1")
    assert done.code == 0
    assert re.search(r"60 clients: \d+ online, \d+ recent, \d+ idle, \d+ inactive", done.out)
    document = call("demo", "--no-serve", "--json").document
    assert {client["status"] for client in document["clients"]} == {"online", "recent", "idle", "inactive"}
    assert any(client["created_at"] != client["last_seen_at"] for client in document["clients"])
    assert not (alone / "real.db").exists()


@pytest.mark.parametrize("option", ["--database", "--data-folder"])
def test_the_demo_takes_no_database(call: Command, option: str) -> None:
    """An option that would be passed over is refused, on either side of the command."""
    before = call(option, "sqlite:///real.db", "demo", "--no-serve")
    assert (before.code, before.out, before.err) == (2, "", f"lastseen: {option} does not go with demo\n")
    assert call("demo", "--no-serve", option, "sqlite:///real.db").code == 2


def test_json_goes_with_no_serve(call: Command) -> None:
    """A server prints no document."""
    assert call("demo", "--json").code == 2


@pytest.mark.parametrize("now", [NOW, NOW + 2.5 * DAY, NOW + 5 * DAY + 10_000])
def test_the_demo_history(now: float) -> None:
    """Whatever the hour and the day, each client's moments grow and end as long ago as its kind says."""
    history: dict[str, list[float]] = {}
    for client_id, at in demo_history(now, 7, Random(1)):
        history.setdefault(client_id, []).append(at)
    assert len(history) == 60
    silent_for = {name: kind.silent_for for kind in KINDS for name in kind.names}
    for client_id, moments in history.items():
        assert moments == sorted(moments)
        assert moments[0] < moments[-1] <= now - silent_for[client_id]
        assert moments[0] >= now - 8 * DAY
    assert min(now - moments[-1] for moments in history.values()) < 300


def test_the_live_clients() -> None:
    """Only clients that are about are active live; most seconds bring somebody."""
    dice = Random(1)
    seconds = [live_clients(dice) for _ in range(200)]
    quiet = {name for kind in KINDS if not kind.live for name in kind.names}
    assert not quiet.intersection(*seconds)
    assert sum(map(bool, seconds)) > 150
