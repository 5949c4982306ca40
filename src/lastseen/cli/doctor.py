"""`lastseen doctor`: whether a database, and what is beside it, are fit to work with."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import typer

from lastseen.activity.store import ClientRemoval, ClientStore
from lastseen.cli import doctor_place
from lastseen.cli.opening import configure_logging, require_file
from lastseen.cli.options import JsonOption, with_settings
from lastseen.cli.output import console, print_json
from lastseen.errors import LastSeenError, SchemaError, StoreError
from lastseen.settings import Settings
from lastseen.stores import Store, open_store
from lastseen.stores.absence import may_pass
from lastseen.visits.recount import Recount
from lastseen.visits.site import Site
from lastseen.visits.store import EventQuery

EXAMPLES = """\
[bold]Examples[/bold]

  lastseen doctor
  lastseen doctor --database postgresql://lastseen@db/lastseen --json
"""

BATCH = 5
FAILED, AWAY = 1, 3
SHOWN_PROBLEMS = 3


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor", epilog=EXAMPLES)(doctor)


@with_settings()
def doctor(*, as_json: JsonOption = False, settings: Settings) -> None:
    """Check a database: connection, schema, rights, and a round trip that leaves nothing behind.

    The round trip inserts a client of its own, moves it forward, writes a batch of five, shows them and takes them
    back. Then the events of every site are folded again, and must give the visits that are stored. The data folder,
    what waits in it, the copies for reports and the port of the server are looked at, too. The exit code is 1 when
    anything is wrong, 3 when only the database is away or busy.
    """
    configure_logging(settings)
    results = list(run_checks(settings))
    healthy = all(result.passed for result in results)
    failed = [result for result in results if result.passed is False]
    if as_json:
        print_json({"healthy": healthy, "checks": results})
    else:
        _print(results)
    if not healthy:
        raise typer.Exit(AWAY if all(result.may_pass for result in failed) else FAILED)


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckResult:
    """One look at one thing. `passed` is None for what was not looked at, because something before it failed."""

    name: str
    passed: bool | None
    detail: str
    may_pass: bool = False
    """Whether what is wrong may be over by itself: the database is away, or another process holds it."""


def run_checks(settings: Settings) -> Iterator[CheckResult]:
    """Look at the database, each thing only when those before it passed; then at what is beside it."""
    yield from _check_database(settings)
    yield _examine("data folder", lambda: doctor_place.data_folder(settings))
    yield _examine("spool", lambda: doctor_place.spool(settings))
    yield _examine("copies", lambda: doctor_place.copies(settings))
    yield _examine("port", lambda: doctor_place.port(settings))


def _check_database(settings: Settings) -> Iterator[CheckResult]:
    source = settings.database_url
    try:
        require_file(settings)
        store = open_store(source, pool_size=1)
    except (LastSeenError, OSError) as error:
        yield CheckResult(name="connection", passed=False, detail=str(error))
        return
    try:
        yield from Examination(store, lambda error: may_pass(error, source)).run()
    finally:
        store.close()


class Examination:
    """The checks of one open store."""

    def __init__(self, store: Store, may_pass: Callable[[Exception], bool]) -> None:
        self._store = store
        self._may_pass = may_pass
        self._clients: ClientStore = store.clients
        name = f"lastseen-doctor-{secrets.token_hex(8)}"
        self._one = f"{name}-one"
        self._batch = [f"{name}-{number}" for number in range(1, BATCH + 1)]
        self._now = datetime.now(UTC).replace(microsecond=0)
        self._wrote = False

    def run(self) -> Iterator[CheckResult]:
        """Yield the results; what the checks wrote is taken back whatever happens."""
        sick = False
        for name, check in self._checks():
            if sick and not (name == "taken back" and self._wrote):
                yield CheckResult(name=name, passed=None, detail="not tried")
                continue
            result = _examine(name, check, self._may_pass)
            sick = sick or not result.passed
            yield result

    def _checks(self) -> list[tuple[str, Callable[[], str]]]:
        return [
            ("connection", self._connection),
            ("schema", self._schema),
            ("insert", self._insert),
            ("update", self._update),
            ("batch of five", self._write_batch),
            ("shown", self._show),
            ("taken back", self._take_back),
            ("visits", self._visits),
        ]

    def _connection(self) -> str:
        self._store.pending_migrations()
        return self._store.address

    def _schema(self) -> str:
        newer = self._store.newer_migrations()
        if newer:
            raise SchemaError(f"of a newer version of lastseen ({', '.join(newer)}); upgrade lastseen")
        pending = self._store.pending_migrations()
        if pending:
            raise SchemaError(f"not applied: {', '.join(pending)}; run: lastseen migrate")
        self._clients.check_schema()
        return "up to date"

    def _insert(self) -> str:
        removal(self._clients)
        self._wrote = True
        at = self._now - timedelta(hours=1)
        _expect(self._clients.batch_record_activity({self._one: at}) == 1, "a new client was not inserted")
        client = self._clients.get_client(self._one)
        _expect(client is not None and client.last_seen_at == client.created_at == at, f"read back: {client}")
        return "a new client, read back"

    def _update(self) -> str:
        moved = self._clients.batch_record_activity({self._one: self._now})
        older = self._clients.batch_record_activity({self._one: self._now - timedelta(days=1)})
        client = self._clients.get_client(self._one)
        _expect((moved, older) == (1, 0), f"a newer time moved {moved} rows, an older one {older}")
        _expect(client is not None and client.last_seen_at == self._now, f"read back: {client}")
        _expect(client is not None and client.created_at < self._now, "created_at changed")
        return "moved forward, never back"

    def _write_batch(self) -> str:
        moved = self._clients.batch_record_activity(dict.fromkeys(self._batch, self._now))
        hour = self._now.replace(minute=0, second=0)
        hours = self._clients.batch_record_hours({client_id: [hour] for client_id in self._batch})
        _expect((moved, hours) == (BATCH, BATCH), f"wrote {moved} clients and {hours} hours")
        return "in one statement each"

    def _show(self) -> str:
        found = [self._clients.get_client(client_id) for client_id in self._batch]
        _expect(all(found), "the batch is not there")
        return ", ".join(client.client_id[-8:] for client in found if client is not None)

    def _take_back(self) -> str:
        ours = [self._one, *self._batch]
        removed = removal(self._clients).remove_clients(ours)
        left = [client_id for client_id in ours if self._clients.get_client(client_id) is not None]
        _expect(not left, f"still there: {', '.join(left)}")
        return f"{removed} clients, nothing is left"

    def _visits(self) -> str:
        """Fold all events again and compare; for those who come to harm, name the first."""
        sites = self._store.sites.list_sites()
        healths = [site_health(self._store, site) for site in sites]
        drifting = [health for health in healths if health.problems]
        _expect(not drifting, "; ".join(health.complaint() for health in drifting))
        visits, events = sum(health.visits for health in healths), sum(health.events for health in healths)
        of_sites = "" if len(sites) == 1 else f" of {len(sites)} sites"
        return f"{visits:,} visits are what {events:,} events{of_sites} fold into"


@dataclass(kw_only=True, slots=True)
class SiteHealth:
    """What looking at the visits of one site found."""

    site_id: str
    visits: int = 0
    events: int = 0
    drifting_visitors: int = 0
    problems: list[str] = field(default_factory=list)
    """The first few."""

    def complaint(self) -> str:
        """Say what is wrong, and what helps."""
        shown = "; ".join(self.problems[:SHOWN_PROBLEMS])
        return (
            f"site {self.site_id}: {self.drifting_visitors:,} visitors have other visits than their events make "
            f"({shown}); run: lastseen visits rebuild --site {self.site_id}"
        )


def site_health(store: Store, site: Site) -> SiteHealth:
    """Fold all events of a site again and compare; changes nothing."""
    health = SiteHealth(site_id=site.id)
    before = store.visits.count_events(EventQuery(site_id=site.id))
    for found in Recount(store.visits, site.id, site.rule).run():
        health.visits += len(found.stored)
        health.events += found.events
        if found.differs:
            health.drifting_visitors += 1
            if len(health.problems) < SHOWN_PROBLEMS:
                health.problems += [f"visitor {found.visitor_id}: {line}" for line in found.differences()]
    # What came meanwhile may have been seen or not; nothing that was there may be missing.
    if health.events < before:
        health.problems.append(f"{before - health.events:,} events belong to no visitor")
    return health


def removal(clients: ClientStore) -> ClientRemoval:
    """Return the store as one that can remove clients; raises `StoreError` before anything is written to another."""
    if not isinstance(clients, ClientRemoval):
        raise StoreError(f"{type(clients).__name__} cannot take clients back, so nothing is written to it")
    return clients


def _examine(name: str, check: Callable[[], str], passes: Callable[[Exception], bool] = lambda _: False) -> CheckResult:
    try:
        return CheckResult(name=name, passed=True, detail=check())
    except (LastSeenError, OSError) as error:
        return CheckResult(name=name, passed=False, detail=str(error), may_pass=passes(error))


def _expect(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - an assertion, not an option
    if not holds:
        raise StoreError(otherwise)


def _print(results: list[CheckResult]) -> None:
    out = console()
    signs = {True: ("✓", "green"), False: ("✗", "red"), None: ("-", "bright_black")}
    for result in results:
        sign, style = signs[result.passed]
        out.print(sign, style=style, end=" ")
        out.print(f"{result.name:14} {result.detail}", soft_wrap=True)
