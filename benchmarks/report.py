"""The table, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from benchmarks.measure import Row

HEADER = """# Performance

Written by `make bench`; not edited by hand.

Every figure is compared with a limit and, where there is one, with a peer in the same run: contenders take turns, and
the ratio is the middle one of all rounds. Absolute times differ from machine to machine, and on one machine from hour
to hour; ratios much less. No test depends on these figures. "Not met" is left standing until it is met.

"""

EXPLANATION = """
What is compared:

- **B1** `record()` beside dictionaries that are written in the same loop.
- **B2** memory of a waiting key beyond the key itself, by `tracemalloc`.
- **B3** processor time of the ASGI middleware, called in process, beside the same application without it. The least
  that a middleware can do for a JSON body (wrap the two channels, decode, record) is measured too: what is left to the
  limit then has to pay for the path, the headers, the length and the errors of the body.
- **B4** a flush to PostgreSQL beside the best hand-written statement on the same driver, whose keys are sorted and
  whose times are made before the clock runs. The same statement fed out of a dictionary, as a flush is, is printed
  beside it. A flush of 100 rows lacks the fixed cost of a guarded transaction: 0.15 ms.
- **B5** a flush to SQLite beside bare `executemany` with prepared rows: same table, same pragmas; also fed out of a
  dictionary.
- **B6** `SessionManager.authenticate()` beside the bare read of the row, and beside what other session layers do to
  learn whose session it is, in process: starsessions (memory only), Flask-Session (SQLAlchemy), Django (database).
- **B7** activity over HTTP beside a raw ASGI echo under the same server, one process: requests for each second of the
  server's processor time.
- **B8**, the store's part: events with their visits, beside the bare writing of the same event rows. Their ids begin
  with their moment, as those of log lines, of the browser script and PostHog's, and of what comes without an id do.
  Where senders give ids in no order, such as UUIDs of version 4, the index of the ids takes PostgreSQL's process some
  4 µs an event more, and far more where it is larger than memory. With PostgreSQL our process and the server's take
  turns, and a commit waits some milliseconds for the disk.
- **B8** events over HTTP, acknowledged after their commit, beside a raw ASGI echo, by the processor time of the whole
  server: also that of the thread that saves and of the copy for reports, which the echo has not. All that a server does
  for a load counts, until it is at rest again, and nothing of the load before. The head of each request came before, on
  its connection or another, but for the length of the body, as programs send; the event loop takes less time for an
  event then than for the echo, which goes through the application. Of a single event's time a good third goes to
  saving, an eighth to the copy, the rest to the loop. In batches half goes to saving and a third to the copy; they
  share Python's lock with the loop, so that as it ran is hardly more than one core carries.
- **B9** the fold in one process, beside a loop that only finds gaps and DuckDB that does the same: events for each
  second of processor time. The fewer events a visit has, the more each of them costs.
- **B10** reports over ten million events of 90 days, beside hand-written queries on the same engine; at a tenth of the
  size beside SQLite with the same flat rows, indexed by time. Both processor time and the time that passed are printed:
  the engine uses every core, so other work on the machine stretches the second several times and the first hardly.
  Different visitors by page are counted by the rows that say that their visitor had not seen the page before in the
  range; as many visits as ever wait to be settled, ten thousand, are in the range and have no such rows yet.
  Filters that leave nearly everything are the dearest: by page every pair of a visitor and a page is then counted anew,
  and whether a visit passes a filter about its events is only known after a look at all of them.
- **B12** the size of the script that pages load, beside those of other products.
- **B13** the start of the server, and of the import.
- **B14** a request with an API key over HTTP beside the same one without tracking, sent in turns; and what it costs to
  verify a wrong and an unknown secret beside a right one.
"""

COLUMNS = ("bar", "case", "figure", "limit", "peer", "ratio", "spread", "met")


def table(rows: Sequence[Row]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def page(rows: Sequence[Row], machine: Sequence[str], today: date) -> str:
    """Return the whole page."""
    judged = [row for row in rows if row.met is not None]
    facts = "\n".join(f"- {fact}" for fact in [*machine, f"measured on {today.isoformat()}"])
    summary = f"{sum(bool(row.met) for row in judged)} of {len(judged)} limits are met.\n"
    return f"{HEADER}{facts}\n\n{summary}\n{table(rows)}{EXPLANATION}"


def _cells(row: Row) -> tuple[str, ...]:
    met = "" if row.met is None else "met" if row.met else "**not met**"
    return (row.bar, row.case, row.figure, row.limit, row.peer, row.ratio, row.spread, met)
