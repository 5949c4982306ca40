"""What a driver's error means, by its SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html)."""

from __future__ import annotations

from lastseen.errors import InvalidData, LastSeenError, SchemaError, StoreError, StoreUnavailable

INSUFFICIENT_PRIVILEGE = "42501"

PREPARED_STATEMENT_LOST = frozenset({"26000", "42P05"})
"""A pooler between us and the server has changed the session under a prepared statement."""

# By class (the first two characters): connection, read-only replica, rollback (serialization, deadlock), resources,
# object in use (lock timeout), operator intervention (statement timeout, shutdown), system error.
_UNAVAILABLE = ("08", "25", "40", "53", "55", "57", "58")
_INVALID = ("22", "23")
_SCHEMA = ("3F", "42")

# The names that PEP 249 gives to a driver's classes, for errors that never reached the server.
_UNAVAILABLE_NAMES = {"OperationalError", "InterfaceError", "InternalError"}
_INVALID_NAMES = {"DataError", "IntegrityError", "UnicodeError"}


def in_our_words(error: Exception, address: str, advice: str) -> LastSeenError:
    """Return our error for a driver's one; `advice` ends the message when the schema is wrong."""
    _forget_parameters(error)
    text = " ".join(str(error).split())
    state: str | None = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if state is None:
        return _without_state(error, f"{address}: {text}")
    if state.startswith(_INVALID):
        return InvalidData(f"PostgreSQL refuses a value: {text}")
    if state == INSUFFICIENT_PRIVILEGE:
        return SchemaError(f"{text}; grant it to the user of {address}")
    if state in PREPARED_STATEMENT_LOST or state.startswith(_UNAVAILABLE):
        return StoreUnavailable(f"{address}: {text}")
    if state.startswith(_SCHEMA):
        return SchemaError(f"{text}; {advice}" if advice else text)
    return StoreError(f"{address}: {text} (SQLSTATE {state})")


def _forget_parameters(error: Exception) -> None:
    """Take the statement's parameters out of the driver's own message, which becomes a cause that is logged.

    A server repeats them at the end of the context when it is set to (`log_parameter_max_length_on_error`); the digest
    of a session's token may be among them.
    """
    context: str = getattr(getattr(error, "diag", None), "context", None) or ""
    start = context.find("$1 = ")
    if start >= 0:
        error.args = (str(error).replace(context[start:], "…"), *error.args[1:])


def _without_state(error: Exception, text: str) -> LastSeenError:
    names = {kind.__name__ for kind in type(error).__mro__}
    # psycopg2 says ValueError for a NUL character.
    if names & _INVALID_NAMES or type(error) is ValueError:
        return InvalidData(f"PostgreSQL cannot be given a value: {text}")
    return StoreUnavailable(text) if names & _UNAVAILABLE_NAMES else StoreError(text)
