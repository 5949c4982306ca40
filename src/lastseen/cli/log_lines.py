"""The lines of access logs: common, combined, with or without the virtual host, and JSON. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from lastseen.cli.lines import BadLine
from lastseen.ingest.times import micros_of_number

MAX_SHOWN = 40
_MINUTES_OF_A_DAY = 24 * 60
SECOND = 1_000_000

ASSET_ENDINGS = frozenset(
    {"css", "js", "png", "gif", "jpg", "jpeg", "ico", "svg", "woff", "woff2", "ttf", "eot", "xbm", "mpg", "mpeg", "wav"}
    | {"au", "mp3", "zip", "map", "webp", "bmp", "avi", "txt", "xml"}
)
"""A request for a file of these kinds is no page view."""

_QUOTED = r'"((?:[^"\\]|\\.)*)"'
# https://httpd.apache.org/docs/2.4/mod/mod_log_config.html#formats: %v:%p %h %l %u %t "%r" %>s %O "%{Referer}i"
# "%{User-agent}i". The user may hold blanks; what a server adds after the user agent is passed over.
_LINE = re.compile(
    # A first name is the virtual host's when what follows looks like an address; after an address comes "-" or a user.
    # Nothing is given back of either: who may write thousands of dots into a log would keep this busy for minutes.
    r"(?:(?P<host>[\w.-]++)(?::\d+)? (?=\S*[.:]))?(?P<address>(?=[0-9a-fA-F]*+[:.])[0-9a-fA-F:.]++|[\w.-]++)"
    # Proxies may name those behind which they stand: the first is the visitor.
    r"(?:, ?[0-9a-fA-F:.]+)* \S+ (?:-|.*?) "
    rf"\[(?P<time>[^\]]+)\] {_QUOTED} (?P<status>\d{{3}}) (?:\d+|-)"
    rf"(?: {_QUOTED} {_QUOTED}(?: .*)?)?$",
    re.ASCII | re.DOTALL,
).fullmatch
# Most lines are of this form, which is found twice as fast.
_COMBINED = re.compile(
    r'(\S+) \S+ \S+ \[([^\]]+)\] "([^"\\]*)" (\d{3}) (?:\d+|-) "([^"\\]*)" "([^"\\]*)"', re.ASCII
).fullmatch
_MONTHS = {name: number for number, name in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}  # noqa: SIM905 - a calendar
_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)", re.ASCII).fullmatch
_ESCAPED = re.compile(r'(?:\\x[0-9a-fA-F]{2})+|\\["\\]')


class Request(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One request, as its line says."""

    address: str
    """What the server saw: an IP address, or a host name where it looked that up."""
    at: int
    """Microseconds since 1970 UTC."""
    method: str
    target: str
    """Path and query, or a whole address."""
    status: int
    referrer: str | None = None
    user_agent: str | None = None
    host: str | None = None
    """The virtual host, where the line names it."""
    purpose: str | None = None
    """`Sec-Purpose`, where the line has it."""

    @property
    def is_page_view(self) -> bool:
        """Whether it is a GET that was answered with success (2xx) and asked for no asset."""
        return self.method == "GET" and 200 <= self.status < 300 and not _is_asset(self.target)  # noqa: PLR2004 - HTTP


def _is_asset(target: str) -> bool:
    path = target.partition("?")[0]
    dot = path.rfind(".")
    return dot >= 0 and path[dot + 1 :].lower() in ASSET_ENDINGS


def parse_request(line: bytes | None, *, page_views_only: bool = False) -> Request | None:
    """Return what a line says; raise `BadLine`. None is a line that was too long.

    With `page_views_only`, None is returned for some of the requests that are none, those that are told apart quickly.
    """
    if line is None:
        raise BadLine("longer than 64 KiB")
    # Any bytes may stand in a request: they are kept apart, whatever they mean.
    text = line.decode("utf-8", "backslashreplace")
    found = _COMBINED(text)
    if found is not None:
        address, time, request, status, referrer, agent = found.groups()
        at = _moment(time)
        if page_views_only and not is_page_request(request, status):
            return None
        return combined(address, at, request, status, referrer=referrer, agent=agent)
    if text.startswith("{"):
        return _parse_json(line)
    return _parse_other(text)


def _parse_other(text: str) -> Request:
    found = _LINE(text)
    if found is None:
        raise BadLine(f"no line of an access log: {_shown(text)}")
    _, address, _, request, status, referrer, agent = found.groups()
    time, host = found["time"], found["host"]
    return combined(
        address,
        _moment(time),
        _unescaped(request),
        status,
        referrer=_unescaped(referrer or ""),
        agent=_unescaped(agent or ""),
        host=host,
    )


def is_page_request(request: str, status: str) -> bool:
    """Return whether a line with this request, `GET / HTTP/1.1`, and this status is a page view."""
    return status[0] == "2" and request[:4] == "GET " and not _is_asset(_target(request[4:]))


def combined(
    address: str, at: int, request: str, status: str, *, referrer: str, agent: str, host: str | None = None
) -> Request:
    """Return what the parts of a combined line say."""
    method, _, rest = request.partition(" ")
    return Request(
        address=address,
        at=at,
        method=method,
        target=_target(rest),
        status=int(status),
        referrer=None if referrer in ("", "-") else referrer,
        user_agent=None if agent in ("", "-") else agent,
        host=host,
    )


def _target(rest: str) -> str:
    """Return what was asked for, from what follows the method: HTTP/0.9 names no version."""
    target, _, version = rest.rpartition(" ")
    return target if version.startswith("HTTP/") else rest


def _moment(text: str) -> int:
    """Read `17/May/2015:10:05:03 +0000`; the second 60 is a leap second."""
    try:
        return minute_of(text[:17], text[20:].removeprefix(" ")) + _SECONDS[text[17:20]] * SECOND
    except (KeyError, ValueError) as error:
        raise BadLine(f"no time: {_shown(text)}") from error


_SECONDS = {f":{second:02}": second for second in range(61)}


@lru_cache(maxsize=4_096)
def minute_of(text: str, offset: str) -> int:
    """Return the microseconds at which `17/May/2015:10:05` begins with an offset such as `+0000`.

    Raises `KeyError` or `ValueError` for what is none.
    """
    day, hour, minute = text.split(":")
    number, month, year = day.split("/")
    moment = datetime(int(year), _MONTHS[month], int(number), int(hour), int(minute), tzinfo=UTC)
    return int(moment.timestamp()) * SECOND - offset_of(offset)


def offset_of(text: str) -> int:
    """Return the microseconds that `+0200` is ahead of UTC; raises `ValueError` for what is none, or a day or more."""
    found = _OFFSET(text)
    if found is None:
        raise ValueError(text)
    minutes = int(found[2]) * 60 + int(found[3])
    if minutes >= _MINUTES_OF_A_DAY:
        raise ValueError(text)
    return (-minutes if found[1] == "-" else minutes) * 60 * SECOND


def _unescaped(text: str) -> str:
    """Take back what Apache and nginx write for quotes and for bytes that cannot be printed."""
    return _ESCAPED.sub(_unescape, text) if "\\" in text else text


def _unescape(found: re.Match[str]) -> str:
    text = found[0]
    if text[1] != "x":
        return text[1]
    return bytes.fromhex(text.replace("\\x", "")).decode("utf-8", "backslashreplace")


def _shown(text: str) -> str:
    return repr(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…")


# JSON lines: nginx with `log_format escape=json`, Caddy, Traefik and what looks like them.

_decode: Callable[[bytes], Any] = msgspec.json.Decoder().decode
_NAMES = {
    "address": ("client_ip", "remote_ip", "remote_addr", "ClientHost", "clientip", "ip", "remote_host", "host_ip"),
    "time": ("ts", "time_iso8601", "timestamp", "@timestamp", "StartUTC", "time", "msec", "time_local", "datetime"),
    "request": ("request", "request_line"),
    "method": ("method", "request_method", "RequestMethod", "verb"),
    "target": ("uri", "request_uri", "RequestPath", "path", "url"),
    "status": ("status", "DownstreamStatus", "response", "status_code"),
    "referrer": ("http_referer", "referer", "referrer", "request_Referer", "http_referrer"),
    "user_agent": ("http_user_agent", "user_agent", "agent", "request_User-Agent", "useragent"),
    "host": ("http_host", "host", "RequestHost", "server_name", "vhost"),
}


def _parse_json(line: bytes) -> Request:
    try:
        found = _decode(line)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise BadLine(f"not JSON: {error}") from error
    inner = found.get("request")
    fields = {**found, **inner, **_headers(inner)} if isinstance(inner, dict) else found
    request = fields.get("request") if isinstance(fields.get("request"), str) else fields.get("request_line")
    method, target = _text(fields, "method"), _text(fields, "target")
    if isinstance(request, str) and request:
        method, _, rest = request.partition(" ")
        target = rest.rpartition(" ")[0] or rest
    address = _text(fields, "address")
    missing = [name for name, value in (("address", address), ("method", method), ("target", target)) if not value]
    if missing:
        raise BadLine(f"{', '.join(missing)} missing")
    return Request(
        address=address or "",
        at=_json_moment(_first(fields, "time")),
        method=method or "",
        target=target or "",
        status=_status(_first(fields, "status")),
        referrer=_text(fields, "referrer"),
        user_agent=_text(fields, "user_agent"),
        host=_host(_text(fields, "host")),
        purpose=fields.get("sec_purpose") if isinstance(fields.get("sec_purpose"), str) else None,
    )


def _headers(request: Mapping[str, Any]) -> dict[str, Any]:
    """Read Caddy's headers, each a list of values."""
    headers = request.get("headers")
    if not isinstance(headers, Mapping):
        return {}
    found = {name.lower().replace("-", "_"): values[0] for name, values in headers.items() if _has_text(values)}
    return {name: found[name] for name in ("referer", "user_agent", "sec_purpose") if name in found}


def _has_text(values: object) -> bool:
    return isinstance(values, list) and bool(values) and isinstance(values[0], str)


def _first(fields: Mapping[str, Any], name: str) -> Any:
    return next((fields[key] for key in _NAMES[name] if fields.get(key) not in (None, "")), None)


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = next((fields[key] for key in _NAMES[name] if isinstance(fields.get(key), str)), None)
    return None if value in (None, "", "-") else value


def _host(text: str | None) -> str | None:
    return None if text is None else text.rpartition(":")[0] if re.search(r":\d+$", text) else text


def _status(value: Any) -> int:
    try:
        status = int(value)
    except (TypeError, ValueError) as error:
        raise BadLine(f"no status: {_shown(str(value))}") from error
    if not 100 <= status <= 999:  # noqa: PLR2004 - three digits
        raise BadLine(f"no status: {_shown(str(value))}")
    return status


def _json_moment(value: Any) -> int:
    """Read a number of seconds since 1970 or parts of one, ISO 8601 with an offset, or the form of the common log."""
    try:
        if isinstance(value, str) and "/" in value:
            return _moment(value)
        if isinstance(value, str) and not re.fullmatch(r"\d+(\.\d+)?", value):
            moment = datetime.fromisoformat(value)
            if moment.tzinfo is None:
                raise BadLine(f"time has no offset from UTC: {_shown(value)}")
            return round(moment.astimezone(UTC).timestamp() * SECOND)
        if (micros := micros_of_number(float(value))) is not None:
            return micros
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, BadLine):
            raise
        raise BadLine(f"no time: {_shown(str(value))}") from error
    raise BadLine(f"no time: {_shown(str(value))}")
