"""Events, visitors and visits in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from msgspec.structs import replace

from lastseen.clock import to_micros
from lastseen.stores.postgres.database import PostgresDatabase
from lastseen.stores.postgres.visit_feed import is_from_elsewhere, number_anew, read_changes
from lastseen.stores.postgres.visit_holding import BeginAgainError, KnownIdentities
from lastseen.stores.postgres.visit_reading import PostgresVisitReading, find_visit
from lastseen.stores.postgres.visit_statements import AlreadyThereError
from lastseen.stores.postgres.visit_transaction import PostgresVisitTransaction
from lastseen.stores.text import can_be_stored
from lastseen.stores.visit_bases import as_before, visitor_of
from lastseen.stores.visit_batch import each_once
from lastseen.stores.visit_saving import Key, Outcome, refold, rules_of, save
from lastseen.visits.event import Event
from lastseen.visits.rule import VisitRule
from lastseen.visits.store import Changes, SaveResult
from lastseen.visits.visit import EndReason, Evidence, Visit

EVENTS_IN_TIME = 5_000
"""So many events more in a batch give it another deadline."""


class PostgresVisits(PostgresVisitReading):
    """Implements `VisitStore`."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        self._known = KnownIdentities()

    def save(self, events: Sequence[Event], rules: Callable[[str], VisitRule]) -> SaveResult:
        """See `VisitStore`."""
        if not events:
            return SaveResult(new=0, duplicates=0)
        rule_of, batch = rules_of(events, rules), each_once(events)
        more: set[Key] = set()
        may_copy = True
        while True:
            try:
                with (
                    self._database.transaction(deadlines=1 + len(events) // EVENTS_IN_TIME, begins_late=True) as cursor,
                    PostgresVisitTransaction(
                        cursor, known=self._known, more=more, may_copy=may_copy, batch=batch
                    ) as transaction,
                ):
                    result = save(transaction, batch, rule_of)
                    break
            except BeginAgainError as error:
                more.update(error.keys)
            except AlreadyThereError:
                may_copy = False
        return SaveResult(new=result.new, duplicates=len(events) - result.new, visits=result.visits)

    def end(self, site_id: str, visit_id: str, at: datetime, reason: str, evidence: Evidence | None = None) -> bool:
        """See `VisitStore`."""
        if not (can_be_stored(site_id) and can_be_stored(visit_id)):
            return False
        visitor_id: str | None = None
        while True:
            with self._database.transaction() as cursor:
                transaction = PostgresVisitTransaction(cursor)
                held = transaction.find([] if visitor_id is None else [(site_id, visitor_id)])
                visit = find_visit(cursor, site_id, visit_id)
                if visit is None or visit.end is not None or visit.last_activity > to_micros(at):
                    return False
                if visit.visitor_id == visitor_id:
                    ended = replace(visit, end=to_micros(at), end_reason=EndReason(reason), end_evidence=evidence)
                    transaction.write(Outcome(visits=[(held.by_key[site_id, visitor_id].no, ended)]))
                    return True
                # Whose it is had to be found out first.
                visitor_id = visit.visitor_id

    def end_overdue(self, ended: Sequence[Visit]) -> int:
        """See `VisitStore`."""
        with self._database.transaction() as cursor:
            transaction = PostgresVisitTransaction(cursor)
            held = transaction.find({visitor_of(one) for one in ended})
            due = [one for one in ended if as_before(one) == find_visit(cursor, one.site_id, one.id)]
            transaction.write(Outcome(visits=[(held.by_key[visitor_of(one)].no, one) for one in due]))
            return len(due)

    def refold(self, site_id: str, visitor_ids: Sequence[str], rule: VisitRule) -> int:
        """See `VisitStore`."""
        storable = {(site_id, each) for each in visitor_ids if can_be_stored(each)}
        with self._database.transaction() as cursor:
            transaction = PostgresVisitTransaction(cursor)
            held = transaction.find(storable)
            return refold(transaction, [one for one in held.by_no.values() if one.visitor == one.no], held, rule)

    def changes(self, position: str = "", limit: int = 10_000) -> Changes:
        """See `VisitStore`."""
        with self._database.transaction() as cursor:
            if not is_from_elsewhere(cursor):
                return read_changes(cursor, position, limit)
        with self._database.change_schema() as cursor:
            number_anew(cursor)
        with self._database.transaction() as cursor:
            return read_changes(cursor, position, limit)
