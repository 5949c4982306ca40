"""When a session is valid and when it is extended: time is an argument, at a deadline it has expired."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastseen.errors import ConfigurationError
from lastseen.sessions.policy import BROWSER, NATIVE_APP, SessionPolicy
from lastseen.sessions.session import IssuedSession, Session, Validity
from lastseen.sessions.store import SessionDraft, SessionLimit
from lastseen.testing import moment

MINUTE = timedelta(minutes=1)


def session(policy: SessionPolicy, began: datetime) -> Session:
    idle, absolute = policy.deadlines(began)
    return Session(
        id="public",
        user_id="alice",
        idle_deadline=idle,
        absolute_deadline=absolute,
        created_at=began,
        authenticated_at=began,
        last_activity_at=began,
    )


def test_the_defaults() -> None:
    """Idle 1 hour, absolute 24 hours, refreshed when nearer than 10 minutes; presets for browsers and applications."""
    assert SessionPolicy().describe() == {
        "idle_timeout": 3600,
        "absolute_timeout": 86400,
        "refresh_threshold": 600,
    }
    assert BROWSER.describe() == {"idle_timeout": 1800, "absolute_timeout": 86400, "refresh_threshold": 600}
    assert NATIVE_APP.describe() == {"idle_timeout": None, "absolute_timeout": 2592000, "refresh_threshold": None}


def test_at_the_deadline_itself_it_has_expired() -> None:
    """Half-open, on purpose; the absolute deadline is named first when both have passed."""
    one = session(SessionPolicy(), moment())
    microsecond = timedelta(microseconds=1)
    assert one.validity(moment(minutes=60) - microsecond) is Validity.VALID
    assert one.validity(moment(minutes=60)) is Validity.IDLE_EXPIRED
    assert one.validity(moment(hours=24)) is Validity.ABSOLUTE_EXPIRED
    assert not one.is_valid(moment(minutes=60))


def test_no_idle_timeout_is_stored_as_the_absolute_deadline() -> None:
    """And such a session is never extended."""
    one = session(NATIVE_APP, moment())
    assert one.idle_deadline == one.absolute_deadline == moment(days=30)
    assert NATIVE_APP.refreshed_deadline(one, moment(days=29)) is None


@pytest.mark.parametrize(
    ("threshold", "minutes", "expected"),
    [
        (None, 59, None),
        (timedelta(0), 1, 61),
        (timedelta(minutes=10), 50, None),
        (timedelta(minutes=10), 51, 111),
        (timedelta(minutes=10), 60, None),
    ],
)
def test_when_a_session_is_refreshed(threshold: timedelta | None, minutes: int, expected: int | None) -> None:
    """Never; on every request; or when the deadline is nearer than the threshold. Not once it has expired."""
    policy = SessionPolicy(refresh_threshold=threshold)
    deadline = policy.refreshed_deadline(session(policy, moment()), moment(minutes=minutes))
    assert deadline == (None if expected is None else moment(minutes=expected))


def test_refreshing_ends_at_the_absolute_deadline() -> None:
    """Constant activity does not keep a session alive for ever."""
    policy = SessionPolicy(absolute_timeout=timedelta(hours=2))
    one = session(policy, moment())
    one = replace(one, idle_deadline=policy.refreshed_deadline(one, moment(minutes=55)) or one.idle_deadline)
    assert policy.refreshed_deadline(one, moment(minutes=110)) == moment(hours=2)
    one = replace(one, idle_deadline=moment(hours=2))
    assert policy.refreshed_deadline(one, moment(minutes=119)) is None


@pytest.mark.parametrize(
    "spans",
    [
        {"idle_timeout": timedelta(0)},
        {"idle_timeout": -MINUTE},
        {"absolute_timeout": timedelta(0)},
        {"absolute_timeout": -MINUTE},
        {"idle_timeout": timedelta(hours=25)},
        {"refresh_threshold": -MINUTE},
        {"refresh_threshold": timedelta(hours=2)},
    ],
)
def test_senseless_spans_are_refused_at_construction(spans: dict[str, Any]) -> None:
    """Zero, negative and contradictory spans never make a policy."""
    with pytest.raises(ConfigurationError, match=r"timeout|threshold"):
        SessionPolicy(**spans)


def test_a_limit_of_none_is_refused() -> None:
    """A user must be able to sign in."""
    with pytest.raises(ConfigurationError):
        SessionLimit(most=0)


@given(
    idle=st.none() | st.integers(1, 3600),
    absolute=st.integers(3600, 86400),
    threshold=st.none() | st.integers(0, 600),
    passed=st.lists(st.integers(0, 4000), max_size=30),
)
def test_a_refreshed_deadline_only_moves_forward_and_never_beyond_the_end(
    idle: int | None, absolute: int, threshold: int | None, passed: list[int]
) -> None:
    """For any policy and any sequence of requests."""
    if threshold is not None and idle is not None:
        threshold = min(threshold, idle)
    policy = SessionPolicy(
        idle_timeout=None if idle is None else timedelta(seconds=idle),
        absolute_timeout=timedelta(seconds=absolute),
        refresh_threshold=None if threshold is None else timedelta(seconds=threshold),
    )
    one, now = session(policy, moment()), moment()
    for seconds in passed:
        now += timedelta(seconds=seconds)
        deadline = policy.refreshed_deadline(one, now)
        if deadline is not None:
            assert one.is_valid(now)
            assert one.idle_deadline < deadline <= one.absolute_deadline
            one = replace(one, idle_deadline=deadline)


def test_secrets_are_not_in_representations() -> None:
    """Neither the token of an issued session nor the digest of a draft reaches a log by accident."""
    issued = IssuedSession(session=session(SessionPolicy(), moment()), token="the-token")
    draft = SessionDraft(id="public", digest=b"the-digest", authenticated_at=moment())
    assert "the-token" not in f"{issued!r} {issued}"
    assert "the-digest" not in f"{draft!r} {draft}"
