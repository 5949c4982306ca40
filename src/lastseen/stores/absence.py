"""Whether a database is not there yet, or was given wrongly: the first passes by itself, the second never."""

from __future__ import annotations

import sqlite3

from lastseen.errors import StoreUnavailable
from lastseen.stores import scheme_of

_HELD_BY_ANOTHER = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def may_pass(error: BaseException, source: str) -> bool:
    """Return whether waiting helps against an error of the store that the address `source` names.

    It does where nobody answers at the address, where the server is just starting, and where another process holds a
    lock. It does not where a server answers and refuses, as for a wrong password, or where no such host is known. May
    ask the server, for some seconds.
    """
    if not isinstance(error, StoreUnavailable):
        return False
    cause = error.__cause__
    if scheme_of(source) == "sqlite":
        # The low byte is the primary result code.
        return getattr(cause, "sqlite_errorcode", 0) & 0xFF in _HELD_BY_ANOTHER
    if isinstance(cause, TimeoutError) or getattr(cause, "sqlstate", None):
        return True
    from lastseen.stores.postgres.presence import is_away

    return is_away(source)
