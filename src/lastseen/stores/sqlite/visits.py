"""Events, visitors and visits in a SQLite file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from msgspec.structs import replace

from lastseen.clock import to_micros
from lastseen.stores.sqlite.database import Database, SQLiteDatabase
from lastseen.stores.sqlite.visit_bulk import save_prepared
from lastseen.stores.sqlite.visit_feed import read_changes
from lastseen.stores.sqlite.visit_memory import VisitMemory
from lastseen.stores.sqlite.visit_reading import SQLiteVisitReading, find_visit
from lastseen.stores.sqlite.visit_transaction import SQLiteVisitTransaction
from lastseen.stores.text import can_be_stored
from lastseen.stores.visit_bases import as_before, visitor_of
from lastseen.stores.visit_batch import PreparedBatch
from lastseen.stores.visit_saving import Outcome, refold, rules_of, save
from lastseen.visits.event import Event
from lastseen.visits.rule import VisitRule
from lastseen.visits.store import Changes, SaveResult
from lastseen.visits.visit import EndReason, Evidence, Visit


class SQLiteVisits(SQLiteVisitReading):
    """Implements `VisitStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._memory = VisitMemory()
        # On a connection that is lent to us the application may write as well, which no version tells.
        self._is_own = isinstance(database, SQLiteDatabase)

    @contextmanager
    def _transaction(self) -> Iterator[SQLiteVisitTransaction]:
        with self._database.write() as connection:
            transaction = SQLiteVisitTransaction(connection, self._memory.begin(connection))
            yield transaction
        if self._is_own:
            self._memory.keep(transaction.memory)

    def save(self, events: Sequence[Event], rules: Callable[[str], VisitRule]) -> SaveResult:
        """See `VisitStore`."""
        if not events:
            return SaveResult(new=0, duplicates=0)
        rule_of = rules_of(events, rules)
        with self._transaction() as transaction:
            if isinstance(events, PreparedBatch):
                return save_prepared(transaction, events, rule_of)
            return save(transaction, events, rule_of)

    def end(self, site_id: str, visit_id: str, at: datetime, reason: str, evidence: Evidence | None = None) -> bool:
        """See `VisitStore`."""
        if not (can_be_stored(site_id) and can_be_stored(visit_id)):
            return False
        with self._transaction() as transaction:
            visit = find_visit(transaction.connection, site_id, visit_id)
            if visit is None or visit.end is not None or visit.last_activity > to_micros(at):
                return False
            ended = replace(visit, end=to_micros(at), end_reason=EndReason(reason), end_evidence=evidence)
            held = transaction.find([visitor_of(visit)])
            transaction.write(Outcome(visits=[(held.by_key[visitor_of(visit)].no, ended)]))
            return True

    def end_overdue(self, ended: Sequence[Visit]) -> int:
        """See `VisitStore`."""
        with self._transaction() as transaction:
            due = [one for one in ended if as_before(one) == find_visit(transaction.connection, one.site_id, one.id)]
            held = transaction.find([visitor_of(one) for one in due])
            transaction.write(Outcome(visits=[(held.by_key[visitor_of(one)].no, one) for one in due]))
            return len(due)

    def refold(self, site_id: str, visitor_ids: Sequence[str], rule: VisitRule) -> int:
        """See `VisitStore`."""
        with self._transaction() as transaction:
            held = transaction.find([(site_id, each) for each in visitor_ids if can_be_stored(each)])
            return refold(transaction, [one for one in held.by_no.values() if one.visitor == one.no], held, rule)

    def changes(self, position: str = "", limit: int = 10_000) -> Changes:
        """See `VisitStore`."""
        with self._database.read() as connection:
            connection.execute("BEGIN")
            try:
                return read_changes(connection, position, limit)
            finally:
                connection.execute("ROLLBACK")
