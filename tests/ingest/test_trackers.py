"""What trackers without ids may write instead of a number."""

from __future__ import annotations

from typing import Any

import pytest

from lastseen.ingest.origin import Origin
from lastseen.ingest.trackers import decode_plausible


@pytest.mark.parametrize(
    ("said", "milliseconds"), [(1_500, 1_500), (True, 0), (-1, 0), (1e3, 0), ("7", 0), (10**30, 0)]
)
def test_a_time_is_a_number(said: Any, milliseconds: int) -> None:
    """What is none is no time: a database that knows truth from numbers would refuse the event."""
    body = {"n": "engagement", "u": "https://shop.test/", "d": "shop.test", "e": said}
    (event,) = decode_plausible(body, Origin(received_at=0)).events
    assert event.engaged_ms is not True
    assert event.engaged_ms == milliseconds
