"""A process that saves many things in an SQLite file, and records what the disk was told and what it was promised.

Run as a module with a folder, a file for the record, a seed, a count and the setting of `PRAGMA synchronous`.
"""

from __future__ import annotations

import pickle
import random
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

from lastseen.accounts.audit import AuditAction, AuditEntry
from lastseen.devices.device import Device, DeviceChange
from lastseen.devices.store import MAX_PAGE, DeviceQuery, KeyQuery
from lastseen.sessions.store import SessionDraft
from lastseen.stores.sqlite import SQLiteStore
from lastseen.stores.sqlite.database import SQLiteDatabase
from lastseen.testing.api_keys import new_key
from lastseen.testing.factories import moment
from lastseen.testing.sites import new_site
from lastseen.testing.streams import batches, stream
from lastseen.testing.visit_copies import save
from lastseen.visits.rule import VisitRule
from lastseen.visits.site import DEFAULT_SITE_ID
from tests.stores.power_cut import Step, record_sqlite

FILE = "data/lastseen.db"
USER = "provider|ann"
HOUR = timedelta(hours=1)

Facts = dict[tuple[str, str], object]
"""What is in the store, by kind and id; None is what is not there any more."""
Deed = tuple[Facts, Callable[[], object]]
"""What will be so, and what makes it so."""


class Saving:
    """Does one thing after the other; before each it notes what is begun, and after each that it is acknowledged."""

    def __init__(self, folder: Path, seed: int, count: int, synchronous: str, steps: list[Step]) -> None:
        self._path = folder / FILE
        self._seed = seed
        self._count = count
        self._steps = steps
        self._dice = random.Random(seed)
        self._store = SQLiteStore(self._path)
        assert isinstance(self._store._database, SQLiteDatabase)
        self._store._database._synchronous = synchronous

    def run(self) -> None:
        """Make the tables, save, and end without closing, as a machine does that loses its power."""
        self._do({("tables", ""): True}, self._store.migrate)
        user_id = ""

        def sign_up() -> None:
            nonlocal user_id
            user_id = self._store.sessions.upsert_user(USER, moment())

        self._do({("user", USER): True}, sign_up)
        for number, (facts, act) in enumerate(self._deeds(user_id)):
            self._do(facts, act)
            if self._dice.random() < 0.2:
                # Their commits are not acknowledged, are not synced, and lie in the same log.
                self._store.clients.batch_record_activity({f"client-{number}": moment(number)})
            if self._dice.random() < 0.04:
                self._store.close()
            if self._dice.random() < 0.04:
                self._checkpoint()

    def _do(self, facts: Facts, act: Callable[[], object]) -> None:
        self._steps.append(("note", "begun", facts))
        act()
        self._steps.append(("note", "acknowledged", facts))

    def _checkpoint(self) -> None:
        """Move the log into the database while it is open, so that the log begins anew; some of it or all."""
        other = sqlite3.connect(self._path)
        try:
            other.execute(f"PRAGMA wal_checkpoint({self._dice.choice(('PASSIVE', 'RESTART', 'TRUNCATE'))})").fetchall()
        finally:
            other.close()

    def _deeds(self, user_id: str) -> Iterator[Deed]:
        kinds = (self._sessions(user_id), self._keys(), self._devices(), self._sites(), self._trail())
        for batch in batches(self._seed, stream(self._seed, self._count), most=12):
            yield {("event", event.id): 1 for event in batch}, partial(save, self._store.visits, *batch)
            if self._dice.random() < 0.5:
                yield next(self._dice.choice(kinds))

    def _sessions(self, user_id: str) -> Iterator[Deed]:
        """Logins that are extended, and each second one logged out."""
        sessions, now = self._store.sessions, moment()
        for number in range(self._count):
            one = f"session-{self._seed}-{number}"
            draft = SessionDraft(id=one, digest=one.encode().ljust(32), authenticated_at=now)
            create = partial(sessions.create_session, user_id, now + HOUR, now + 24 * HOUR, now, draft)
            yield {("session", one): now + HOUR}, create
            later = now + HOUR + timedelta(seconds=1)
            yield {("session", one): later}, partial(sessions.extend_session, one, later, now)
            if number % 2:
                yield {("session", one): None}, partial(sessions.delete_session, one)

    def _keys(self) -> Iterator[Deed]:
        """Keys, each second one revoked at once."""
        devices = self._store.devices
        for number in range(self._count):
            key = new_key(f"{self._seed % 1000:03}k{number:04}")
            yield {("key", key.key.id): "valid"}, partial(devices.add_key, key)
            if number % 2:
                yield {("key", key.key.id): "revoked"}, partial(devices.revoke_key, key.key.id, moment())

    def _devices(self) -> Iterator[Deed]:
        """Devices that get a name, and each second one deleted."""
        devices = self._store.devices
        for number in range(self._count):
            one = f"device-{self._seed}-{number}"
            yield {("device", one): ""}, partial(devices.upsert_device, Device(id=one, created_at=moment()))
            yield {("device", one): "van"}, partial(devices.change_device, one, DeviceChange(name="van"))
            if number % 2:
                yield {("device", one): None}, partial(devices.delete_device, one)

    def _sites(self) -> Iterator[Deed]:
        """Sites, and settings that change."""
        sites = self._store.sites
        for number in range(self._count):
            site = new_site(f"site-{self._seed}-{number}", write_key=f"wk_{self._seed:011}{number:011}")
            yield {("site", site.id): site.rule.timeout}, partial(sites.add_site, site)
            rule = VisitRule(timeout=timedelta(minutes=8 + number))
            yield {("site", site.id): rule.timeout}, partial(sites.change_site, site.id, rule=rule)

    def _trail(self) -> Iterator[Deed]:
        """Entries of the audit trail."""
        for number in range(self._count):
            entry = AuditEntry(at=moment(number), action=AuditAction.SIGNED_IN, detail=f"{self._seed}-{number}")
            yield {("entry", entry.detail): 1}, partial(self._store.accounts.append_audit, entry)


def facts_of(store: SQLiteStore) -> Facts:
    """Return what is in a store, in the words of the notes."""
    if store.pending_migrations():
        return {}
    found: Facts = {("tables", ""): True}
    events = Counter(event.id for event in store.visits.all_events(DEFAULT_SITE_ID))
    found |= {("event", event_id): count for event_id, count in events.items()}
    for user in store.sessions.list_users():
        found["user", user.provider_id] = True
        for session in store.sessions.list_sessions(user.id, moment()):
            found["session", session.id] = session.idle_deadline
    keys = store.devices.list_keys(KeyQuery(limit=MAX_PAGE))
    found |= {("key", key.id): "valid" if key.revoked_at is None else "revoked" for key in keys}
    found |= {("device", one.id): one.name for one in store.devices.list_devices(DeviceQuery(limit=MAX_PAGE))}
    found |= {("site", site.id): site.rule.timeout for site in store.sites.list_sites(MAX_PAGE)}
    entries = Counter(record.entry.detail for record in store.accounts.list_audit(MAX_PAGE))
    return found | {("entry", detail): count for detail, count in entries.items()}


def main() -> None:
    """Record one run."""
    folder, record, seed, count, synchronous = sys.argv[1:]
    steps: list[Step] = []
    record_sqlite(Path(folder), steps)
    Saving(Path(folder).resolve(), int(seed), int(count), synchronous, steps).run()
    Path(record).write_bytes(pickle.dumps(steps))


if __name__ == "__main__":
    main()
