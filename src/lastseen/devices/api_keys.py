"""API keys: made once, verified with every request, rotated and revoked."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from lastseen.activity.buffer import Outcome
from lastseen.activity.flush import FlushResult
from lastseen.activity.health import ActivityHealth
from lastseen.activity.settings import TrackerSettings
from lastseen.activity.tracker import ActivityTracker
from lastseen.clock import SYSTEM_CLOCK, Clock, utc
from lastseen.devices.cache import KeyCache
from lastseen.devices.cursor import decode_cursor, encode_cursor
from lastseen.devices.key import ApiKey, KeyStatus, NewKey, Scope, Secret, digest_of, new_id, new_secret, prefix_of
from lastseen.devices.store import MAX_PAGE, DeviceStore, KeyQuery
from lastseen.errors import AlreadyExists, ConfigurationError, FlushError, InvalidValue, MissingAbility, NotFound

NO_CACHE = timedelta(0)

SHORTEST_FLUSH_INTERVAL = timedelta(seconds=1.25)
"""The tracker shortens its interval by up to a fifth, and keys are written at most once a second."""

DEFAULT_OVERLAP = timedelta(days=1)
"""How long a key still works beside its successor."""

# Looked at when no key has the prefix, so that this takes as long as a wrong secret; of no text is this the digest.
_NOBODY = ApiKey(id="nobody", name="", prefix="00000000", created_at=utc(0)), bytes(32)

_ATTEMPTS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyPage:
    """Some keys, and the cursor of the page after them (None on the last page)."""

    keys: tuple[ApiKey, ...]
    next_cursor: str | None

    def __iter__(self) -> Iterator[ApiKey]:
        """Iterate over the keys of this page."""
        return iter(self.keys)


class ApiKeys:
    """The API keys of one store.

    `within` limits a call to the keys of one group and of its devices: any other key is not there.

    `verify` asks the store once, an indexed read. `cache` remembers what it said for at most 5 s (0 is off): what is
    revoked, rotated or deleted in another process is noticed that much later, in this process at once.

    `last_used_at` is tracked in batches: written by time alone, at most once a second, however many keys are used.
    """

    def __init__(
        self,
        store: DeviceStore,
        *,
        tracking: TrackerSettings | None = None,
        cache: timedelta = NO_CACHE,
        clock: Clock = SYSTEM_CLOCK,
        logger: logging.Logger | None = None,
        on_flush_error: Callable[[FlushError], object] | None = None,
        on_flush: Callable[[FlushResult], object] | None = None,
    ) -> None:
        if not isinstance(store, DeviceStore):
            raise MissingAbility(f"{type(store).__name__} cannot keep API keys: it does not implement DeviceStore")
        self.store = store
        self._cache = KeyCache(cache)
        self._clock = clock
        self.tracker = ActivityTracker(
            store.keys_recorder,
            _by_time_alone(tracking or TrackerSettings()),
            clock=clock,
            logger=logger,
            on_flush_error=on_flush_error,
            on_flush=on_flush,
        )

    # Verifying

    def verify(self, secret: str) -> ApiKey | None:
        """Return the key with this secret when it may be used now, or None; the reasons are not told apart.

        Whether the prefix is unknown, the secret wrong or right, the same is done: one read, one comparison in constant
        time, one look at the key's own times. What has not the shape of a secret is refused without any of it. Records
        nothing: `record_used` does, when the request is let in. `StoreUnavailable` is not "wrong": answer 503.
        """
        prefix = prefix_of(secret)
        if prefix is None:
            return None
        digest, generation = digest_of(secret), self._cache.generation
        began = self._clock.monotonic()
        remembered = self._cache.get(digest, began)
        if remembered is not None:
            return remembered if remembered.is_valid(self._now()) else None
        found = self.store.find_key(prefix)
        key, stored = _NOBODY if found is None else found
        is_right, is_valid = hmac.compare_digest(digest, stored), key.is_valid(self._now())
        right = key if is_right and found is not None else None
        self._cache.put(digest, right, began, generation)
        return right if is_valid else None

    def remembered(self, secret: str) -> ApiKey | None:
        """Return what `verify` would, when that needs no question to the store; None says nothing."""
        if prefix_of(secret) is None:
            return None
        key = self._cache.get(digest_of(secret), self._clock.monotonic())
        return key if key is not None and key.is_valid(self._now()) else None

    def record_used(self, key_id: str, at: datetime | float | None = None) -> Outcome:
        """Note that the key was used, now or then; never blocks on I/O, never raises."""
        return self.tracker.record(key_id, at)

    def forget_cached(self) -> None:
        """Ask the store again for every key; for changes that this object does not see."""
        self._cache.forget()

    # Making and ending

    def create(
        self,
        name: str,
        *,
        scopes: Iterable[Scope | str] = (),
        device_id: str | None = None,
        group_id: str | None = None,
        site_id: str | None = None,
        expires_at: datetime | None = None,
        within: str | None = None,
    ) -> tuple[ApiKey, Secret]:
        """Make a key and return it with its secret, which nobody can ask for again.

        It belongs to a device, to a group, to a site, or to none of them. Raises `InvalidValue`, and `NotFound` for a
        device or a group that is not there or not `within`; whether there is such a site is the caller's to know.
        """
        if not str(name).strip():
            raise InvalidValue("name must not be empty: it tells the key apart in every list")
        now = self._now()
        if expires_at is not None:
            expires_at = _checked_expiry(expires_at, now)

        def add(key_id: str, secret: Secret) -> ApiKey:
            key = ApiKey(
                id=key_id,
                name=name,
                prefix=_prefix(secret),
                scopes=_scopes(scopes),
                device_id=device_id,
                group_id=group_id,
                site_id=site_id,
                created_at=now,
                expires_at=expires_at,
            )
            self.store.add_key(NewKey(key=key, digest=digest_of(secret.reveal())), within=within)
            return key

        return _with_new_secret(add)

    def rotate(
        self, key_id: str, *, overlap: timedelta = DEFAULT_OVERLAP, within: str | None = None
    ) -> tuple[ApiKey, Secret]:
        """Make a successor with the same name, scopes and owner; the old key expires after the overlap.

        It never expires later than it would have. The successor of a key that expires lasts as long as the old one was
        made for. Both happen, or neither. Raises `NotFound` also for a key that works no more.
        """
        if overlap < timedelta(0):
            raise ConfigurationError("overlap must not be negative")
        now = self._now()
        old = self.store.get_key(key_id, within=within)
        if old is None or not old.is_valid(now):
            raise NotFound("there is no such key")

        def replace_old(new_key_id: str, secret: Secret) -> ApiKey:
            expires_at = None if old.expires_at is None else _after(now, old.expires_at - old.created_at)
            key = replace(
                old,
                id=new_key_id,
                prefix=_prefix(secret),
                created_at=now,
                expires_at=expires_at,
                last_used_at=None,
            )
            new = NewKey(key=key, digest=digest_of(secret.reveal()))
            self.store.set_expiry(key_id, _after(now, overlap), successor=new, within=within)
            return key

        made = _with_new_secret(replace_old)
        self._cache.forget()
        return made

    def revoke(self, key_id: str, *, within: str | None = None) -> ApiKey:
        """Let the key work no more, for good; revoking it again keeps the first moment. Raises `NotFound`."""
        key = self.store.revoke_key(key_id, self._now(), within=within)
        self._cache.forget()
        return key

    # Asking

    def get(self, key_id: str, *, within: str | None = None) -> ApiKey | None:
        """Return one key, with the use that this process has not written yet; None when it is not there."""
        # Before the store is asked: what is written meanwhile is then in its answer.
        waiting = self.tracker.waiting(key_id)
        key = self.store.get_key(key_id, within=within)
        return None if key is None else key.used(waiting)

    def list(
        self,
        *,
        device_id: str | None = None,
        group_id: str | None = None,
        site_id: str | None = None,
        status: KeyStatus | None = None,
        limit: int = 100,
        cursor: str | None = None,
        within: str | None = None,
    ) -> KeyPage:
        """Return one page of keys, the youngest first; also revoked and expired ones unless a status is given.

        `group_id` asks for the group's own keys and those of its devices. Raises `InvalidCursor`, and
        `ConfigurationError` for a limit out of range. What waits in this process is in the answer.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise ConfigurationError(f"limit must be from 1 to {MAX_PAGE}")
        after = None if cursor is None else decode_cursor("keys", cursor, by_time=True)
        if within is not None and group_id not in {None, within}:
            return KeyPage(keys=(), next_cursor=None)
        place = None if after is None or not isinstance(after[0], datetime) else (after[0], after[1])
        waiting = self._waiting()
        query = KeyQuery(
            device_id=device_id,
            group_id=group_id or within,
            site_id=site_id,
            status=status,
            now=None if status is None else self._now(),
            limit=limit + 1,
            after=place,
        )
        found = self.store.list_keys(query)
        keys = tuple(key.used(waiting.get(key.id)) for key in found[:limit])
        following = encode_cursor("keys", keys[-1].created_at, keys[-1].id) if len(found) > limit else None
        return KeyPage(keys=keys, next_cursor=following)

    # The tracker

    def flush(self) -> FlushResult:
        """Write everything that waits, at once; raises `FlushError` when something could not be written."""
        return self.tracker.flush()

    def close(self) -> int:
        """Stop recording and write once more; returns how many keys' uses could not be saved."""
        return self.tracker.close()

    def health(self) -> ActivityHealth:
        """Return how the tracker feels."""
        return self.tracker.health()

    def _waiting(self) -> dict[str, datetime]:
        latest = (self._now() + self.tracker.settings.future_tolerance).timestamp()
        times: dict[str, datetime] = {}
        for key_id, at in self.tracker.waiting_times():
            moment = utc(min(at, latest))
            times[key_id] = max(moment, times.get(key_id, moment))
        return times

    def _now(self) -> datetime:
        return utc(self._clock.now())


def _by_time_alone(tracking: TrackerSettings) -> TrackerSettings:
    interval = max(tracking.flush_interval, SHORTEST_FLUSH_INTERVAL)
    return replace(tracking, max_buffer_size=None, flush_interval=interval)


def _checked_expiry(expires_at: datetime, now: datetime) -> datetime:
    """Return the moment in UTC, which the last hours of the year 9999 elsewhere have none in."""
    try:
        moment = None if expires_at.tzinfo is None else expires_at.astimezone(UTC)
    except OverflowError:
        moment = None
    if moment is None or moment <= now:
        raise InvalidValue("expires_at must be an aware moment in the future, before the year 10000")
    return moment


def _after(now: datetime, span: timedelta) -> datetime:
    """Return the moment so much later, the last one there is at the latest: keys are made to last until 9999."""
    try:
        return now + span
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def _scopes(scopes: Iterable[Scope | str]) -> frozenset[Scope]:
    try:
        return frozenset(Scope(scope) for scope in scopes)
    except ValueError as error:
        raise InvalidValue(f"scopes must be among {', '.join(Scope)}") from error


def _prefix(secret: Secret) -> str:
    prefix = prefix_of(secret.reveal())
    if prefix is None:
        raise InvalidValue("this is not the secret of a key")
    return prefix


def _with_new_secret(keep: Callable[[str, Secret], ApiKey]) -> tuple[ApiKey, Secret]:
    """Call with a new id and a new secret, and again in the rare case that somebody has the same prefix."""
    for _ in range(_ATTEMPTS - 1):
        secret = new_secret()
        try:
            return keep(new_id(), secret), secret
        except AlreadyExists:
            continue
    secret = new_secret()
    return keep(new_id(), secret), secret
