"""Every error that lastseen raises.

```
LastSeenError
├── ConfigurationError      an option or a setting is wrong; also a ValueError
├── MissingAbility          a store lacks the protocol that was asked for; also a TypeError
├── MissingExtra            an optional dependency is not installed; also an ImportError
├── InvalidCursor           a page cursor that this product did not make; also a ValueError
├── FlushError              recorded activity could not be written now; nothing is lost
├── SessionError            a login session cannot be made, continued or ended
│   ├── SessionNotFound     there is none (any more), it has expired, or it is somebody else's
│   ├── SessionRefused      all sessions of the user were ended in the same instant
│   ├── TooManySessions     the user has as many as are allowed
│   ├── CredentialConflict  a request carries two credentials that disagree (sessions/cookie.py)
│   ├── RequestRefused      a request must be answered with a refusal (web/sessions/refusal.py)
│   └── UnknownUser         the store has no such user
├── DeviceError             a device, group or API key cannot be made or changed
│   ├── NotFound            there is none, or it belongs to another group
│   ├── InvalidValue        an id, a name, a property, a scope cannot be that; also a ValueError
│   └── AlreadyExists       there is a group with this id
└── StoreError              a store failed; the driver's error is the cause
    ├── StoreUnavailable    connection, timeout, lock, deadlock: try again later
    ├── InvalidData         the database refuses a value: trying again is useless
    └── SchemaError         a table, column or unique key is missing: migrate
```

A driver's own error never crosses the edge of a store: it is the `__cause__` of one of these.
"""

from __future__ import annotations


class LastSeenError(Exception):
    """The root: catch this to catch everything that lastseen raises."""


class ConfigurationError(LastSeenError, ValueError):
    """An option or a setting is wrong; the message names it and says what is allowed."""


class MissingAbility(LastSeenError, TypeError):
    """An object was handed in that lacks the protocol which the feature needs; the message names the protocol."""


class MissingExtra(LastSeenError, ImportError):
    """An optional dependency is missing; the message says what to install."""


def missing_extra(error: ImportError, message: str, *modules: str) -> MissingExtra:
    """Return what to raise when an import failed because one of these modules is not installed.

    Raises the error itself when anything else is wrong: a module that is there but cannot be loaded says why.
    """
    if not isinstance(error, ModuleNotFoundError) or error.name not in modules:
        raise error
    return MissingExtra(message)


class InvalidCursor(LastSeenError, ValueError):
    """A page cursor is not one that a listing returned; start again without it."""


class FlushError(LastSeenError):
    """A flush could not write everything; what is left waits in memory for the next try.

    `error` is what the recorder raised, `batch_size` the number of keys in the batch.
    """

    def __init__(self, error: BaseException, batch_size: int) -> None:
        super().__init__(f"failed to flush activity batch error={error} batch_size={batch_size}")
        self.error = error
        self.batch_size = batch_size


class SessionError(LastSeenError):
    """A login session cannot be made, continued or ended."""


class SessionNotFound(SessionError):
    """There is no such session, it has expired, or it belongs to somebody else: the three are not told apart."""


class SessionRefused(SessionError):
    """All sessions of the user were ended at or after the moment of this authentication; sign in again."""


class TooManySessions(SessionError):
    """The user has as many sessions as are allowed; one must end first."""


class UnknownUser(SessionError):
    """The store has no such user; make it with upsert_user."""


class DeviceError(LastSeenError):
    """A device, a group or an API key cannot be made or changed."""


class NotFound(DeviceError):
    """There is no such device, group or key, or it belongs to another group: the two are not told apart."""


class InvalidValue(DeviceError, ValueError):
    """A device, a group or a key cannot have this value, ever; the message names the field and what is allowed."""


class AlreadyExists(DeviceError):
    """There is a group with this id; choose another one."""


class StoreError(LastSeenError):
    """A store failed; the driver's error is the cause."""


class StoreUnavailable(StoreError):
    """No connection, a timeout, a lock, a serialization failure or a deadlock: the same call may succeed later."""


class InvalidData(StoreError):
    """The database refuses a value of this call, for ever: the call must change, not be repeated."""


class SchemaError(StoreError):
    """A table, a column or a unique key is missing or has the wrong shape; the message says what to run."""
