"""Any sequence of calls: a session is valid on a database exactly when it is in memory."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from lastseen.errors import SessionError
from lastseen.sessions.session import Session
from lastseen.sessions.store import CreatedSession, Reauthentication, SessionDraft, SessionLimit, WhenFull
from lastseen.stores import Store, open_store
from lastseen.stores.memory import MemorySessions
from lastseen.testing import moment
from tests.servers import ask

SECONDS = st.integers(-20, 40).map(lambda seconds: timedelta(seconds=seconds, microseconds=seconds % 3))
SPANS = st.integers(0, 60).map(lambda seconds: timedelta(seconds=seconds))
USERS = st.sampled_from(["alice", "bob"])
LIMITS = st.none() | st.builds(SessionLimit, most=st.integers(1, 3), when_full=st.sampled_from(WhenFull))
CHOICES = st.integers(0, 7)
TABLES = ("login_devices", "login_sessions", "lastseen_users")


def state_machine(store: Store, empty: Callable[[], object]) -> type[RuleBasedStateMachine]:
    """Return a machine that drives this store, emptied before every run, beside a fresh one in memory."""

    class SessionStoreModel(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            empty()
            self.real: Any = store.sessions
            self.model: Any = MemorySessions()
            self.now = moment()
            self.digests: list[list[bytes]] = []
            self.ids: dict[Any, dict[str, str]] = {self.real: {}, self.model: {}}
            for name in ("alice", "bob"):
                for side, ids in self.ids.items():
                    ids[name] = side.upsert_user(name, self.now)

        def both(self, method: str, *arguments: Any, user: str | None = None, **options: Any) -> Any:
            """Call both, demand the same answer, and return it; the users' ids are the stores' own."""
            answers = []
            for side, ids in self.ids.items():
                first = () if user is None else (ids[user],)
                scope = {"user_id": ids[options["user_id"]]} if "user_id" in options else {}
                try:
                    answer = getattr(side, method)(*first, *arguments, **{**options, **scope})
                except SessionError as error:
                    answer = type(error)
                answers.append(_named(answer, {user_id: name for name, user_id in ids.items()}))
            assert answers[0] == answers[1], (method, arguments, options)
            return answers[0]

        def digest(self, session: int) -> bytes:
            """Make the next digest of a session; the token that it stands for does not matter here."""
            known = self.digests[session]
            known.append(hashlib.sha256(f"{session} {len(known)}".encode()).digest())
            return known[-1]

        def chosen(self, choice: int) -> int:
            """Return one of the sessions, the latest first."""
            return max(0, len(self.digests) - 1 - choice)

        @rule(
            user=USERS,
            ago=st.integers(0, 5),
            idle=SPANS,
            absolute=SPANS,
            limit=LIMITS,
            replaces=st.none() | CHOICES,
        )
        def sign_in(
            self,
            *,
            user: str,
            ago: int,
            idle: timedelta,
            absolute: timedelta,
            limit: SessionLimit | None,
            replaces: int | None,
        ) -> None:
            presented = None
            if replaces is not None and self.digests:
                presented = self.digests[self.chosen(replaces)][-1]
            self.digests.append([])
            number = len(self.digests) - 1
            draft = SessionDraft(
                id=f"session-{number:03}",
                digest=self.digest(number),
                authenticated_at=self.now - timedelta(seconds=ago),
                device="Firefox",
                label="é😀'",
            )
            deadlines = self.now + idle, self.now + absolute
            self.both("create_session", *deadlines, self.now, draft, user=user, replaces=presented, limit=limit)

        @rule(span=SPANS)
        def time_passes(self, span: timedelta) -> None:
            self.now += span

        @precondition(lambda self: self.digests)
        @rule(choice=CHOICES, span=SECONDS, ago=st.integers(0, 30))
        def extend(self, choice: int, span: timedelta, ago: int) -> None:
            at = self.now - timedelta(seconds=ago)
            self.both("extend_session", f"session-{self.chosen(choice):03}", self.now + span, at)

        @precondition(lambda self: self.digests)
        @rule(choice=CHOICES, old=st.booleans(), reauthentication=st.none() | st.tuples(SPANS, SPANS))
        def rotate(self, choice: int, old: bool, reauthentication: tuple[timedelta, timedelta] | None) -> None:
            session = self.chosen(choice)
            presented = self.digests[session][0 if old else -1]
            anew = reauthentication and Reauthentication(
                idle_deadline=self.now + reauthentication[0], absolute_deadline=self.now + reauthentication[1]
            )
            self.both(
                "rotate_session",
                f"session-{session:03}",
                presented,
                self.digest(session),
                self.now,
                reauthentication=anew,
            )

        @precondition(lambda self: self.digests)
        @rule(choice=CHOICES, scope=st.fixed_dictionaries({}, optional={"user_id": USERS}))
        def revoke(self, choice: int, scope: dict[str, str]) -> None:
            self.both("delete_session", f"session-{self.chosen(choice):03}", **scope)

        @rule(user=USERS, spared=st.none() | CHOICES)
        def revoke_all(self, user: str, spared: int | None) -> None:
            except_id = None if spared is None else f"session-{self.chosen(spared):03}"
            self.both("delete_user_sessions", self.now, user=user, except_id=except_id)

        @rule(choices=st.dictionaries(CHOICES, SECONDS))
        def record(self, choices: dict[int, timedelta]) -> None:
            batch = {f"session-{self.chosen(choice):03}": self.now + span for choice, span in choices.items()}
            self.both("batch_record_activity", dict(sorted(batch.items())))

        @rule(span=SECONDS)
        def prune(self, span: timedelta) -> None:
            self.both("prune_sessions", self.now + span)

        @rule(user=USERS, device=st.sampled_from(["laptop", "phone", "\0", "\ud800"]))
        def sign_in_from(self, user: str, device: str) -> None:
            self.both("remember_device", device, self.now, user=user)

        @rule(user=USERS, span=SECONDS)
        def listing(self, user: str, span: timedelta) -> None:
            self.both("list_sessions", self.now + span, user=user)

        @invariant()
        def every_token_means_the_same(self) -> None:
            for known in self.digests:
                for digest in {known[0], known[-1]}:
                    session = self.both("find_session", digest)
                    assert session is None or session == self.both("get_session", session.id)

    return SessionStoreModel


def _named(answer: Any, names: dict[str, str]) -> Any:
    """Put the user's name where the store's own id of the user is."""
    if isinstance(answer, Session):
        return replace(answer, user_id=names[answer.user_id])
    if isinstance(answer, CreatedSession):
        return CreatedSession(session=_named(answer.session, names), ended=_named(answer.ended, names))
    if isinstance(answer, list | tuple):
        return tuple(_named(one, names) for one in answer)
    return answer


def _check(store: Store, empty: Callable[[], object], runs: int, steps: int) -> None:
    run_state_machine_as_test(
        state_machine(store, empty),
        settings=settings(
            max_examples=runs, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest.fixture
def sqlite_file(tmp_path: Path) -> Iterator[tuple[Store, Path]]:
    store = open_store(f"sqlite:///{tmp_path}/model.db")
    store.migrate()
    yield store, tmp_path / "model.db"
    store.close()


@pytest.mark.hypothesis
@pytest.mark.parametrize(
    ("runs", "steps"), [(40, 50), pytest.param(200, 50, marks=pytest.mark.faults)], ids=["short", "long"]
)
def test_sqlite_equals_its_model(sqlite_file: tuple[Store, Path], runs: int, steps: int) -> None:
    """Forty runs of fifty calls each, and two hundred in the long run."""
    store, file = sqlite_file
    connection = sqlite3.connect(file, isolation_level=None)

    def empty() -> None:
        for table in TABLES:
            connection.execute(f"DELETE FROM {table}")

    _check(store, empty, runs, steps)
    connection.close()


@pytest.mark.hypothesis
@pytest.mark.parametrize(
    ("runs", "steps"), [(12, 50), pytest.param(200, 50, marks=pytest.mark.faults)], ids=["short", "long"]
)
def test_postgres_equals_its_model(postgres_url: str, runs: int, steps: int) -> None:
    """Twelve runs of fifty calls each, for every one waits for the disk; two hundred in the long run."""
    store = open_store(postgres_url)
    store.migrate()
    _check(store, lambda: ask(postgres_url, f"TRUNCATE {', '.join(TABLES)}"), runs, steps)
    store.close()
