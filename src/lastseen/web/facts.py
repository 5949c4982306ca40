"""What the adapters share: which bodies are worth a look, and how one request's client is recorded."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypedDict
from uuid import UUID

from lastseen.activity.identify import (
    DEFAULT_SOURCE,
    ClientSource,
    RequestFacts,
    reads_body,
    reads_principal,
    text_decoder,
)
from lastseen.clock import SYSTEM_CLOCK, Clock
from lastseen.errors import ConfigurationError, MissingAbility
from lastseen.web.exclude import DEFAULT_EXCLUDED, excluded_paths, first_excluded

DEFAULT_PEEK_LIMIT = 1024 * 1024


class Tracker(Protocol):
    """Whatever keeps activity: a `ClientActivity` (`LastSeen.clients`) or an `ActivityTracker`."""

    def record(self, key: str, at: float, /) -> object:
        """Note that the key was active at this moment, in seconds since 1970."""


class TrackingOptions(TypedDict, total=False):
    """What can be chosen for a middleware; every option may be left out."""

    source: ClientSource
    """Names the client, see `lastseen.activity.identify`: the JSON body's `client_id`, then the query's."""

    exclude: Iterable[str]
    """Patterns of paths that record nothing: `DEFAULT_EXCLUDED`."""

    skip: Callable[[RequestFacts], object] | None
    """Asked for every request that is about to be recorded; true keeps it out: passive polling, say."""

    peek_limit: int
    """The largest body, in bytes, that is looked at: 1 MiB."""

    finish_reading: bool
    """Read a JSON body that the application leaves unread, so that a handler that only answers is tracked too."""

    clock: Clock
    logger: logging.Logger | None


class RequestTracking:
    """The options of a middleware, checked once, and the one place where a request's client is recorded.

    Raises `MissingAbility` for a tracker that cannot record and `ConfigurationError` for a wrong option.
    """

    def __init__(
        self,
        tracker: Tracker,
        *,
        source: ClientSource = DEFAULT_SOURCE,
        exclude: Iterable[str] = DEFAULT_EXCLUDED,
        skip: Callable[[RequestFacts], object] | None = None,
        peek_limit: int = DEFAULT_PEEK_LIMIT,
        finish_reading: bool = True,
        clock: Clock = SYSTEM_CLOCK,
        logger: logging.Logger | None = None,
    ) -> None:
        if not callable(getattr(tracker, "record", None)):
            raise MissingAbility(
                f"{type(tracker).__name__} cannot track requests: it has no record(key, at); "
                "hand in an ActivityTracker or the clients of a LastSeen"
            )
        if not callable(source):
            raise ConfigurationError("source must be a function from the facts of a request to a client id or None")
        if isinstance(exclude, str):
            raise ConfigurationError("exclude must be a list of patterns, not one text")
        if peek_limit < 0:
            raise ConfigurationError("peek_limit must not be negative")
        self.tracker = tracker
        exclude = tuple(exclude)
        self.excludes = excluded_paths(exclude)
        self.first_excluded = first_excluded(exclude)
        self.peek_limit = peek_limit
        self.finish_reading = finish_reading
        self.reads_body = reads_body(source) and peek_limit > 0
        self.reads_principal = reads_principal(source)
        self.now = clock.now
        self._source = source
        self._skip = skip
        self.record_client = tracker.record
        # Where the source looks at the body first, a text there is the client and nothing else has to be asked.
        self.decode_text = None if skip is not None else text_decoder(source)
        self._logger = logger or logging.getLogger("lastseen")
        self._told: set[type[BaseException]] = set()

    def record(self, facts: RequestFacts) -> None:
        """Record the request's client, when it names one, at the moment the request arrived; never raises."""
        try:
            client: Any = self._source(facts)
            if client is None or (self._skip is not None and self._skip(facts)):
                return
            if type(client) in _IDS:
                # An own function hands out what it has; anything else is refused and counted by the tracker.
                client = str(client)
            self.record_client(client, facts.arrived_at)
        except Exception as error:  # noqa: BLE001 - a request never fails for its tracking
            self.tell(error)

    def tell(self, error: BaseException) -> None:
        """Log what kept a request from being recorded, once for each kind of error: requests come by the thousand."""
        if type(error) not in self._told:
            self._told.add(type(error))
            self._logger.warning("a request could not be tracked; the like is not logged again", exc_info=error)


_IDS = frozenset({int, UUID})

_MOST_DIGITS = 18


def is_json(content_type: str) -> bool:
    """Return whether the media type is JSON: application/json or application/*+json, with any parameters."""
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))


def content_length(value: str | None) -> int | None:
    """Return the length that a header declares; None when there is none or it is no number of at most 18 digits."""
    if value is None or len(value) > _MOST_DIGITS or not (value.isdecimal() and value.isascii()):
        return None
    return int(value)


def header_text(value: bytes) -> str:
    """Decode a header as UTF-8, which clients send, or as Latin-1, which HTTP once said (RFC 9110, 5.5)."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
