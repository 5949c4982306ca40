"""The buffer: bounded, merging by maximum, trailing edge."""

from __future__ import annotations

import pytest

from lastseen.activity.buffer import ActivityBuffer


def settled(buffer: ActivityBuffer, now: float, *, everything: bool = False) -> dict[str, float]:
    batch = buffer.take(now, everything=everything)
    buffer.settle(list(batch), now)
    return batch


def test_only_the_latest_time_is_kept() -> None:
    """The same key again keeps the maximum, whatever the order."""
    buffer = ActivityBuffer(10)
    for at in (5.0, 9.0, 7.0):
        assert buffer.put("a", at, 0)
    assert settled(buffer, 0) == {"a": 9.0}
    assert len(buffer) == 0


def test_a_failed_batch_comes_back_without_overwriting_newer_times() -> None:
    """Entries that were not written are merged by maximum with what arrived meanwhile."""
    buffer = ActivityBuffer(10)
    for key in ("a", "b", "c"):
        buffer.put(key, 5.0, 0)
    buffer.take(0)
    buffer.put("a", 7.0, 1)
    buffer.put("b", 3.0, 1)
    assert [buffer.waiting(key) for key in ("a", "b", "c", "d")] == [7.0, 5.0, 5.0, None]
    buffer.settle(["c"], None)
    assert settled(buffer, 2) == {"a": 7.0, "b": 5.0}


def test_two_flushes_at_once_are_a_mistake() -> None:
    """Taking while a batch is in flight would lose it, and is refused."""
    buffer = ActivityBuffer(10)
    buffer.put("a", 1.0, 0)
    buffer.take(0)
    with pytest.raises(RuntimeError):
        buffer.take(0)


def test_a_full_buffer_drops_new_keys_and_moves_known_ones() -> None:
    """Keys in flight count too: they may come back."""
    buffer = ActivityBuffer(2)
    assert buffer.put("a", 1.0, 0)
    assert buffer.put("b", 1.0, 0)
    assert not buffer.put("c", 1.0, 0)
    assert buffer.put("a", 2.0, 0)
    buffer.take(0)
    assert buffer.full
    assert not buffer.put("c", 1.0, 0)
    assert buffer.put("b", 3.0, 0)
    buffer.settle([], None)
    assert settled(buffer, 0) == {"a": 2.0, "b": 3.0}
    assert buffer.put("c", 1.0, 0)


def test_the_interval_delays_the_last_touch_and_never_loses_it() -> None:
    """Within `min_persist_interval` of its last write a key waits; then its latest time is due."""
    buffer = ActivityBuffer(10, min_persist_interval=60)
    buffer.put("a", 1.0, 0)
    assert settled(buffer, 0) == {"a": 1.0}
    for now in (10.0, 20.0):
        buffer.put("a", now, now)
        assert settled(buffer, now) == {}
    buffer.put("b", 20.0, 20)
    assert settled(buffer, 21) == {"b": 20.0}
    assert settled(buffer, 59.9) == {}
    assert settled(buffer, 60) == {"a": 20.0}
    assert len(buffer) == 0


def test_everything_includes_what_the_interval_holds_back() -> None:
    """A flush on demand writes held keys too, with their latest time."""
    buffer = ActivityBuffer(10, min_persist_interval=60)
    buffer.put("a", 1.0, 0)
    settled(buffer, 0)
    buffer.put("a", 5.0, 5)
    buffer.take(5)
    buffer.settle([], None)
    buffer.put("a", 4.0, 6)
    assert settled(buffer, 6, everything=True) == {"a": 5.0}


def test_a_key_counts_as_written_only_after_success() -> None:
    """After a failed flush the key is due at once, not an interval later."""
    buffer = ActivityBuffer(10, min_persist_interval=60)
    buffer.put("a", 1.0, 0)
    buffer.take(0)
    buffer.settle([], None)
    assert settled(buffer, 1) == {"a": 1.0}


def test_the_age_of_the_oldest_waiting_key() -> None:
    """It starts with the first key, survives a failure, and restarts after a success."""
    buffer = ActivityBuffer(10)
    assert buffer.oldest_age(0) is None
    buffer.put("a", 1.0, 10)
    buffer.put("b", 1.0, 12)
    assert buffer.oldest_age(15) == 5
    buffer.take(15)
    buffer.put("c", 1.0, 16)
    assert buffer.oldest_age(17) == 7
    buffer.settle([], None)
    assert buffer.oldest_age(18) == 8
    buffer.take(20)
    buffer.put("d", 1.0, 21)
    buffer.settle(["a", "b", "c"], 22)
    assert buffer.oldest_age(25) == 4


def test_the_memory_of_written_keys_is_bounded() -> None:
    """Past its interval, and beyond the bound, a written key is forgotten."""
    buffer = ActivityBuffer(3, min_persist_interval=60)
    for now in range(10):
        buffer.put(f"key-{now}", 1.0, now)
        settled(buffer, now)
    assert len(buffer._spaced) <= 3
    buffer.put("later", 1.0, 1000)
    settled(buffer, 1000)
    assert list(buffer._spaced) == ["later"]
