"""The pure parts of the server."""

from __future__ import annotations

import json
import logging
import os
import signal
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastseen import StatusRule
from lastseen.errors import MissingAbility, MissingExtra
from lastseen.server.body import MAX_LINE, LineCutter
from lastseen.server.http_servers import StopSignals
from lastseen.server.logs import HumanFormatter, JsonFormatter
from lastseen.server.pages.charts import active_strip, busiest_hour, hourly_values
from lastseen.server.pages.clients import status_spans
from lastseen.server.pages.relative import relative
from lastseen.server.problem import problem_of

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def cut(pieces: list[bytes]) -> list[tuple[int, bytes | None]]:
    cutter = LineCutter()
    found = [line for piece in pieces for line in cutter.feed(piece)]
    return found + list(cutter.end())


@given(st.lists(st.sampled_from([b"", b"a", b"\r", b"xyz" * 9_000, b"q" * (MAX_LINE + 1)]), max_size=6), st.data())
def test_lines_do_not_depend_on_the_pieces(lines: list[bytes], data: st.DataObject) -> None:
    """However a stream is cut into pieces, the same lines come out, but empty ones; what is too long is None, once."""
    body = b"\n".join(lines)
    ends = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=8)))
    pieces = [body[start:end] for start, end in zip([0, *ends], [*ends, len(body)], strict=True)]
    numbered = enumerate(body.split(b"\n"), 1)
    assert cut(pieces) == [(number, line if len(line) <= MAX_LINE else None) for number, line in numbered if line]


def test_neighbouring_hours_become_one_bar() -> None:
    """The strip has one bar a run of hours, hours outside its span are left out, and the words count the hours."""
    since = NOON - 47 * HOUR
    strip = active_strip([since, since + HOUR, NOON, NOON + HOUR, since - HOUR], since)
    assert strip.path == "M0 0H2V1H0zM47 0H48V1H47z"
    assert strip.words == "active in 3 of the last 48 hours"


def test_hours_without_anybody_are_zero() -> None:
    """The overview has a number for every hour, the one that runs now included; of equals the latest is the busiest."""
    counts = {NOON - 2 * HOUR: 3, NOON: 3}
    assert hourly_values(counts, NOON - 3 * HOUR, NOON + timedelta(minutes=59)) == [0, 3, 0, 3]
    assert busiest_hour(counts) == (NOON, 3)
    assert busiest_hour({}) is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "just now"),
        (4.9, "just now"),
        (59, "59 s ago"),
        (60, "1 min ago"),
        (7_199, "1 h ago"),
        (3 * 86_400, "3 d ago"),
        (61 * 86_400, "2 mo ago"),
        (800 * 86_400, "2 y ago"),
    ],
)
def test_how_long_ago(seconds: float, words: str) -> None:
    """Whole units, cut and never rounded up; a little in the future is now."""
    assert relative(NOON - timedelta(seconds=seconds), NOON) == words


def test_the_page_says_where_a_status_begins() -> None:
    """The words under the counts follow the rule that is set."""
    rule = StatusRule(online=timedelta(seconds=90), recent=timedelta(minutes=30), idle=timedelta(days=7))
    assert status_spans(rule) == {
        "online": "seen under 90s ago",
        "recent": "90s to 30m ago",
        "idle": "30m to 7d ago",
        "inactive": "not for 7d",
    }


def record_of(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    record = logging.getLogger("lastseen.test").makeRecord(
        "lastseen.test", logging.WARNING, __file__, 1, message, arguments, None, extra=extra
    )
    record.created = NOON.timestamp()
    return record


def test_a_json_line_has_the_extra_fields() -> None:
    """One object a line, whatever the message holds; a value that JSON does not know is its text."""
    line = JsonFormatter().format(record_of("odd \ud800 %s\nline", "x", batch_size=2, span=HOUR, where=object))
    assert "\n" not in line
    found = json.loads(line)
    assert (found["timestamp"], found["level"], found["logger"]) == ("2026-01-31T12:00:00Z", "warning", "lastseen.test")
    assert found["message"] == "odd \\ud800 x\nline"
    assert found["batch_size"] == 2
    assert "object" in found["where"]


@pytest.mark.parametrize("formatter", [HumanFormatter(), JsonFormatter()])
def test_an_exception_is_logged_with_its_trace(formatter: logging.Formatter) -> None:
    """Both formats tell where it came from."""
    record = record_of("failed")
    with pytest.raises(ValueError) as caught:
        int("because")
    record.exc_info = (caught.type, caught.value, caught.tb)
    line = formatter.format(record)
    assert "failed" in line
    assert "ValueError: invalid literal" in line
    assert "test_parts.py" in line


def test_a_stop_signal_is_never_lost() -> None:
    """One that comes before there is anything to stop is remembered; afterwards the old handler is back."""
    before = signal.getsignal(signal.SIGTERM)
    stopped: list[str] = []
    signals = StopSignals()
    with signals.watched():
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopped == []
        signals.call(lambda: stopped.append("early"))
        assert stopped == ["early"]
        os.kill(os.getpid(), signal.SIGINT)
        assert stopped == ["early", "early"]
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("error", [MissingAbility("a store without clients"), ZeroDivisionError("division by zero")])
def test_what_nobody_expected_is_in_the_log(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """The answer says so, of an error of our own too."""
    problem = problem_of(error)
    assert problem.status_code == 500
    assert "log of the server" in str(problem.detail)
    assert str(error) in caplog.text


def test_a_library_that_is_missing_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """It is no defect, and who asks can tell whoever runs the server what to install."""
    problem = problem_of(MissingExtra("reports need DuckDB: pip install 'lastseen[server]'"))
    assert (problem.status_code, caplog.text) == (501, "")
    assert "pip install" in str(problem.detail)
