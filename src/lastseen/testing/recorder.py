"""The contract of `ActivityRecorder`."""

from __future__ import annotations

import random
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest

from lastseen.activity.recorder import ActivityRecorder, require_recorder
from lastseen.testing.factories import moment, updates

SECOND = timedelta(seconds=1)


class ActivityRecorderContract:
    """Inherit, override the `recorder` fixture and `stored`, and pytest runs what every recorder promises.

    Set `upserts = False` for an update-only recorder and override `insert` as well. Set `precision` when the column
    keeps less than microseconds.
    """

    upserts = True
    precision = timedelta(microseconds=1)

    @pytest.fixture
    def recorder(self) -> ActivityRecorder:
        """Return an empty recorder."""
        raise NotImplementedError("override the recorder fixture")

    def stored(self, recorder: Any, key: str) -> datetime | None:
        """Return the time that the database holds for the key, aware; None when there is no such row."""
        raise NotImplementedError("override stored(recorder, key)")

    def insert(self, recorder: Any, key: str, at: datetime) -> None:
        """Make a row; an update-only recorder cannot do it itself."""
        assert recorder.batch_record_activity({key: at}) == 1

    def known(self, recorder: ActivityRecorder, *keys: str, at: datetime | None = None) -> None:
        """Make rows for the keys."""
        for key in keys:
            self.insert(recorder, key, at or moment())

    def test_it_is_a_recorder(self, recorder: ActivityRecorder) -> None:
        """A tracker accepts it."""
        assert require_recorder(recorder) is recorder

    def test_an_empty_batch_moves_nothing(self, recorder: ActivityRecorder) -> None:
        """An empty batch returns 0."""
        assert recorder.batch_record_activity({}) == 0

    def test_unknown_keys(self, recorder: ActivityRecorder) -> None:
        """An upserting recorder inserts an unknown key; an update-only one ignores it and never resurrects."""
        assert recorder.batch_record_activity(updates("new")) == int(self.upserts)
        assert self.stored(recorder, "new") == (moment() if self.upserts else None)

    def test_each_key_gets_its_own_time(self, recorder: ActivityRecorder) -> None:
        """The time written is the key's, not the batch's."""
        self.known(recorder, "a", "b", "c", at=moment(-60))
        batch = {"a": moment(1), "b": moment(7), "c": moment(3)}
        assert recorder.batch_record_activity(batch) == 3
        assert {key: self.stored(recorder, key) for key in batch} == batch

    def test_an_older_time_never_wins(self, recorder: ActivityRecorder) -> None:
        """A stale row is not rewritten and does not count."""
        self.known(recorder, "a", "b", at=moment(10))
        assert recorder.batch_record_activity({"a": moment(9), "b": moment(11)}) == 1
        assert self.stored(recorder, "a") == moment(10)
        assert self.stored(recorder, "b") == moment(11)

    def test_a_retry_changes_nothing(self, recorder: ActivityRecorder) -> None:
        """The same batch again moves no row."""
        self.known(recorder, "a", "b", at=moment(-60))
        assert recorder.batch_record_activity(updates("a", "b")) == 2
        assert recorder.batch_record_activity(updates("a", "b")) == 0

    def test_times_keep_their_precision(self, recorder: ActivityRecorder) -> None:
        """What was written is read back to the precision that the recorder names."""
        self.known(recorder, "a", at=moment(-60))
        at = moment(1) + 123_457 * timedelta(microseconds=1)
        recorder.batch_record_activity({"a": at})
        stored = self.stored(recorder, "a")
        assert stored is not None
        assert stored.utcoffset() == timedelta(0)
        assert abs(stored - at) < self.precision

    @pytest.mark.parametrize(
        "key", ["x" * 255, "日本語", "with space", "quote'\"`;--", "%s %(a)s {b} ?1 :c", "😀", "a/b?c#d"]
    )
    def test_any_printable_key(self, recorder: ActivityRecorder, key: str) -> None:
        """Keys are data, whatever characters they have."""
        self.known(recorder, key, at=moment(-60))
        assert recorder.batch_record_activity({key: moment()}) == 1
        assert self.stored(recorder, key) == moment()

    def test_a_large_batch(self, recorder: ActivityRecorder) -> None:
        """A full chunk is written whole."""
        keys = [f"key-{number:05}" for number in range(5_000)]
        if not self.upserts:
            self.known(recorder, keys[0], keys[-1], at=moment(-60))
        assert recorder.batch_record_activity(updates(*keys)) == (5_000 if self.upserts else 2)
        assert self.stored(recorder, keys[-1]) == moment()

    def test_the_order_of_batches_does_not_matter(self, recorder: ActivityRecorder) -> None:
        """Any order and any repetition of batches ends with each key's latest time."""
        dice = random.Random(7)  # noqa: S311 - reproducible, not secret
        keys = [f"key-{number}" for number in range(20)]
        self.known(recorder, *keys, at=moment(-60))
        batches = [_random_batch(dice, keys) for _ in range(30)]
        for batch in dice.sample(batches * 2, len(batches) * 2):
            recorder.batch_record_activity(batch)
        assert {key: self.stored(recorder, key) for key in keys} == _latest(keys, batches)

    def test_many_threads_at_once(self, recorder: ActivityRecorder) -> None:
        """Concurrent batches over the same keys neither fail nor lose a time."""
        dice = random.Random(8)  # noqa: S311 - reproducible, not secret
        keys = [f"key-{number}" for number in range(50)]
        self.known(recorder, *keys, at=moment(-60))
        batches = [_random_batch(dice, keys) for _ in range(40)]
        with ThreadPoolExecutor(4) as threads:
            moved = list(threads.map(recorder.batch_record_activity, batches))
        assert sum(moved) <= sum(map(len, batches))
        assert {key: self.stored(recorder, key) for key in keys} == _latest(keys, batches)


def _random_batch(dice: random.Random, keys: list[str]) -> dict[str, datetime]:
    chosen = sorted(dice.sample(keys, dice.randint(1, len(keys))))
    return {key: moment(dice.randint(0, 1000)) for key in chosen}


def _latest(keys: list[str], batches: list[dict[str, datetime]]) -> Mapping[str, datetime]:
    return {key: max([moment(-60), *(batch[key] for batch in batches if key in batch)]) for key in keys}
