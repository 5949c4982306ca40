"""What the small browser trackers send that keep no id: Plausible's and Umami's. Pure.

https://plausible.io/docs/events-api and https://umami.is/docs/api/sending-stats.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lastseen.ingest.origin import Origin, id_text, text_or_none
from lastseen.ingest.outcome import Unacceptable
from lastseen.ingest.posthog import Batch
from lastseen.ingest.unpack import parse
from lastseen.visits.event import IDENTIFY, PAGELEAVE, PAGEVIEW
from lastseen.visits.making import RawEvent

MAX_NAME_LENGTH = 200
_PAGE_NAMES = {"pageview": PAGEVIEW, "engagement": PAGELEAVE}
_MOST_ENGAGED_MS = 86_400_000


def decode_plausible(value: Any, origin: Origin) -> Batch:
    """Return the event of a body with short names (the script's) or long ones; the domain stands for the site's key."""
    body = _object(value)
    name = text_or_none(body.get("n") or body.get("name"), MAX_NAME_LENGTH)
    if name is None:
        raise Unacceptable(400, "the event has no name")
    properties = _properties(body.get("p", body.get("props")))
    for ours, theirs in (("revenue", "$"), ("scroll_depth", "sd")):
        if body.get(theirs) is not None:
            properties[ours] = body[theirs]
    engaged = body.get("e")
    event = _event(
        origin,
        _PAGE_NAMES.get(name, name),
        url=text_or_none(body.get("u") or body.get("url")),
        referrer=text_or_none(body.get("r") or body.get("referrer")),
        engaged_ms=engaged if type(engaged) is int and 0 <= engaged < _MOST_ENGAGED_MS else 0,
        properties=properties,
    )
    return Batch(token=text_or_none(body.get("d") or body.get("domain"), 253), events=[event])


def decode_umami(value: Any, origin: Origin) -> Batch:
    """Return the event of a body; a page view has no name, and `website` is the site's key."""
    body = _object(value)
    payload = _object(body.get("payload"))
    host, path = text_or_none(payload.get("hostname"), 253), text_or_none(payload.get("url"))
    # The script sends paths; whatever has a scheme is an address already.
    url = f"https://{host}{path}" if path and host and path.startswith("/") else path
    name = (
        IDENTIFY if body.get("type") == "identify" else text_or_none(payload.get("name"), MAX_NAME_LENGTH) or PAGEVIEW
    )
    properties = _properties(payload.get("data"))
    if title := text_or_none(payload.get("title"), MAX_NAME_LENGTH):
        properties.setdefault("title", title)
    event = _event(
        origin,
        name,
        url=url,
        referrer=text_or_none(payload.get("referrer")),
        distinct_id=id_text(payload.get("id")),
        screen=text_or_none(payload.get("screen"), 20),
        properties=properties,
    )
    return Batch(token=text_or_none(payload.get("website"), 100), events=[event])


def _event(origin: Origin, name: str, **fields: Any) -> RawEvent:
    return RawEvent(
        name=name,
        at=origin.received_at,
        received_at=origin.received_at,
        address=origin.address,
        user_agent=origin.user_agent,
        **fields,
    )


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Unacceptable(400, "the body is not the object that it should be")
    return value


def _properties(value: Any) -> dict[str, Any]:
    """Return properties that come as an object, or as the JSON of one."""
    if isinstance(value, str) and value:
        try:
            value = parse(value.encode("utf-8", "replace"))
        except Unacceptable:
            value = None
    return dict(value) if isinstance(value, dict) else {}
