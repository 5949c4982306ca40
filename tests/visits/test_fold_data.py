"""Real data with known figures, computed by other programs."""

from __future__ import annotations

import gzip
import random
import re
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from lastseen.clock import to_micros
from lastseen.visits.event import Event
from lastseen.visits.fold import fold
from lastseen.visits.rule import VisitRule
from lastseen.visits.visit import StartReason
from tests.visits.streams import event
from tests.visits.test_fold_properties import Writers

DATA = Path(__file__).parent.parent / "data"
LINE = re.compile(
    r'(?P<address>\S+) \S+ \S+ \[(?P<at>[^\]]+)\] "(?P<request>[^"]*)" \d{3} \S+ '
    r'"(?P<referrer>[^"]*)" "(?P<agent>[^"]*)"'
)
ONLY_TIME = VisitRule(new_visit_on_referrer_change=False, new_visit_on_utm_change=False)
A_CENTURY = timedelta(days=36_500)

Visitors = Mapping[str, list[Event]]


@pytest.fixture(scope="module")
def requests() -> Visitors:
    """Every request of the log by (address, user agent)."""
    found: dict[str, list[Event]] = defaultdict(list)
    with (DATA / "apache_logs").open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            match = LINE.match(line)
            if match is None:
                continue
            at = to_micros(datetime.strptime(match["at"], "%d/%b/%Y:%H:%M:%S %z"))
            visitor = f"{match['address']} {match['agent']}"
            domain = re.sub(r"^https?://(www\.)?([^/]+).*", r"\2", match["referrer"]).lower()
            referrer_domain = None if domain in {"-", "semicomplete.com"} else domain
            found[visitor].append(
                event(f"{number:05d}", at, distinct_id=visitor, referrer_domain=referrer_domain, url=match["request"])
            )
    return found


@pytest.fixture(scope="module")
def messages() -> Visitors:
    """Every message of the community by its sender."""
    found: dict[str, list[Event]] = defaultdict(list)
    with gzip.open(DATA / "CollegeMsg.txt.gz", "rt") as lines:
        for number, line in enumerate(lines):
            sender, _, at = line.split()
            found[sender].append(event(f"{number:06d}", int(at) * 1_000_000, "message", distinct_id=sender))
    return found


def test_the_log_of_a_web_server_has_its_known_number_of_visits(requests: Visitors) -> None:
    """9,999 requests, half of them out of order, of 1,861 visitors: 3,223 visits by time alone."""
    assert (len(requests), sum(map(len, requests.values()))) == (1_861, 9_999)
    visits = [visit for visitor, events in requests.items() for visit in fold(events, ONLY_TIME, visitor)]
    assert len(visits) == 3_223
    assert sum(visit.event_count for visit in visits) == 9_999
    assert {visit.start_reason for visit in visits} <= {
        StartReason.FIRST,
        StartReason.TIMEOUT,
        StartReason.MAX_DURATION,
    }


def test_every_further_visit_of_the_full_rule_names_the_two_referrers(requests: Visitors) -> None:
    """With referrer changes on there are more visits, and what is more says which domain followed which."""
    visits = [visit for visitor, events in requests.items() for visit in fold(events, VisitRule(), visitor)]
    changes = [visit for visit in visits if visit.start_reason is StartReason.REFERRER]
    assert len(visits) > 3_223
    assert changes
    for visit in changes:
        assert visit.start_evidence is not None
        assert visit.start_evidence.after == visit.referrer_domain != visit.start_evidence.before


def test_the_log_in_shuffled_batches_gives_the_same_visits(requests: Visitors) -> None:
    """Twenty orders, in batches of 1, 7 and 1,000 lines: the visits of the busiest visitors are always the same."""
    busiest = sorted(requests.items(), key=lambda item: len(item[1]), reverse=True)[:30]
    for turn in range(20):
        chance = random.Random(turn)
        size = (1, 7, 1_000)[turn % 3]
        for visitor, events in busiest[turn % 3 :: 3]:
            writers = Writers(VisitRule(), visitor)
            shuffled = chance.sample(events, len(events))
            for start in range(0, len(shuffled), size):
                writers.save(shuffled[start : start + size])
            assert writers.visits == fold(events, VisitRule(), visitor)


@pytest.mark.parametrize(("seconds", "expected"), [(1_800, 25_244), (3_600, 22_972)])
def test_the_messages_of_a_community_have_their_known_number_of_sessions(
    messages: Visitors, seconds: int, expected: int
) -> None:
    """59,835 messages of 1,350 senders, sessions ended by a longer silence alone."""
    rule = VisitRule(timeout=timedelta(seconds=seconds), max_duration=A_CENTURY)
    visits = [visit for sender, sent in messages.items() for visit in fold(sent, rule, sender)]
    assert len(visits) == expected
    assert sum(visit.event_count for visit in visits) == 59_835
    at_least = VisitRule(timeout=timedelta(seconds=seconds, microseconds=-1), max_duration=A_CENTURY)
    assert sum(len(fold(sent, at_least, sender)) for sender, sent in messages.items()) > expected
