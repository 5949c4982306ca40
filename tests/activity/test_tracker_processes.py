"""Forks and interpreter exits: every process flushes what it recorded, none hangs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PREAMBLE = """
import os, sys, threading
from datetime import timedelta
from lastseen import LastSeen, TrackerSettings
slow = TrackerSettings(flush_interval=timedelta(hours=1), max_buffer_size=None)
seen = LastSeen.open("sqlite:///" + sys.argv[1], migrate=True, tracking=slow)
"""


def run(script: str, tmp_path: Path) -> set[str]:
    """Run a script in its own interpreter; return the client ids that it left in the database."""
    from lastseen import LastSeen

    path = tmp_path / "seen.db"
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PREAMBLE + script, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with LastSeen.open(f"sqlite:///{path}") as seen:
        return {client.client_id for client in seen.clients.list()}


def test_what_waits_is_saved_at_interpreter_exit(tmp_path: Path) -> None:
    """A process that simply ends has written everything, without a call to close."""
    assert run("seen.clients.record('a')", tmp_path) == {"a"}


def test_the_exit_of_a_script_that_fails_saves_too(tmp_path: Path) -> None:
    """sys.exit is an orderly end."""
    assert run("seen.clients.record('a'); sys.exit(0)", tmp_path) == {"a"}


def test_a_forked_child_starts_its_own_thread_and_writes_its_own_records(tmp_path: Path) -> None:
    """As under a server that loads the application before it forks; the parent's waiting keys are the parent's."""
    script = """
seen.clients.record("parent")
children = []
for number in range(3):
    child = os.fork()
    if child == 0:
        assert seen.clients.health().buffer_size == 0
        seen.clients.record(f"child-{number}")
        assert seen.clients.tracker._thread.is_alive()
        sys.exit(seen.close())
    children.append(child)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
assert seen.clients.health().buffer_size == 1
assert seen.clients.tracker.waiting("parent")
"""
    assert run(script, tmp_path) == {"parent", "child-0", "child-1", "child-2"}


def test_a_fork_in_the_middle_of_a_record_and_a_flush_does_not_hang_the_child(tmp_path: Path) -> None:
    """Locks that other threads held at the moment of the fork are new in the child."""
    script = """
stop = threading.Event()
def busy():
    number = 0
    while not stop.is_set():
        number += 1
        seen.clients.record(f"busy-{number % 50}")
        if number % 100 == 0:
            seen.clients.flush()
threads = [threading.Thread(target=busy) for _ in range(3)]
for thread in threads:
    thread.start()
for number in range(20):
    child = os.fork()
    if child == 0:
        seen.clients.record(f"child-{number}")
        os._exit(seen.close())
    assert os.waitpid(child, 0)[1] == 0
stop.set()
for thread in threads:
    thread.join()
"""
    assert {f"child-{number}" for number in range(20)} <= run(script, tmp_path)


def test_a_child_that_records_nothing_ends_quietly(tmp_path: Path) -> None:
    """An unused tracker in a worker costs nothing and hangs nothing."""
    script = """
seen.clients.record("parent")
child = os.fork()
if child == 0:
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    assert run(script, tmp_path) == {"parent"}
