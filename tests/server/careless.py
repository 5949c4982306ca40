"""A server that lacks a protection: what tests the protection must fail with it.

Run as `python careless.py KIND serve …`. A `hopeful` one takes for saved what could not be written, a `forgetful` one
does not know an event again, a `trusting` one believes that every body is JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

from msgspec.structs import replace

from lastseen.cli import main
from lastseen.errors import StoreError
from lastseen.ingest import unpack
from lastseen.stores.sqlite.visits import SQLiteVisits
from lastseen.visits.event import Event
from lastseen.visits.rule import VisitRule
from lastseen.visits.store import SaveResult

Rules = Callable[[str], VisitRule]

_save = SQLiteVisits.save


def _hopeful(visits: SQLiteVisits, events: Sequence[Event], rules: Rules) -> SaveResult:
    try:
        return _save(visits, events, rules)
    except StoreError:
        return SaveResult(new=len(events), duplicates=0)


def _forgetful(visits: SQLiteVisits, events: Sequence[Event], rules: Rules) -> SaveResult:
    return _save(visits, [replace(event, id=f"{event.id}-{uuid4().hex}") for event in events], rules)


def _trusting(body: bytes) -> Any:
    return json.loads(body)


if __name__ == "__main__":
    match sys.argv.pop(1):
        case "hopeful":
            SQLiteVisits.save = _hopeful  # type: ignore[method-assign,assignment] # the protection that is removed
        case "forgetful":
            SQLiteVisits.save = _forgetful  # type: ignore[method-assign,assignment] # the protection that is removed
        case "trusting":
            unpack._parse_leniently = _trusting
    main()
