"""What to do when the process forks: locks, threads and connections of a parent mean nothing in its child."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class ForkAware(Protocol):
    """Something that holds locks, threads or connections."""

    def reset_after_fork(self) -> None:
        """Begin anew, in the child; the parent goes on as before. No other thread runs yet."""


class ForkWary(ForkAware, Protocol):
    """Something whose state must not be cut in half by a fork."""

    def before_fork(self) -> None:
        """Finish what is under way and hold still."""

    def after_fork_in_parent(self) -> None:
        """Go on."""


_aware: weakref.WeakSet[ForkAware] = weakref.WeakSet()
_wary: weakref.WeakSet[ForkWary] = weakref.WeakSet()
_holding_still: list[ForkWary] = []


def reset_in_forked_children(thing: ForkAware) -> None:
    """Call the thing's `reset_after_fork` in every child forked from now on, as long as the thing lives."""
    _aware.add(thing)


def hold_still_for_forks(thing: ForkWary) -> None:
    """Call the thing's three methods around every fork from now on, as long as the thing lives."""
    _wary.add(thing)
    _aware.add(thing)


def _before() -> None:
    for thing in list(_wary):
        thing.before_fork()
        _holding_still.append(thing)


def _after_in_parent() -> None:
    while _holding_still:
        _holding_still.pop().after_fork_in_parent()


def _after_in_child() -> None:
    _holding_still.clear()
    for thing in list(_aware):
        thing.reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
