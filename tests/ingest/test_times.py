"""When an event happened."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from lastseen.clock import to_micros
from lastseen.ingest.times import MICROS, TOLERATED_SKEW, micros_of, not_after, skew

NOON = to_micros(datetime(2026, 11, 22, 12, tzinfo=UTC))


@pytest.mark.parametrize(
    ("written", "micros"),
    [
        ("2026-11-22T12:00:00Z", NOON),
        ("2026-11-22T12:00:00.000Z", NOON),
        ("2026-11-22T12:00:00.123456+00:00", NOON + 123_456),
        ("2026-11-22T17:45:00+05:45", NOON),
        ("2026-11-22T12:00:00", NOON),
        ("2026-11-22 12:00:00Z", NOON),
        (NOON // MICROS, NOON),
        (NOON / MICROS, NOON),
        (NOON // 1_000, NOON),
        (NOON, NOON),
        (float(NOON), NOON),
        (NOON * 1_000, NOON),
        (99_999_999_999, 99_999_999_999 * MICROS),
        (100_000_000_000, 100_000_000 * MICROS),
        (10**20, None),
        ("yesterday", None),
        ("", None),
        (True, None),
        (None, None),
        ([], None),
        (-1, None),
        (float("nan"), None),
        (float("inf"), None),
        (1e300, None),
        ("0001-01-01T00:00:00+14:00", None),
        ("1969-12-31T23:59:59Z", None),
        (10**400, None),
    ],
    ids=str,
)
def test_moments_as_clients_write_them(written: object, micros: int | None) -> None:
    """ISO 8601, UTC where it names no offset; seconds, or parts of them; None for everything else."""
    assert micros_of(written) == micros


@pytest.mark.parametrize(
    ("off_by", "corrected"),
    [(0, 0), (TOLERATED_SKEW, 0), (TOLERATED_SKEW + 1, TOLERATED_SKEW + 1), (-2 * TOLERATED_SKEW, -2 * TOLERATED_SKEW)],
)
def test_a_clock_is_corrected_when_it_is_clearly_wrong(off_by: int, corrected: int) -> None:
    """Half a minute may be the network; more is a wrong clock, and all of it is corrected."""
    assert skew(NOON - off_by, NOON) == corrected


def test_without_the_clients_time_nothing_is_corrected() -> None:
    """Nothing is guessed."""
    assert skew(None, NOON) == 0


def test_nothing_happens_before_it_is_told() -> None:
    """A moment in the future becomes that of the arrival; one in the past stays."""
    assert not_after(NOON + 1, NOON) == NOON
    assert not_after(NOON - 1, NOON) == NOON - 1
    assert not_after(-5, NOON) == 0
