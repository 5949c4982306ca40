"""One event of a PostHog library: its moment, its visitor, and what its properties mean. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from lastseen.ingest.origin import Origin, id_text, is_browser, screen_of, text_or_none
from lastseen.ingest.times import micros_of, not_after, skew
from lastseen.visits.event import PAGELEAVE, PAGEVIEW, Device
from lastseen.visits.making import RawEvent
from lastseen.visits.utm import UtmParams

COOKIELESS = "$posthog_cookieless"
MAX_NAME_LENGTH = 200

_DIRECT = "$direct"
_NOBODY_DID_THIS = {"$feature_flag_called", "$web_vitals", "$set", "$set_once"}
"""Events that a library sends by itself, or that only describe a person."""
_SERVER_LIBRARIES = frozenset(
    f"posthog-{name}"
    for name in ("python", "node", "edge", "ruby", "php", "go", "java", "server", "dotnet", "elixir", "rs")
)
"""Names in `$lib` by https://posthog.com/docs/libraries; `server` is the one for Java and Kotlin."""
_DEVICE_LIBRARIES = frozenset(
    f"posthog-{name}" for name in ("android", "ios", "react-native", "flutter", "kmp", "unity")
)
"""Those of programs that run where their person is: what carries their requests names itself, and is no robot."""
_SAID_ELSEWHERE = {
    "distinct_id",
    "token",
    "$current_url",
    "$host",
    "$pathname",
    "$referrer",
    "$referring_domain",
    "$session_id",
    "$window_id",
    "$user_id",
    "$raw_user_agent",
    "$ip",
    "$os",
    "$os_name",
    "$os_version",
    "$browser",
    "$browser_version",
    "$device_type",
    "$screen_width",
    "$screen_height",
}
"""Properties that a field of the event holds."""
_NOISE = {
    "$insert_id",
    "$time",
    "$config_defaults",
    "$lib_rate_limit_remaining_tokens",
    "$active_feature_flags",
    "$initialization_time",
    "$configured_session_timeout_ms",
    "$lib_custom_api_host",
    "$sdk_dist_channel",
    "$recording_status",
    "$session_recording_start_reason",
    "$debug_first_full_snapshot_timestamp",
    "$pageview_id",
    "$viewport_height",
    "$viewport_width",
    "$browser_language_prefix",
    "$timezone_offset",
    "$cookieless_mode",
    "$process_person_profile",
    "$is_identified",
    "$is_server",
    "$geoip_disable",
    "$ce_version",
    "$replay_sample_rate",
    "$replay_minimum_duration",
    "$replay_script_config",
}
_NOISY_PREFIXES = (
    "$sdk_debug_",
    "$session_recording_",
    "$sess_rec_",
    "$feature_flag",
    "$feature/",
    "$session_entry_",
    "$prev_pageview_",
    "$replay_",
)
_NOISY_SUFFIXES = ("_server_side", "_server_side_opt_in", "_allowed_metrics")


class Envelope(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a body says of all its events."""

    sent_at: int | None = None
    is_import: bool = False
    library: str | None = None


def raw_event(item: Mapping[str, Any], event_id: str, origin: Origin, envelope: Envelope) -> RawEvent:
    """Return one event that has a name and a distinct id."""
    properties = properties_of(item)
    distinct_id = distinct_id_of(item)
    name: str = item["event"].strip()[:MAX_NAME_LENGTH]
    library = _library(properties, envelope)
    is_server = properties.get("$is_server") is True or library in _SERVER_LIBRARIES
    is_device = not is_server and library in _DEVICE_LIBRARIES
    # A program that names its visitor sends for somebody else: its own agent and address say nothing of them.
    is_visitor = not is_server and (distinct_id == COOKIELESS or is_browser(origin.user_agent))
    user_agent = text_or_none(properties.get("$raw_user_agent"))
    if user_agent is None:
        user_agent = origin.user_agent if is_visitor else None
    elif is_device and not is_browser(user_agent):
        user_agent = None
    url = text_or_none(properties.get("$current_url"))
    referrer = text_or_none(properties.get("$referrer"))
    return RawEvent(
        id=event_id,
        name=name,
        # A browser that keeps no id on purpose says so, and is given one by the day.
        distinct_id=None if distinct_id == COOKIELESS else distinct_id,
        at=_moment(item, properties, origin, envelope),
        received_at=origin.received_at,
        url=url,
        referrer=None if referrer == _DIRECT else referrer,
        user_agent=user_agent,
        address=text_or_none(properties.get("$ip"), 100) or (origin.address if is_visitor or is_device else None),
        user_id=id_text(properties.get("$user_id")),
        session_id=id_text(item.get("session_id")) or id_text(properties.get("$session_id")),
        window_id=id_text(item.get("window_id")) or id_text(properties.get("$window_id")),
        is_server=is_server,
        passive=name in _NOBODY_DID_THIS,
        engaged_ms=_engaged_ms(name, properties),
        screen=_screen(properties),
        device=None if is_server else _device(properties),
        utm=None if url else _utm(properties),
        properties=_kept(item, properties, envelope),
    )


def properties_of(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an event's properties; none where they are no object."""
    properties = item.get("properties")
    return properties if isinstance(properties, dict) else {}


def distinct_id_of(item: Mapping[str, Any]) -> str | None:
    """Return the visitor's id from the first place that has one; posthog-js has it only in the properties."""
    properties = properties_of(item)
    for candidate in (item.get("distinct_id"), properties.get("distinct_id"), properties.get("$distinct_id")):
        if (text := id_text(candidate)) is not None:
            return text
    return None


def _moment(item: Mapping[str, Any], properties: Mapping[str, Any], origin: Origin, envelope: Envelope) -> int:
    """Return when it happened: by its own clock, corrected where that is wrong, or by how long ago it was sent."""
    timestamp = item.get("timestamp")
    at = micros_of(timestamp) if isinstance(timestamp, str) else None
    if at is None:
        offset = item.get("offset")
        if isinstance(offset, int | float) and not isinstance(offset, bool) and 0 <= offset < 1e12:  # noqa: PLR2004
            return not_after(origin.received_at - round(offset * 1_000), origin.received_at)
        return origin.received_at
    options = item.get("options")
    asked_not_to = properties.get("$ignore_sent_at") is True or (
        isinstance(options, dict) and options.get("disable_skew_correction") is True
    )
    if not asked_not_to:
        own = item.get("sent_at")
        at += skew(envelope.sent_at if own is None else micros_of(own), origin.received_at)
    return not_after(at, origin.received_at)


def _library(properties: Mapping[str, Any], envelope: Envelope) -> str | None:
    name = properties.get("$lib") or envelope.library
    return name.partition("/")[0] if isinstance(name, str) else None


def _engaged_ms(name: str, properties: Mapping[str, Any]) -> int:
    seconds = properties.get("$prev_pageview_duration") if name in {PAGEVIEW, PAGELEAVE} else None
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds < 86_400:  # noqa: PLR2004
        return 0
    return round(seconds * 1_000)


def _screen(properties: Mapping[str, Any]) -> str | None:
    return screen_of(properties.get("$screen_width"), properties.get("$screen_height"))


def _device(properties: Mapping[str, Any]) -> Device | None:
    """Return what the library found out where it runs, which is more than a user agent tells."""
    # Libraries of telephones call it $os_name.
    system = text_or_none(properties.get("$os") or properties.get("$os_name"), 100)
    browser = text_or_none(properties.get("$browser"), 100)
    if system is None and browser is None:
        return None
    kind = text_or_none(properties.get("$device_type"), 100)
    return Device(
        type=kind.lower() if kind else None,
        os=system,
        os_version=_version(properties.get("$os_version")),
        browser=browser,
        browser_version=_version(properties.get("$browser_version")),
        screen_resolution=_screen(properties),
    )


def _version(value: Any) -> str | None:
    return str(value)[:100] if isinstance(value, str | int | float) and value != "" else None


def _utm(properties: Mapping[str, Any]) -> UtmParams | None:
    """Return the campaign of an event without an address; with one, the address tells.

    posthog-js repeats the campaign of the first page on every later one, also on later visits.
    """
    return UtmParams.from_query({name: value for name, value in properties.items() if isinstance(value, str)})


def _kept(item: Mapping[str, Any], properties: Mapping[str, Any], envelope: Envelope) -> dict[str, Any]:
    kept = {
        name: value
        for name, value in properties.items()
        if value is not None
        and name not in _SAID_ELSEWHERE
        and name not in _NOISE
        and not (name[:1] == "$" and (name.startswith(_NOISY_PREFIXES) or name.endswith(_NOISY_SUFFIXES)))
    }
    for name in ("$set", "$set_once"):
        outer = item.get(name)
        if isinstance(outer, dict) and outer:
            inner = kept.get(name)
            kept[name] = {**inner, **outer} if isinstance(inner, dict) else outer
    if envelope.library and "$lib" not in kept:
        kept["$lib"], _, kept["$lib_version"] = envelope.library.partition("/")
    return kept
