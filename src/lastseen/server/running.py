"""`lastseen serve`: open, listen, say where, drain, save."""

from __future__ import annotations

import gc
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta

from lastseen.accounts.manager import Accounts
from lastseen.app import LastSeen
from lastseen.clock import SYSTEM_CLOCK, utc
from lastseen.errors import ConfigurationError
from lastseen.ingest.service import Ingest
from lastseen.server.application import create_app
from lastseen.server.chores import HOUR, MINUTE, Chores
from lastseen.server.http_servers import BACKLOG, StopSignals, run_granian, run_uvicorn
from lastseen.server.ingest.gate import IngestGate
from lastseen.server.ingest.metrics import IngestMetrics
from lastseen.server.limits import RateLimits
from lastseen.server.logs import configure_logging
from lastseen.server.loopback import is_loopback
from lastseen.server.metrics import Metrics
from lastseen.server.opening import open_patiently
from lastseen.server.pages.hint import curl_line
from lastseen.settings import Settings
from lastseen.stores.absence import may_pass
from lastseen.visits.cookieless import Salts
from lastseen.visits.geography import Geography
from lastseen.visits.proxies import TrustedProxies

GARBAGE_FROM = 20_000
"""Objects more than there were. The default of 700 is less than a hundred requests under way make."""
CHORES_AFTER = timedelta(seconds=1)
"""The first requests come before what nobody waits for."""
KEY_CACHE = timedelta(seconds=5)
"""A key that another process revokes is accepted that much longer; one that this server revokes, not at all."""

_logger = logging.getLogger("lastseen.server")


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM, then finish the requests under way, save what waits, and return.

    A database that is not there yet is waited for; meanwhile all but the health is refused. Raises
    `ConfigurationError` for a port that is taken and, while there is no administrator, for an address that other
    machines can reach; and the errors of `LastSeen.open`.
    """
    configure_logging(settings)
    listener = _listen(settings.host, settings.port)
    metrics = Metrics()
    commits = IngestMetrics(metrics.registry)
    signals = StopSignals()
    with listener, signals.watched():
        opened = open_patiently(
            lambda: _open(settings, metrics, commits),
            lambda error: may_pass(error, settings.database_url),
            listener,
            signals,
        )
        if opened is None:
            _logger.info("stopped before the database was open")
            return
        address = _address(settings.host, listener)
        seen, accounts, ingest = opened.seen, opened.accounts, opened.ingest
        chores = _chores(seen, accounts)
        try:
            commits.watch(ingest)
            limits = RateLimits(settings.rate_limit)
            inner = create_app(seen, settings, metrics=metrics, accounts=accounts, limits=limits)
            app = IngestGate(inner, ingest, metrics, limits)

            def announce() -> None:
                _announce(address, seen.store.address, opened.set_up_token)
                chores.start()

            with _collecting_garbage_rarely():
                if settings.http_server == "granian":
                    run_granian(app, listener, announce, signals)
                else:
                    run_uvicorn(app, listener, announce, signals, direct=app.direct)
        finally:
            chores.end()
            opened.stop()
            chores.close()
            unsaved = opened.close()
    if not unsaved:
        _logger.info("stopped, everything is saved")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Opened:
    """What a server has open."""

    seen: LastSeen
    accounts: Accounts
    ingest: Ingest
    geography: Geography | None
    set_up_token: str | None

    def stop(self) -> None:
        """Take nothing more, and begin to save what waits, all of it at once: a database that hangs takes its time."""
        self.seen.stop_recording()
        self.accounts.stop_recording()
        self.ingest.close()

    def close(self) -> int:
        """Save what waits; returns how many things could not be saved."""
        self.ingest.close()
        if self.geography is not None:
            self.geography.close()
        self.accounts.close()
        return self.seen.close()


def _open(settings: Settings, metrics: Metrics, commits: IngestMetrics) -> _Opened:
    """Open the database and all that needs it; whatever fails, nothing stays open."""
    with ExitStack() as opening:
        seen = LastSeen.open(
            settings.database_url,
            migrate=True,
            tracking=settings.tracking(flush_log_level=logging.INFO),
            status_rule=settings.status_rule(),
            visit_rule=settings.visit_rule(),
            pool_size=settings.pool_size,
            key_cache=KEY_CACHE,
            on_flush=metrics.flushed,
            data_folder=settings.data_folder,
        )
        opening.callback(seen.close)
        accounts = Accounts(seen.store.accounts, seen.store.sessions)
        opening.callback(accounts.close)
        token = _set_up_token(accounts, settings.host)
        geography = None if settings.geo_database is None else Geography(settings.geo_database)
        if geography is not None:
            opening.callback(geography.close)
        ingest = _open_ingest(seen, settings, commits, geography)
        opening.pop_all()
    return _Opened(seen=seen, accounts=accounts, ingest=ingest, geography=geography, set_up_token=token)


@contextmanager
def _collecting_garbage_rarely() -> Iterator[None]:
    """Leave out what lives as long as the server, and wait for more garbage than a few requests bring.

    Otherwise the search for cycles takes a fifth of the time of a request, and finds next to none.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(GARBAGE_FROM, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _chores(seen: LastSeen, accounts: Accounts) -> Chores:
    chores = Chores(after=CHORES_AFTER)
    # The engine takes a fifth of a second to load: now, or with the first question. Asking `seen` for its reports here,
    # before any thread does, leaves it with one copy.
    chores.add("following events for reports", seen.reports.follow, HOUR)
    chores.add("ending visits", lambda: seen.visits.cleanup(stopping=chores.is_ending), MINUTE)
    chores.add("deleting salts", lambda: Salts(seen.store.salts).prune(utc(SYSTEM_CLOCK.now())), HOUR)
    chores.add("removing expired sessions", lambda: accounts.sessions.prune(stopping=chores.is_ending), HOUR)
    return chores


def _open_ingest(seen: LastSeen, settings: Settings, commits: IngestMetrics, geography: Geography | None) -> Ingest:
    return Ingest(
        seen,
        settings.data_folder / "spool",
        settings.spool_limit,
        geography=geography,
        kept_parameters=frozenset(settings.kept_url_parameters),
        proxies=TrustedProxies(settings.trusted_proxies),
        on_commit=commits.committed,
    )


def require_loopback(host: str) -> None:
    """Raise `ConfigurationError` for an address that other machines can reach."""
    if not is_loopback(host):
        raise ConfigurationError(
            f"host {host!r} is refused: there is no account yet, so anyone who can reach the server could read and "
            "write everything. Finish the set-up on a loopback address first: start it with --host 127.0.0.1 and open "
            "the set-up link that it prints, from elsewhere through an SSH tunnel "
            "(ssh -L 8080:127.0.0.1:8080 this-machine)."
        )


def _set_up_token(accounts: Accounts, host: str) -> str | None:
    """Return the token for the first administrator, or None when there is one."""
    if not accounts.is_set_up():
        require_loopback(host)
        return accounts.new_set_up_token()
    if not is_loopback(host):
        _logger.warning(
            "listening on %s without TLS: put a reverse proxy with TLS in front, or passwords can be read on the way "
            "and browsers will not keep anybody signed in",
            host,
        )
    return None


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise ConfigurationError(
            f"cannot listen on {host}: this machine knows no such address; choose another with --host"
        ) from error
    listener = socket.socket(family, kind, protocol)
    try:
        # As every server on POSIX does: a port whose last connections linger (TIME_WAIT) is free. Windows means
        # something else by it: two servers on one port.
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}; "
            "stop what uses the port, or choose another with --port (0 takes any free one)"
        ) from error
    return listener


def _address(host: str, listener: socket.socket) -> str:
    name = f"[{host.strip('[]')}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}"


def _announce(address: str, data: str, set_up_token: str | None) -> None:
    lines = [f"lastseen is listening on {address}", f"  data    {data}", f"  try it  {curl_line(address)}"]
    if set_up_token is not None:
        lines.append(f"  set up  {address}/set-up/{set_up_token}  (the first account; once, within an hour)")
    lines.append("  stop    Ctrl-C\n")
    sys.stdout.write("\n".join(lines))
    sys.stdout.flush()
