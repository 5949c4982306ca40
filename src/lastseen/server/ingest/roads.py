"""Which path leads to which ingest: a table, asked before anything else of every request."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from lastseen.ingest.service import Ingest
from lastseen.server.body import Receive, Scope, Send
from lastseen.server.ingest.browser_script import PATH as SCRIPT
from lastseen.server.ingest.browser_script import serve_browser_script
from lastseen.server.ingest.events import PATH as EVENTS
from lastseen.server.ingest.events import EventsRoute
from lastseen.server.ingest.other_clients import OtherClients
from lastseen.server.ingest.posthog import CAPTURE_PATHS, NEWEST_PATH, PostHogRoutes
from lastseen.server.limits import RateLimits

Road = Callable[[Scope, dict[bytes, bytes], Receive, Send], Awaitable[int]]

_CONFIGURATION = re.compile(r"/array/[^/]{1,200}/config(\.js)?/?").fullmatch
_CONFIGURATION_TEMPLATE = "/array/{token}/config"
_READING = {"GET", "HEAD"}
_REMOTE_FLAG = re.compile(r"/api/projects/@current/feature_flags/[^/]+/remote_config/?").fullmatch
_REMOTE_FLAG_TEMPLATE = "/api/projects/@current/feature_flags/{key}/remote_config"


class IngestRoads:
    """Every path on which events may come, or a library that sends them asks for something.

    Whoever knows a write key may send, from any origin and without a session: no road looks at cookies.
    """

    def __init__(self, ingest: Ingest, limits: RateLimits) -> None:
        posthog = PostHogRoutes(ingest)
        self._posthog = posthog
        roads: dict[str, Road] = {EVENTS: EventsRoute(ingest, limits), SCRIPT: serve_browser_script}
        both_ways: dict[str, Road] = dict.fromkeys(CAPTURE_PATHS, posthog.capture) | OtherClients(ingest).roads
        both_ways[NEWEST_PATH] = posthog.capture_newest
        both_ways["/flags"] = posthog.flags
        both_ways["/decide"] = posthog.decide
        both_ways["/api/feature_flag/local_evaluation"] = posthog.flag_definitions
        roads |= both_ways | {f"{path}/": road for path, road in both_ways.items()}
        self._roads = {path: (path, road) for path, road in roads.items()}

    def find(self, path: str, method: str) -> tuple[str, Road] | None:
        """Return the template of a path, for the metrics, and the road; None for a path that is not ours.

        Reading events is not: that takes a right, and another road.
        """
        found = self._roads.get(path)
        if found is not None:
            return None if path == EVENTS and method in _READING else found
        if path.startswith("/array/") and _CONFIGURATION(path):
            return _CONFIGURATION_TEMPLATE, self._posthog.configuration
        if path.startswith("/api/projects/") and _REMOTE_FLAG(path):
            return _REMOTE_FLAG_TEMPLATE, self._posthog.flag_definitions
        return None
