"""Runs every test but the long fault runs, with coverage; what `make test` does. Arguments go on to pytest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parent.parent
WORKERS = min(8, (os.cpu_count() or 1) + 1)
"""One more than there are processors: much of a test is waiting for a server or a browser."""
DISTRIBUTION = ("-n", str(WORKERS), "--dist", "loadfile", "--no-loadscope-reorder")
PATIENCE = (
    *("-o", "faulthandler_timeout=400", "-o", "faulthandler_exit_on_timeout=true"),
    *("--max-worker-restart", "0"),
)
"""A test that hangs for so many seconds ends its process, which says what each thread was doing, and the run fails.

With a new process instead, pytest-xdist 3.8 waits for ever: files that were done are handed out again, and nobody says
that there is nothing to do in them.
"""


def main() -> int:
    """Run the tests in several processes, then hold the coverage of `src` to its limit; return the exit code."""
    os.chdir(PROJECT)
    run("coverage", "erase")
    tested = run("pytest", *DISTRIBUTION, *PATIENCE, "--cov", "--cov-report=", *sys.argv[1:])
    if tested or sys.argv[1:]:
        return tested
    return run("coverage", "report")


def run(*command: str) -> int:
    """Run a module of this environment; return its exit code.

    Bytecode is kept, whatever the caller prefers: the tests start some hundred processes, and each would compile the
    package anew.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run([sys.executable, "-m", *command], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
