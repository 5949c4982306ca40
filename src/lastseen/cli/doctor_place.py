"""What `lastseen doctor` looks at beside the database: the data folder, what is in it, and who listens on the port."""

from __future__ import annotations

import json
import os
import shutil
import urllib.error
import urllib.request

from lastseen.errors import MissingExtra, StoreError
from lastseen.settings import Settings
from lastseen.stores import open_store
from lastseen.stores.columnar.opening import look_at_copies

LEAST_FREE = 100 * 1024 * 1024
"""Bytes on the disk of the data folder; below that the spool, the copy and an SQLite file soon stand still."""
SECONDS = 3.0
"""How long whoever listens has to answer."""


class Unfit(StoreError):
    """A look that did not find what is needed; the message says what to do."""


def data_folder(settings: Settings) -> str:
    """Say whether the folder can be written and has room."""
    folder = settings.data_folder
    if not os.path.lexists(folder):
        there = next(parent for parent in folder.parents if parent.exists())
        can = "makes it" if os.access(there, os.W_OK | os.X_OK) else "cannot make it as this user: --data-folder"
        return f"{folder} is not there; the server {can}"
    if not folder.is_dir():
        raise Unfit(f"{folder} is no folder; choose another with --data-folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise Unfit(f"this user may not write to {folder}; change its owner, or choose another with --data-folder")
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE:
        raise Unfit(f"{folder} has {_size(free)} left; make room on its disk")
    return f"{folder}, {_size(free)} free"


def spool(settings: Settings) -> str:
    """Say what waits on disk for the database; a damaged file wants somebody to look."""
    root = settings.data_folder / "spool"
    damaged = sorted(root.glob("*/*.damaged"))
    if damaged:
        raise Unfit(
            f"{damaged[0]} was damaged{f', and {len(damaged) - 1} more' if damaged[1:] else ''}: what could be read is "
            "stored, the rest is lost; delete it when you have looked"
        )
    waiting = [file.stat().st_size for file in root.glob("*/*.spool")]
    if not waiting:
        return "nothing waits"
    files = "1 file" if len(waiting) == 1 else f"{len(waiting)} files"
    return f"{files} with {_size(sum(waiting))} of events waiting; a server that runs stores them"


def copies(settings: Settings) -> str:
    """Say how the copies for reports are; a broken one is no harm, as it is made again."""
    try:
        store = open_store(settings.database_url, pool_size=1)
        found = dict(look_at_copies(settings.data_folder, store.address))
        store.close()
    except MissingExtra as error:
        return str(error)
    return "; ".join(f"{name}: {state}" for name, state in found.items()) or "none yet; the first report makes it"


def port(settings: Settings) -> str:
    """Say who listens where a server would. Another program does no harm where no server ever ran."""
    where = f"{_reachable(settings.host)}:{settings.port}"
    if settings.port == 0:
        return "any that is free"
    status, answer = _ask(f"http://{where}/health/ready", settings.allowed_hosts[0])
    if status is None:
        return f"nobody listens on {where}"
    if status == 200:  # noqa: PLR2004
        return f"a server is ready on {where}"
    detail = answer.get("detail")
    if detail is not None:
        raise Unfit(f"a server listens on {where} and is not ready: {detail}")
    told = f"another program listens on {where}; give lastseen serve another --port"
    if settings.data_folder.is_dir():
        raise Unfit(told)
    return told


def _ask(url: str, host: str) -> tuple[int | None, dict[str, str]]:
    """Return status and document of an answer; status None when nobody listens, 0 for what speaks no HTTP."""
    request = urllib.request.Request(url, headers={"host": host})  # noqa: S310 - always http
    # A proxy of the environment knows nothing of this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=SECONDS) as response:
            status, body = response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            status, body = error.code, error.read()
    except urllib.error.URLError as error:
        return (None if isinstance(error.reason, ConnectionRefusedError) else 0), {}
    except OSError:
        return 0, {}
    try:
        document = json.loads(body)
    except ValueError:
        return 0, {}
    return (status, document) if isinstance(document, dict) and "status" in document else (0, {})


def _reachable(host: str) -> str:
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host.strip("[]"), host)  # noqa: S104 - where to ask
    return f"[{name}]" if ":" in name and not name.startswith("[") else name


def _size(count: int) -> str:
    for unit in ("bytes", "KB", "MB"):
        if count < 1024:  # noqa: PLR2004
            return f"{count:,} {unit}"
        count //= 1024
    return f"{count:,} GB"
