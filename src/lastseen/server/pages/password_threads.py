"""Where passwords are hashed: two threads of their own, so that nothing else waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from lastseen.accounts.sign_in import Throttled

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

THREADS = 2
"""Each hash takes 64 MiB and four lanes while it is made."""
MOST_WAITING = 16


class PasswordThreads:
    """Runs calls that hash. Of too many at once the rest is refused with `Throttled`; for one event loop."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="lastseen-passwords")
        self._waiting = 0

    async def run(
        self, call: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        """Call in a thread."""
        if self._waiting >= MOST_WAITING:
            raise Throttled(1)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: call(*args, **kwargs))
        finally:
            self._waiting -= 1
