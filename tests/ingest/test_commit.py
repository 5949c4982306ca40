"""Many requests in one transaction: each is answered when its events are durable, and none for another's fault."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lastseen.clock import SYSTEM_CLOCK, Clock
from lastseen.errors import InvalidData, StoreUnavailable
from lastseen.ingest.commit import (
    BUSY_FROM,
    LONGEST_WAIT,
    LOOK_EVERY,
    MOST_BYTES_TOGETHER,
    MOST_BYTES_WAITING,
    MOST_TOGETHER,
    MOST_WAITING,
    GroupCommit,
)
from lastseen.ingest.figures import Figures
from lastseen.ingest.outcome import Overloaded
from lastseen.ingest.spool import Spool
from lastseen.stores.memory import MemoryStore
from lastseen.testing import ManualClock
from lastseen.visits.event import Event
from lastseen.visits.making import RawEvent
from lastseen.visits.rule import VisitRule
from lastseen.visits.store import EventQuery, SaveResult, VisitStore
from tests.server.running import eventually

ROOM = 10_000_000
EVERYTHING = EventQuery(site_id="default", limit=100_000)


class FaultyVisits:
    """A real store whose `save` can be held up, break off, or refuse some events for ever, as databases do."""

    def __init__(self, store: VisitStore) -> None:
        self.store = store
        self.is_away = False
        self.fails_after_commit = False
        self.poisonous: set[str] = set()
        self.error: Callable[[], Exception] = lambda: InvalidData("refused")
        self.gate = threading.Event()
        self.gate.set()
        self.inside = 0
        self.batches: list[int] = []

    def save(self, events: Sequence[Event], rules: Callable[[str], VisitRule]) -> SaveResult:
        self.inside += 1
        self.gate.wait()
        self.inside -= 1
        self.batches.append(len(events))
        if self.is_away:
            raise StoreUnavailable("no connection")
        if any(event.id in self.poisonous for event in events):
            raise self.error()
        result = self.store.save(events, rules)
        if self.fails_after_commit:
            self.fails_after_commit = False
            raise StoreUnavailable("the connection broke before the answer")
        return result


def raw(event_id: str) -> RawEvent:
    return RawEvent(id=event_id, name="x", distinct_id="v", at=1_000_000, received_at=2_000_000)


def make(event: RawEvent) -> Event:
    assert event.id is not None
    assert event.distinct_id is not None
    return Event(
        id=event.id,
        site_id="default",
        distinct_id=event.distinct_id,
        name=event.name,
        at=event.at,
        received_at=event.received_at,
    )


@pytest.fixture
def visits() -> FaultyVisits:
    """Return a store in memory that can fail."""
    return FaultyVisits(MemoryStore().visits)


class Ingesting:
    """A committer with its spool and figures."""

    def __init__(self, visits: FaultyVisits, folder: Path, room: int, clock: Clock) -> None:
        self.visits = visits
        self.figures = Figures()
        self.spool = Spool(folder / "spool", room)
        self.commit = GroupCommit(visits, lambda _: VisitRule(), self.spool, self.figures, clock=clock)  # type: ignore[arg-type] # save is all it needs

    def save(self, *batches: Sequence[str]) -> list[Sequence[int] | BaseException]:
        """Send so many requests at once; return what became of each."""

        async def all_at_once() -> list[Sequence[int] | BaseException]:
            calls = [self.commit.save(make, [raw(event_id) for event_id in batch]) for batch in batches]
            return await asyncio.gather(*calls, return_exceptions=True)

        return asyncio.run(all_at_once())

    def stored(self) -> list[str]:
        """Return the ids of all stored events."""
        return sorted(event.id for event in self.visits.store.list_events(EVERYTHING))


async def until(question: Callable[[], bool]) -> None:
    """Wait without holding the event loop up."""
    await asyncio.to_thread(eventually, question, "what the test waits for")


@contextmanager
def ingesting(visits: FaultyVisits, folder: Path, room: int = ROOM, clock: Clock = SYSTEM_CLOCK) -> Iterator[Ingesting]:
    ingest = Ingesting(visits, folder, room, clock)
    try:
        yield ingest
    finally:
        visits.gate.set()
        ingest.commit.close()


def test_requests_share_a_transaction(visits: FaultyVisits, tmp_path: Path) -> None:
    """What comes while one transaction runs goes into the next, together; everybody is answered."""
    with ingesting(visits, tmp_path) as ingest:
        visits.gate.clear()

        async def clients() -> None:
            first = asyncio.create_task(ingest.commit.save(make, [raw("first")]))
            await until(lambda: visits.inside == 1)
            others = [asyncio.create_task(ingest.commit.save(make, [raw(f"{n}")])) for n in range(50)]
            await until(lambda: ingest.commit.waiting == 50)
            assert not first.done()
            visits.gate.set()
            await asyncio.gather(first, *others)

        asyncio.run(clients())
        assert visits.batches == [1, 50]
        assert len(ingest.stored()) == 51
        assert ingest.figures.accepted == 51


async def save_together(ingest: Ingesting, clock: ManualClock, count: int) -> None:
    """Send so many requests that are saved in one transaction, which takes a second."""
    ingest.visits.gate.clear()
    requests = [asyncio.create_task(ingest.commit.save(make, [raw(f"together {n}")])) for n in range(count)]
    await until(lambda: ingest.visits.inside == 1)
    clock.advance(1)
    ingest.visits.gate.set()
    await asyncio.gather(*requests)


def test_those_who_were_just_answered_are_waited_for(visits: FaultyVisits, tmp_path: Path) -> None:
    """The next transaction begins when as many have asked again, or soon."""
    clock = ManualClock()
    with ingesting(visits, tmp_path, clock=clock) as ingest:

        async def clients() -> None:
            await save_together(ingest, clock, BUSY_FROM)
            requests = []
            for number in range(1, BUSY_FROM):
                requests.append(asyncio.create_task(ingest.commit.save(make, [raw(f"again {number}")])))
                await until(lambda: ingest.commit.waiting == len(requests))
            await ingest.commit.save(make, [raw("the last")])
            await asyncio.gather(*requests)
            await save_together(ingest, clock, BUSY_FROM)
            alone = asyncio.create_task(ingest.commit.save(make, [raw("alone")]))
            await until(lambda: ingest.commit.waiting == clock.waiting == 1)
            clock.advance(LONGEST_WAIT)
            await alone

        asyncio.run(clients())
        assert visits.batches == [BUSY_FROM, BUSY_FROM, BUSY_FROM, 1]


def test_who_asks_again_at_once_is_among_those_who_are_waited_for(
    visits: FaultyVisits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is quicker than the thread that answered counts as one who asked again, not as somebody else."""
    clock, asked_again = ManualClock(), threading.Event()
    with ingesting(visits, tmp_path, clock=clock) as ingest:
        answer = ingest.commit._answer

        def answer_and_be_slow(requests: list[Any]) -> None:
            answer(requests)
            asked_again.wait()

        monkeypatch.setattr(ingest.commit, "_answer", answer_and_be_slow)

        async def clients() -> None:
            await save_together(ingest, clock, BUSY_FROM)
            requests = [asyncio.create_task(ingest.commit.save(make, [raw(f"again {n}")])) for n in range(BUSY_FROM)]
            await until(lambda: ingest.commit.waiting == BUSY_FROM)
            asked_again.set()
            await asyncio.wait_for(asyncio.gather(*requests), 30)

        asyncio.run(clients())
        assert visits.batches == [BUSY_FROM, BUSY_FROM]


def test_a_few_are_not_waited_for(visits: FaultyVisits, tmp_path: Path) -> None:
    """Who asks after a small transaction is saved at once, though nobody else comes and no time passes."""
    clock = ManualClock()
    with ingesting(visits, tmp_path, clock=clock) as ingest:

        async def clients() -> None:
            await save_together(ingest, clock, BUSY_FROM - 1)
            await ingest.commit.save(make, [raw("alone")])

        asyncio.run(clients())
        assert visits.batches == [BUSY_FROM - 1, 1]


def test_nobody_is_answered_before_the_commit(visits: FaultyVisits, tmp_path: Path) -> None:
    """As long as the transaction has not ended there is no answer."""
    with ingesting(visits, tmp_path) as ingest:

        async def client() -> None:
            visits.gate.clear()
            request = asyncio.create_task(ingest.commit.save(make, [raw("a")]))
            done, _ = await asyncio.wait({request}, timeout=0.2)
            assert not done
            visits.gate.set()
            assert await request == []
            assert ingest.stored() == ["a"]

        asyncio.run(client())


@pytest.mark.parametrize("error", [InvalidData("refused"), TypeError("a defect")], ids=["refused", "defect"])
def test_a_poisoned_event_costs_nobody_else(visits: FaultyVisits, tmp_path: Path, error: Exception) -> None:
    """It is found by halving: every other event of its request and of the others is stored, and its sender is told."""
    visits.error = lambda: error
    visits.poisonous = {"b3", "d0"}
    batches = [[f"{name}{n}" for n in range(7)] for name in "abcde"]
    with ingesting(visits, tmp_path) as ingest:
        assert ingest.save(*batches) == [[], [3], [], [0], []]
        assert ingest.stored() == sorted({one for batch in batches for one in batch} - visits.poisonous)
        assert ingest.figures.dropped == {"refused by the database": 2}
        assert ingest.figures.accepted == 33


def test_without_halving_the_whole_transaction_would_fail(visits: FaultyVisits) -> None:
    """The negative control: the store itself refuses all that comes with a poisoned event."""
    visits.poisonous = {"b"}
    with pytest.raises(InvalidData):
        visits.save([make(raw("a")), make(raw("b"))], lambda _: VisitRule())
    assert visits.store.list_events(EVERYTHING) == []


def test_an_event_that_cannot_be_made_fails_its_request_alone(visits: FaultyVisits, tmp_path: Path) -> None:
    """The others are stored."""
    with ingesting(visits, tmp_path) as ingest:

        async def clients() -> list[object]:
            broken = RawEvent(name="x", at=1, received_at=2)
            calls = [ingest.commit.save(make, [one]) for one in (raw("a"), broken, raw("b"))]
            return list(await asyncio.gather(*calls, return_exceptions=True))

        first, second, third = asyncio.run(clients())
        assert (first, third) == ([], [])
        assert isinstance(second, AssertionError)
        assert ingest.stored() == ["a", "b"]


def test_while_the_database_is_away_events_wait_on_disk(visits: FaultyVisits, tmp_path: Path) -> None:
    """They are acknowledged from there, and stored in their order when it is back; then nothing waits."""
    visits.is_away = True
    with ingesting(visits, tmp_path) as ingest:
        assert ingest.save(["a"], ["b", "c"]) == [[], []]
        assert ingest.save(["d"]) == [[]]
        assert ingest.stored() == []
        assert ingest.spool.waiting == 4
        assert ingest.figures.spooled == 4
        visits.is_away = False
        eventually(lambda: ingest.spool.is_empty, "the spool is empty")
        assert ingest.stored() == ["a", "b", "c", "d"]
        assert ingest.figures.drained == 4
        assert ingest.save(["e"]) == [[]]
        assert ingest.figures.spooled == 4


def test_what_waits_is_found_after_a_restart(visits: FaultyVisits, tmp_path: Path) -> None:
    """The next process stores what the last one acknowledged, without a request coming in."""
    visits.is_away = True
    with ingesting(visits, tmp_path) as ingest:
        ingest.save(["a"], ["b"])
    visits.is_away = False
    with ingesting(visits, tmp_path) as ingest:
        eventually(lambda: ingest.spool.is_empty, "the spool is empty")
        assert ingest.stored() == ["a", "b"]


def test_what_another_server_left_is_stored(visits: FaultyVisits, tmp_path: Path) -> None:
    """Also when it went while this one was running, and nobody sends anything."""
    clock = ManualClock()
    with ingesting(visits, tmp_path, clock=clock) as ingest:
        other = Spool(tmp_path / "spool", ROOM)
        other.append([[make(raw("left"))]])
        other.close()

        def is_found() -> bool:
            clock.advance(LOOK_EVERY)
            return ingest.stored() == ["left"]

        eventually(is_found, "it is found")
        eventually(lambda: ingest.spool.is_empty, "it is removed")


def test_a_commit_whose_answer_was_lost_is_not_doubled(visits: FaultyVisits, tmp_path: Path) -> None:
    """The events are in the database and on disk; storing them again changes nothing."""
    visits.fails_after_commit = True
    with ingesting(visits, tmp_path) as ingest:
        assert ingest.save(["a", "b"]) == [[]]
        eventually(lambda: ingest.spool.is_empty, "the spool is empty")
        assert ingest.stored() == ["a", "b"]
        assert ingest.figures.duplicates == 2


def test_without_room_the_sender_is_told_to_come_again(visits: FaultyVisits, tmp_path: Path) -> None:
    """Neither database nor disk: nothing is acknowledged, and once there is a database again it works."""
    visits.is_away = True
    with ingesting(visits, tmp_path, room=0) as ingest:
        (answer,) = ingest.save(["a"])
        assert isinstance(answer, StoreUnavailable)
        assert ingest.figures.refused == 1
        assert ingest.figures.accepted == 0
        visits.is_away = False
        assert ingest.save(["a"]) == [[]]
        assert ingest.stored() == ["a"]


def test_the_spool_takes_what_it_has_room_for(visits: FaultyVisits, tmp_path: Path) -> None:
    """Of several requests the first ones are kept, the others refused: each is answered as it is."""
    visits.is_away = True
    with ingesting(visits, tmp_path, room=40_000) as ingest:
        answers = ingest.save(*[[f"e{n}"] for n in range(20)])
        kept = [f"e{n}" for n, answer in enumerate(answers) if answer == []]
        assert 0 < len(kept) < 20
        assert kept == [f"e{n}" for n in range(len(kept))]
        visits.is_away = False
        eventually(lambda: ingest.spool.is_empty, "the spool is empty")
        assert ingest.stored() == sorted(kept)


def test_a_poisoned_event_in_the_spool_does_not_stop_it(visits: FaultyVisits, tmp_path: Path) -> None:
    """It is dropped and counted; what waits behind it is stored."""
    visits.is_away = True
    with ingesting(visits, tmp_path) as ingest:
        ingest.save(["a", "bad", "b"])
        visits.poisonous = {"bad"}
        visits.is_away = False
        eventually(lambda: ingest.spool.is_empty, "the spool is empty")
        assert ingest.stored() == ["a", "b"]
        assert ingest.figures.dropped == {"refused by the database": 1}


REQUESTS = MOST_WAITING // MOST_TOGETHER + 8


def crowd(visits: FaultyVisits, folder: Path) -> list[object]:
    """Bring more than may wait while nothing gets on, then let it; return what each request was answered."""
    visits.gate.clear()
    size = MOST_TOGETHER
    with ingesting(visits, folder) as ingest:

        async def clients() -> list[object]:
            events = [[raw(f"{n}-{m}") for m in range(size)] for n in range(REQUESTS)]
            calls = [asyncio.create_task(ingest.commit.save(make, batch)) for batch in events]
            enough = REQUESTS - MOST_WAITING // size - 1
            await until(lambda: sum(call.done() for call in calls) >= enough or ingest.commit.waiting > MOST_WAITING)
            visits.gate.set()
            return list(await asyncio.gather(*calls, return_exceptions=True))

        answers = asyncio.run(clients())
        assert len(ingest.stored()) == sum(answer == [] for answer in answers) * size
        return answers


def check_bounded(answers: list[object]) -> None:
    """Assert that as many requests were let in as may wait, and that the others were told to come again."""
    accepted = sum(answer == [] for answer in answers)
    refused = sum(isinstance(answer, Overloaded) for answer in answers)
    assert accepted + refused == REQUESTS
    assert MOST_WAITING // MOST_TOGETHER <= accepted <= MOST_WAITING // MOST_TOGETHER + 1


def test_the_queue_is_bounded(visits: FaultyVisits, tmp_path: Path) -> None:
    """Beyond the bound a request is refused at once; what was let in is stored: nothing is lost, nothing too much."""
    check_bounded(crowd(visits, tmp_path))


def test_without_the_bound_everything_waits(
    visits: FaultyVisits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: nobody is refused, and what waits grows with what comes."""
    monkeypatch.setattr("lastseen.ingest.commit.MOST_WAITING", 10**9)
    answers = crowd(visits, tmp_path)
    assert answers == [[]] * REQUESTS
    with pytest.raises(AssertionError):
        check_bounded(answers)


def test_the_bytes_that_wait_are_bounded(visits: FaultyVisits, tmp_path: Path) -> None:
    """Few events may be large: what would not fit is refused at once, and there is room again when some are saved."""
    visits.gate.clear()
    part = MOST_BYTES_TOGETHER // 2

    async def clients(ingest: Ingesting) -> None:
        first = asyncio.create_task(ingest.commit.save(make, [raw("first")], part))
        await until(lambda: visits.inside == 1)
        many = [
            asyncio.create_task(ingest.commit.save(make, [raw(f"{n}")], part))
            for n in range(MOST_BYTES_WAITING // part)
        ]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await ingest.commit.save(make, [raw("too much")], 1)
        visits.gate.set()
        await asyncio.gather(first, *many)
        await ingest.commit.save(make, [raw("again")], MOST_BYTES_WAITING + 1)
        assert len(ingest.stored()) == len(many) + 2
        assert max(visits.batches) == 2

    with ingesting(visits, tmp_path) as ingest:
        asyncio.run(clients(ingest))


def test_a_client_that_left_does_not_matter(visits: FaultyVisits, tmp_path: Path) -> None:
    """Its events are stored, and the others are answered."""
    with ingesting(visits, tmp_path) as ingest:

        async def clients() -> None:
            visits.gate.clear()
            leaver = asyncio.create_task(ingest.commit.save(make, [raw("a")]))
            await until(lambda: visits.inside == 1)
            stayer = asyncio.create_task(ingest.commit.save(make, [raw("b")]))
            leaver.cancel()
            visits.gate.set()
            assert await stayer == []

        asyncio.run(clients())
        assert ingest.stored() == ["a", "b"]


def test_closing_saves_what_waits(visits: FaultyVisits, tmp_path: Path) -> None:
    """An orderly stop answers everybody who was let in, and refuses the rest."""
    with ingesting(visits, tmp_path) as ingest:

        async def clients() -> list[object]:
            visits.gate.clear()
            calls = [asyncio.create_task(ingest.commit.save(make, [raw(f"{n}")])) for n in range(20)]
            await until(lambda: visits.inside == 1)
            visits.gate.set()
            await asyncio.to_thread(ingest.commit.close)
            late = await asyncio.gather(ingest.commit.save(make, [raw("late")]), return_exceptions=True)
            return [*await asyncio.gather(*calls), *late]

        *answers, late = asyncio.run(clients())
        assert answers == [[]] * 20
        assert isinstance(late, Overloaded)
        assert len(ingest.stored()) == 20


class FlyingClock(ManualClock):
    """Whatever is to be done later is due at the next look."""

    def monotonic(self) -> float:
        """Return a moment a hundred seconds after the last one."""
        self.advance(100)
        return super().monotonic()


def test_the_end_does_not_wait_for_a_database_that_is_away(visits: FaultyVisits, tmp_path: Path) -> None:
    """It is not asked once more, which may take its whole deadline: what is on disk is stored after the next start."""
    visits.is_away = True
    visits.gate.clear()
    with ingesting(visits, tmp_path, clock=FlyingClock()) as ingest:
        sending = threading.Thread(target=ingest.save, args=(["a"],))
        sending.start()
        eventually(lambda: visits.inside == 1, "the database is asked")
        closing = threading.Thread(target=ingest.commit.close)
        closing.start()
        eventually(lambda: ingest.commit._closing, "it is to end")
        visits.gate.set()
        for thread in (sending, closing):
            thread.join(30)
        assert visits.batches == [1]
    visits.is_away = False
    with ingesting(visits, tmp_path) as ingest:
        eventually(lambda: ingest.stored() == ["a"], "what waited is stored")
