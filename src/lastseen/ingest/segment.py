"""What the libraries of Segment send: https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lastseen.ingest.origin import Origin, derived_id, id_text, is_browser, screen_of, text_or_none
from lastseen.ingest.outcome import Dropped, Unacceptable
from lastseen.ingest.posthog import Batch
from lastseen.ingest.times import micros_of, not_after, skew
from lastseen.visits.event import ALIAS, IDENTIFY, PAGEVIEW, Device
from lastseen.visits.making import RawEvent
from lastseen.visits.utm import UtmParams

MAX_EVENTS = 10_000
MAX_NAME_LENGTH = 200
TYPES = frozenset({"track", "page", "screen", "identify", "alias", "group"})

SHORT_NAMES = {"t": "track", "p": "page", "s": "screen", "i": "identify", "a": "alias", "g": "group"}
"""How analytics.js names single messages in its addresses; many are `b` there, which telephones use too."""

_BROWSER_LIBRARIES = {"analytics.js", "analytics-next"}
_PHONE_LIBRARIES = {
    f"analytics-{name}" for name in ("ios", "android", "swift", "kotlin", "react-native", "flutter")
} | {"@segment/analytics-react-native"}
"""Those of programs that run where their person is: what carries their requests names itself, and is no robot."""
_KINDS_OF_DEVICES = {"ios": "mobile", "ipados": "tablet", "android": "mobile", "tvos": "tv"}
_CAMPAIGN = {"source": "source", "medium": "medium", "name": "campaign", "term": "term", "content": "content"}


def decode_segment(value: Any, origin: Origin, *, kind: str | None = None, key: str | None = None) -> Batch:
    """Return the events of a body; `kind` is that of a single message, which its address names.

    Raises `Unacceptable` for what is no object. One bad message never spoils the others.
    """
    if not isinstance(value, dict):
        raise Unacceptable(400, "the body is no object")
    items = value.get("batch") if kind is None else [{"type": kind, **value}]
    if not isinstance(items, list):
        raise Unacceptable(400, "the body has no batch")
    if len(items) > MAX_EVENTS:
        raise Unacceptable(413, f"a request may bring {MAX_EVENTS} messages; send it in parts")
    given = value.get("writeKey")
    batch = Batch(token=given if isinstance(given, str) and given else key)
    off_by = skew(micros_of(value.get("sentAt")), origin.received_at)
    for index, item in enumerate(items):
        cause = _problem_of(item)
        if cause is None:
            batch.events.append(_event(item, origin, off_by))
        else:
            batch.dropped.append(Dropped(index=index, cause=cause, reason=cause))
    return batch


def _problem_of(item: Any) -> str | None:
    kind = item.get("type") if isinstance(item, dict) else None
    if not isinstance(kind, str) or kind not in TYPES:
        return "not an event"
    if kind == "group":
        return "groups are not kept"
    if kind == "track" and not text_or_none(item.get("event")):
        return "no name"
    return None if _visitor(item) else "no distinct_id"


def _visitor(item: Mapping[str, Any]) -> str | None:
    return id_text(item.get("userId")) or id_text(item.get("anonymousId"))


def _event(item: Mapping[str, Any], origin: Origin, off_by: int) -> RawEvent:
    context, properties = _object(item, "context"), dict(_object(item, "properties"))
    page = _object(context, "page")
    is_phone = _is_phone(context)
    is_server = not is_phone and _library(context) not in _BROWSER_LIBRARIES
    user_agent = text_or_none(context.get("userAgent")) or (None if is_server else origin.user_agent)
    told = micros_of(item.get("timestamp"))
    moment = origin.received_at if told is None else not_after(told + off_by, origin.received_at)
    return RawEvent(
        id=id_text(item.get("messageId")) or derived_id(item, None if told is not None else origin.received_at),
        name=_name(item),
        distinct_id=_visitor(item),
        at=moment,
        received_at=origin.received_at,
        url=text_or_none(properties.get("url")) or text_or_none(page.get("url")),
        referrer=text_or_none(properties.get("referrer")) or text_or_none(page.get("referrer")),
        user_agent=None if is_phone and not is_browser(user_agent) else user_agent,
        address=text_or_none(context.get("ip"), 100) or (None if is_server else origin.address),
        user_id=id_text(item.get("userId")),
        is_server=is_server,
        device=_device(context) if is_phone else None,
        utm=_campaign(_object(context, "campaign")),
        properties=_kept(item, properties),
    )


def _library(context: Mapping[str, Any]) -> str | None:
    return text_or_none(_object(context, "library").get("name"), 100)


def _is_phone(context: Mapping[str, Any]) -> bool:
    """Return whether a library says that it runs on a telephone; that for Kotlin runs on servers too, and says less."""
    library = _library(context)
    return library in _PHONE_LIBRARIES and (library != "analytics-kotlin" or bool(_object(context, "device")))


def _device(context: Mapping[str, Any]) -> Device:
    system, screen = _object(context, "os"), _object(context, "screen")
    name = text_or_none(system.get("name"), 100)
    version = system.get("version")
    return Device(
        type=_KINDS_OF_DEVICES.get(name.lower()) if name else None,
        os=name,
        os_version=str(version)[:100] if name and isinstance(version, str | int | float) else None,
        screen_resolution=screen_of(screen.get("width"), screen.get("height")),
    )


def _name(item: Mapping[str, Any]) -> str:
    names = {"page": PAGEVIEW, "screen": "$screen", "identify": IDENTIFY, "alias": ALIAS}
    return names.get(item["type"]) or str(item["event"])[:MAX_NAME_LENGTH]


def _kept(item: Mapping[str, Any], properties: dict[str, Any]) -> dict[str, Any]:
    """Return the properties, with what an identification or an alias joins under the names that identity knows."""
    if item["type"] == "identify":
        anonymous = id_text(item.get("anonymousId"))
        if anonymous and item.get("userId"):
            properties["$anon_distinct_id"] = anonymous
        properties["$set"] = _object(item, "traits")
    elif item["type"] == "alias":
        properties["alias"] = id_text(item.get("previousId"))
    elif name := text_or_none(item.get("name"), MAX_NAME_LENGTH):
        properties.setdefault("name", name)
    return properties


def _campaign(campaign: Mapping[str, Any]) -> UtmParams | None:
    given = {f"utm_{ours}": text_or_none(campaign.get(theirs)) or "" for theirs, ours in _CAMPAIGN.items()}
    return UtmParams.from_query(given)


def _object(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}
