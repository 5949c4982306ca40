"""A batch on its way to a recorder."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, Sequence, ValuesView
from datetime import datetime

from lastseen.clock import utc


class Updates(Mapping[str, datetime]):
    """Keys, sorted bytewise, each with its own moment: a mapping like any other for whoever writes it.

    A recorder whose database takes seconds reads them here (`sorted_seconds`): to make a datetime of each moment and to
    take it apart again costs as much as everything else that a large flush does in this process.
    """

    __slots__ = ("_moments", "keys_sorted", "seconds")

    def __init__(self, keys_sorted: Sequence[str], seconds: Sequence[float]) -> None:
        self.keys_sorted = keys_sorted
        self.seconds = seconds
        """Since 1970, in the order of the keys."""
        self._moments: dict[str, datetime] | None = None

    @classmethod
    def of(cls, batch: Mapping[str, float], latest: float) -> Updates:
        """Sort bytewise (code points sort like their UTF-8) and clamp times that are too far in the future."""
        keys = sorted(batch)
        seconds = list(map(batch.__getitem__, keys))
        if seconds and max(seconds) > latest:
            seconds = [min(at, latest) for at in seconds]
        return cls(keys, seconds)

    def part(self, begin: int, end: int) -> Updates:
        """Return the updates from one position up to another one."""
        return Updates(self.keys_sorted[begin:end], self.seconds[begin:end])

    def __getitem__(self, key: str) -> datetime:
        """Return the key's moment."""
        return self._by_key()[key]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys, in their order."""
        return iter(self.keys_sorted)

    def __len__(self) -> int:
        """Count the keys."""
        return len(self.keys_sorted)

    def items(self) -> ItemsView[str, datetime]:
        """Return the pairs, in the order of the keys."""
        return self._by_key().items()

    def values(self) -> ValuesView[datetime]:
        """Return the moments, in the order of the keys."""
        return self._by_key().values()

    # Not left to the base class, which would ask for one key after the other.
    def _by_key(self) -> dict[str, datetime]:
        if self._moments is None:
            self._moments = dict(zip(self.keys_sorted, map(utc, self.seconds), strict=True))
        return self._moments


def sorted_seconds(updates: Mapping[str, datetime]) -> tuple[Sequence[str], Sequence[float]]:
    """Return the keys of any updates, sorted bytewise, and their moments as seconds since 1970."""
    if isinstance(updates, Updates):
        return updates.keys_sorted, updates.seconds
    # Code points sort like their UTF-8.
    keys = sorted(updates)
    return keys, [updates[key].timestamp() for key in keys]
