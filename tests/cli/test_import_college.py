"""The main job on real input: 59,835 messages of a college network, imported as activity of their senders."""

from __future__ import annotations

import gzip
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lastseen import LastSeen
from tests.cli.conftest import Command, lines, write

COLLEGE = Path(__file__).parent.parent / "data" / "CollegeMsg.txt.gz"
MESSAGES = 59_835
SENDERS = 1_350
SUM_OF_LAST_SEEN = 1_470_333_511_966
SEED = 2_009

Messages = list[tuple[str, object]]
Figures = tuple[int, int]
Hours = dict[str, list[datetime]]


@pytest.fixture(scope="module")
def messages() -> Messages:
    """Read (sender, time) of every message."""
    rows = (line.split() for line in gzip.decompress(COLLEGE.read_bytes()).decode().splitlines())
    return [(sender, int(at)) for sender, _, at in rows]


def stored(database: str) -> tuple[Figures, Hours]:
    """Look the figures and the active hours up in the database itself."""
    with LastSeen.open(database) as seen:
        page = seen.clients.list(limit=1_000)
        found = list(page)
        while page.next_cursor is not None:
            page = seen.clients.list(limit=1_000, cursor=page.next_cursor)
            found += page
        hours = seen.clients.active_hours([client.client_id for client in found], datetime(1970, 1, 1, tzinfo=UTC))
    return (len(found), sum(int(client.last_seen_at.timestamp()) for client in found)), hours


def hours_of(messages: Messages) -> Hours:
    """Work out the active hours without lastseen."""
    pairs = sorted({(sender, int(str(at)) // 3_600) for sender, at in messages})
    found: Hours = {}
    for sender, hour in pairs:
        found.setdefault(sender, []).append(datetime.fromtimestamp(hour * 3_600, UTC))
    return found


def test_the_college_messages_give_the_known_figures(
    process: Command, database: str, messages: Messages, tmp_path: Path
) -> None:
    """Imported in order, and again shuffled, 1,350 clients have the known sum of last seen and the same hours."""
    in_order = write(tmp_path / "college.ndjson", lines(*messages))
    first = process("import", "activity", in_order, "--database", database)
    assert (first.code, first.err) == (0, "")
    assert first.out == "imported 59,835 activities of 1,350 clients, 0 bad lines\n"
    expected = ((SENDERS, SUM_OF_LAST_SEEN), hours_of(messages))
    assert stored(database) == expected

    again = process("import", "activity", shuffled(messages, tmp_path), "--database", database, "--json")
    assert again.document["activities"] == MESSAGES
    assert again.document["rows_changed"] == 0
    assert stored(database) == expected


def test_the_order_of_the_lines_does_not_matter(
    process: Command, database: str, messages: Messages, tmp_path: Path
) -> None:
    """Shuffled into an empty database, gzipped, in two files at once, the same comes out."""
    half = len(messages) // 2
    shuffled_messages = random.Random(SEED).sample(messages, len(messages))
    files = [
        write(tmp_path / f"part-{number}.gz", gzip.compress(lines(*part).encode(), 1))
        for number, part in enumerate((shuffled_messages[:half], shuffled_messages[half:]))
    ]
    assert process("import", "activity", *files, "--database", database).code == 0
    assert stored(database) == ((SENDERS, SUM_OF_LAST_SEEN), hours_of(messages))


def test_one_message_less_shows(process: Command, messages: Messages, tmp_path: Path) -> None:
    """The figures notice the loss of a single sender's last message."""
    database = f"sqlite:///{tmp_path}/less.db"
    last = max(messages, key=lambda message: int(str(message[1])))
    less = write(tmp_path / "less.ndjson", lines(*(message for message in messages if message != last)))
    assert process("import", "activity", less, "--database", database).code == 0
    assert stored(database)[0] != (SENDERS, SUM_OF_LAST_SEEN)


def shuffled(messages: Sequence[tuple[str, object]], folder: Path) -> Path:
    """Write the messages in an order that is always the same, and not theirs."""
    order = random.Random(SEED).sample(list(messages), len(messages))
    return write(folder / "shuffled.ndjson", lines(*order))
