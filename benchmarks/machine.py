"""Where figures come from: what a reader must know of the machine, and nothing that names it."""

from __future__ import annotations

import os
import platform
import sqlite3
from importlib import metadata
from pathlib import Path

PACKAGES = ("psycopg", "uvicorn", "uvloop", "httptools", "starlette", "msgspec", "litestar", "django")


def describe() -> list[str]:
    """Return one line a fact."""
    return [
        f"{os.cpu_count()} cores{_processor()}, {_memory()} of memory, {platform.system()} on {platform.machine()}",
        f"{platform.python_implementation()} {platform.python_version()}, SQLite {sqlite3.sqlite_version}",
        f"load before the run: {os.getloadavg()[0]:.1f} (a calm machine has less than 0.5)",
        ", ".join(f"{name} {version}" for name in PACKAGES if (version := _version(name))),
    ]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return ""
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f" ({names[0]})" if names else ""


def _memory() -> str:
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
