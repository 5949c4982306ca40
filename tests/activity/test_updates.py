"""A batch is a mapping like any other, and its seconds are the same moments."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastseen.activity.updates import Updates, sorted_seconds
from lastseen.clock import utc

SECONDS = st.dictionaries(st.text(), st.floats(0, 4e9))


def updates_of(seconds: dict[str, float]) -> Updates:
    keys = sorted(seconds)
    return Updates(keys, [seconds[key] for key in keys])


@given(SECONDS)
def test_reads_like_a_dictionary(seconds: dict[str, float]) -> None:
    """Keys, moments, pairs, length, lookup and equality are those of a dictionary in the order of the keys."""
    updates, expected = updates_of(seconds), {key: utc(seconds[key]) for key in sorted(seconds)}
    assert dict(updates) == expected
    assert updates == expected
    assert list(updates) == list(updates.keys()) == list(expected)
    assert list(updates.items()) == list(expected.items())
    assert list(updates.values()) == list(expected.values())
    assert len(updates) == len(expected)
    assert all(updates[key] == expected[key] and key in updates for key in seconds)


def test_what_is_not_there() -> None:
    """A key that is not in the batch is not found, and an empty batch is false."""
    assert "b" not in updates_of({"a": 1.0})
    with pytest.raises(KeyError):
        updates_of({"a": 1.0})["b"]
    assert not updates_of({})


@given(SECONDS, st.integers(1, 5))
def test_parts_make_up_the_whole(seconds: dict[str, float], size: int) -> None:
    """Cut into parts nothing is lost, and nothing comes twice."""
    updates, found = updates_of(seconds), list[tuple[str, datetime]]()
    for begin in range(0, len(updates), size):
        found += updates.part(begin, begin + size).items()
    assert found == list(updates.items())


@given(st.dictionaries(st.text(), st.integers(0, 4 * 10**15)))
def test_seconds_of_any_mapping(micros: dict[str, int]) -> None:
    """Of a batch and of a plain dictionary in any order come the same keys, sorted, and the same seconds."""
    seconds = {key: utc(number / 1e6).timestamp() for key, number in micros.items()}
    plain = {key: utc(at) for key, at in seconds.items()}
    keys, expected = sorted(seconds), [seconds[key] for key in sorted(seconds)]
    for mapping in (plain, updates_of(seconds)):
        found_keys, found = sorted_seconds(mapping)
        assert (list(found_keys), list(found)) == (keys, expected)
