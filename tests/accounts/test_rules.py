"""Names, passwords, and how often one may try: the pure rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastseen.accounts.account import name_key, name_problem
from lastseen.accounts.passwords import Argon2Hasher, normalized, password_problem
from lastseen.accounts.throttle import MOST_KEYS, Throttle


@pytest.mark.parametrize("name", ["ada", "Ada Lovelace", "  ada ", "Ångström", "李", "a@example.org", "x" * 64])
def test_a_name(name: str) -> None:
    """What people are called is a name."""
    assert name_problem(name) is None


@pytest.mark.parametrize(
    "name", ["", "   ", "x" * 65, "a\nb", "a\0b", "ada\u200b", "\u202eada", "a\ud800", "ada\u2028x"]
)
def test_no_name(name: str) -> None:
    """Nothing, too much, and what cannot be seen is not; an invisible letter would let one user pass for another."""
    assert name_problem(name) is not None


@pytest.mark.parametrize("typed", ["a\u0345\u0300\u0313", "\u1112\u1161\u11ab", "e\u0301", "x"])
def test_what_is_far_too_long_is_cut_and_refused(typed: str) -> None:
    """Not sorted accent by accent, which takes the square of their number; also what composes is too long still."""
    assert name_problem(typed * 65) == name_problem(typed * 5_000) == "The name may have 64 characters."
    assert len(name_key("\u0327\u0301" * 5_000)) <= 260
    assert (
        password_problem(typed * 1_025) == password_problem(typed * 5_000) == "The password may have 1024 characters."
    )
    assert len(normalized("a" + "\u0327\u0301" * 5_000)) <= 4_100


def test_names_that_look_alike_are_the_same() -> None:
    """Case, blanks around, and the way an accent was typed do not make another name."""
    assert name_key("Ada") == name_key(" ada ")
    assert name_key("A\u030angstrom") == name_key("ångstrom")
    assert name_key("ada") != name_key("ida")


@pytest.mark.parametrize(
    "password",
    [
        "three words together",
        "x7$kQ9+wz.4B",
        "почему бы и нет совсем",
        "   spaces   inside   ",
        "z" * 10 + "abcdefg" * 140,
    ],
)
def test_a_password(password: str) -> None:
    """Long is enough: no rule asks for digits or capitals, any letter and blank counts."""
    assert password_problem(password, "ada") is None


@pytest.mark.parametrize(
    "password",
    [
        "",
        "elevenchars",
        "x" * 1_025,
        "aaaaaaaaaaaaaaaa",
        "Password!123",
        "qwertyuiop12",
        "lastseenlastseen",
        "alexandrina1!x",
        "twelve chars\0",
        "twelve chars\ud800",
    ],
)
def test_no_password(password: str) -> None:
    """Too short, too long, one letter again and again, well-known, or the name and little else."""
    assert password_problem(password, "Alexandrina") is not None


def test_a_hash_is_argon2id_and_salted() -> None:
    """Two hashes of one password differ, both verify, and neither verifies anything else."""
    hasher = Argon2Hasher()
    first, second = hasher.hash("three words together"), hasher.hash("three words together")
    assert first != second
    assert first.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert hasher.verify(first, "three words together")
    assert hasher.verify(second, "three\u00a0words together")
    assert not hasher.verify(first, "three words apart")
    assert not hasher.verify(None, "three words together")
    assert not hasher.verify("not a hash", "three words together")
    assert not hasher.is_outdated(first)
    assert Argon2Hasher(time_cost=4).is_outdated(first)


def test_attempts_wait_longer_and_longer() -> None:
    """Three are free, then the waits double up to the longest; a refused attempt costs nothing."""
    throttle, now, waits = Throttle(free=3, longest_wait=8, forget_after=1e9), 0.0, []
    for _ in range(8):
        wait = throttle.wait("ada", now)
        assert throttle.wait("ada", now) == wait
        waits.append(wait)
        now += wait
        assert throttle.wait("ada", now) == 0
        throttle.take("ada", now)
    assert waits == [0, 0, 0, 1, 2, 4, 8, 8]
    assert throttle.wait("ida", now) == 0


def test_nothing_is_locked_for_ever() -> None:
    """After any number of attempts the wait is the longest one at most, and is forgotten by and by."""
    throttle = Throttle(free=3, longest_wait=30, forget_after=600)
    for second in range(10_000):
        throttle.take("ada", second)
    assert 0 < throttle.wait("ada", 10_000) <= 30
    assert throttle.wait("ada", 10_030) == 0
    for second in range(20_000, 20_000 + 3):
        assert throttle.wait("ada", second) == 0
        throttle.take("ada", second)


def test_good_attempts_are_given_back() -> None:
    """Whoever proves who they are never waits for it."""
    throttle = Throttle(free=2, longest_wait=30)
    for _ in range(100):
        assert throttle.wait("ada", 5.0) == 0
        throttle.take("ada", 5.0)
        throttle.give_back("ada")
    throttle.give_back("nobody")
    throttle.take("ada", 5.0)
    throttle.take("ada", 5.0)
    assert throttle.wait("ada", 5.0) > 0
    throttle.forget("ada")
    assert throttle.wait("ada", 5.0) == 0


def test_the_memory_is_bounded() -> None:
    """A flood of names pushes out the oldest, not the one that was tried last."""
    throttle = Throttle(free=1, longest_wait=30)
    for number in range(MOST_KEYS + 5):
        throttle.take(str(number), 1.0)
    assert len(throttle._keys) == MOST_KEYS
    assert throttle.wait("0", 1.0) == 0
    assert throttle.wait(str(MOST_KEYS + 4), 1.0) > 0


@given(st.lists(st.floats(0, 1_000), max_size=60))
def test_a_wait_is_never_longer_than_the_longest(gaps: list[float]) -> None:
    """Whenever attempts are made, the next one is at most the longest wait away."""
    throttle, now = Throttle(free=2, longest_wait=30, forget_after=60), 0.0
    for gap in gaps:
        now += gap
        throttle.take("ada", now)
        assert 0 <= throttle.wait("ada", now) <= 30
