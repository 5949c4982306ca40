"""The one place where asynchronous code waits for a session store: a few threads, never the event loop."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from lastseen.forking import reset_in_forked_children

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

THREADS = 8
"""As many reads may wait for the database at once, in one process."""


class StoreThreads:
    """Runs blocking calls; the threads start with the first call, and anew in a forked child. Needs asyncio."""

    def __init__(self) -> None:
        self.reset_after_fork()
        reset_in_forked_children(self)

    def reset_after_fork(self) -> None:
        """Begin with no threads."""
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="lastseen-sessions")

    async def run(
        self, call: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        """Call in a thread, with the context variables of the caller."""
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: context.run(call, *args, **kwargs))


in_thread = StoreThreads().run
