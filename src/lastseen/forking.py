"""What a forked child must begin anew: locks, threads and connections of its parent mean nothing in it."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class ForkAware(Protocol):
    """Something that holds locks, threads or connections."""

    def reset_after_fork(self) -> None:
        """Begin anew, in the child; the parent goes on as before. No other thread runs yet."""


_aware: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def reset_in_forked_children(thing: ForkAware) -> None:
    """Call the thing's `reset_after_fork` in every child forked from now on, as long as the thing lives."""
    _aware.add(thing)


def _reset_all() -> None:
    for thing in list(_aware):
        thing.reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)
