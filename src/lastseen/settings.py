"""Settings: defaults, then a TOML file, then the environment, then flags; one frozen object, made once.

Nothing here reads the environment of the process: the command line and the adapters' `from_env` hand it in.
"""

from __future__ import annotations

import difflib
import logging
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints
from urllib.parse import parse_qs, quote

import msgspec

from lastseen.activity.settings import TrackerSettings
from lastseen.activity.status import StatusRule
from lastseen.errors import ConfigurationError
from lastseen.visits.rule import DEFAULT_MAX_DURATION, DEFAULT_TIMEOUT, VisitRule

PREFIX = "LASTSEEN_"
CONFIG_VARIABLE = PREFIX + "CONFIG"
URL_VARIABLE = PREFIX + "URL"
API_KEY_VARIABLE = PREFIX + "API_KEY"
CONFIG_FILE = Path("lastseen.toml")

_HOST_NAME = re.compile(r"[a-z0-9._-]+|\[?[0-9a-f.]*:[0-9a-f.]*:[0-9a-f:.]*\]?", re.IGNORECASE)
"""A name or address without scheme, port and path: with one of these no request would ever be for it."""
_DATABASE_ADDRESS = re.compile(r"memory:|sqlite:///.|postgres(ql)?://")

LogLevel = Literal["debug", "info", "warning", "error", "critical"]
LogFormat = Literal["human", "json"]
HttpServer = Literal["uvicorn", "granian"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Everything that can be set from outside. `ConfigurationError` names the setting that is wrong.

    The representation leaves the database address out, because that may hold a password.
    """

    database_url: str = field(default="", repr=False)
    """`sqlite:///path`, `postgresql://…` or `memory:`; empty is the file `lastseen.db` in the data folder."""

    data_folder: Path = Path("~/.local/share/lastseen")
    """Where what has no other place is kept; `load_settings` follows `XDG_DATA_HOME`."""

    host: str = "127.0.0.1"
    port: int = 8080
    """0 lets the system choose a free one."""

    log_level: LogLevel = "info"
    log_format: LogFormat = "human"

    allowed_hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]")
    """The `Host` headers that the server answers; another one is a page elsewhere that was pointed at this machine."""

    http_server: HttpServer = "uvicorn"

    flush_interval: timedelta = timedelta(seconds=1)
    max_buffer_size: int | None = 100
    max_pending: int = 50_000
    min_persist_interval: timedelta = timedelta(0)
    chunk_size: int = 5_000
    flush_deadline: timedelta = timedelta(seconds=5)
    close_deadline: timedelta = timedelta(seconds=5)
    rate_limit: int = 100
    """Requests a second that one key, person or network may make on average; 0 is no limit."""

    pool_size: int = 4
    """At most this many connections to PostgreSQL."""

    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks of proxies whose `X-Forwarded-For` says who sends events."""

    spool_limit: int = 512 * 1024 * 1024
    """Bytes of events that may wait in the data folder while the database is away; 0 keeps none there."""

    status_online: timedelta = timedelta(minutes=5)
    status_recent: timedelta = timedelta(hours=1)
    status_idle: timedelta = timedelta(hours=24)

    visit_timeout: timedelta = DEFAULT_TIMEOUT
    """These four are the rule of new sites; a site that is there keeps its own."""
    visit_max_duration: timedelta = DEFAULT_MAX_DURATION
    new_visit_on_referrer_change: bool = True
    new_visit_on_utm_change: bool = True

    geo_database: Path | None = None
    """A file in MaxMind's format that says where an address is; without it nothing does."""
    kept_url_parameters: tuple[str, ...] = ()
    """Parameters that stay in the addresses of pages, beside those of campaigns and advertisements."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "data_folder", self.data_folder.expanduser())
        if self.geo_database is not None:
            object.__setattr__(self, "geo_database", self.geo_database.expanduser())
        if not self.database_url:
            # quote: the path of the address is percent-decoded when it is opened.
            file = quote(str(self.data_folder / "lastseen.db"))
            object.__setattr__(self, "database_url", f"sqlite:///{file}")
        if not _DATABASE_ADDRESS.match(self.database_url):
            raise ConfigurationError("database_url must be memory:, sqlite:///path or postgresql://user@host/name")
        if not 0 <= self.port <= 65_535:  # noqa: PLR2004 - TCP's range
            raise ConfigurationError(f"port must be from 0 to 65535, not {self.port}")
        if self.rate_limit < 0:
            raise ConfigurationError("rate_limit must not be negative; 0 is no limit")
        if self.spool_limit < 0:
            raise ConfigurationError("spool_limit must not be negative; 0 keeps no events on disk")
        if self.pool_size < 1:
            raise ConfigurationError("pool_size must be at least 1")
        if not self.host:
            raise ConfigurationError("host must not be empty")
        self._check_hosts()
        self.tracking()
        self.status_rule()
        self.visit_rule()

    def _check_hosts(self) -> None:
        for name in self.allowed_hosts:
            if not _HOST_NAME.fullmatch(name):
                example = "write it without scheme and port, as in seen.example.org"
                raise ConfigurationError(f"allowed_hosts: {name!r} is no host name; {example}")

    def tracking(self, *, flush_log_level: int = logging.DEBUG) -> TrackerSettings:
        """Return the part that a tracker needs; a flush that wrote something is logged at the given level."""
        return TrackerSettings(
            flush_interval=self.flush_interval,
            max_buffer_size=self.max_buffer_size,
            max_pending=self.max_pending,
            min_persist_interval=self.min_persist_interval,
            chunk_size=self.chunk_size,
            flush_deadline=self.flush_deadline,
            close_deadline=self.close_deadline,
            flush_log_level=flush_log_level,
        )

    def status_rule(self) -> StatusRule:
        """Return the spans of the status words; raises `ConfigurationError` unless they grow."""
        if not timedelta(0) < self.status_online < self.status_recent < self.status_idle:
            raise ConfigurationError("status spans must grow: 0 < status_online < status_recent < status_idle")
        return StatusRule(online=self.status_online, recent=self.status_recent, idle=self.status_idle)

    def visit_rule(self) -> VisitRule:
        """Return the rule of new sites; raises `ConfigurationError` for a span that is none."""
        for name in ("visit_timeout", "visit_max_duration"):
            if getattr(self, name) <= timedelta(0):
                raise ConfigurationError(f"{name} must be longer than zero")
        return VisitRule(
            timeout=self.visit_timeout,
            max_duration=self.visit_max_duration,
            new_visit_on_referrer_change=self.new_visit_on_referrer_change,
            new_visit_on_utm_change=self.new_visit_on_utm_change,
        )


_NO_SETTINGS = {CONFIG_VARIABLE, URL_VARIABLE, API_KEY_VARIABLE}
"""Variables that are read elsewhere: where the settings are, and which server a command asks with which key."""

SETTING_NAMES = tuple(field.name for field in fields(Settings))
_TYPES = get_type_hints(Settings)


def load_settings(flags: Mapping[str, Any], environ: Mapping[str, str], file: Path | None = None) -> Settings:
    """Return the settings that flags (by setting name; None is not given), environment and file make together.

    Without a file, the one that `LASTSEEN_CONFIG` names is read, else `lastseen.toml` in the current folder when there
    is one. A key that is no setting, in any of the three, raises `ConfigurationError` that names it and the setting
    that was probably meant; so does a value that cannot be.
    """
    values: dict[str, Any] = {"data_folder": _user_data_folder(environ)}
    values |= _from_file(file, environ) | _from_environment(environ) | _from_flags(flags)
    if "database_url" in values:
        values["database_url"] = fill_postgres_address(values["database_url"], environ)
    return Settings(**values)


def variable_of(name: str) -> str:
    """Return the environment variable of a setting."""
    return PREFIX + name.upper()


def flag_of(name: str) -> str:
    """Return the command line option of a setting."""
    return "--database" if name == "database_url" else "--" + name.replace("_", "-")


def _user_data_folder(environ: Mapping[str, str]) -> Path:
    """Follow https://specifications.freedesktop.org/basedir-spec/latest/: a relative XDG_DATA_HOME is ignored."""
    given = Path(environ.get("XDG_DATA_HOME") or ".")
    if given.is_absolute():
        return given / "lastseen"
    home = environ.get("HOME")
    return (Path(home) if home else Path("~")) / ".local/share/lastseen"


def _from_file(file: Path | None, environ: Mapping[str, str]) -> dict[str, Any]:
    if file is None and environ.get(CONFIG_VARIABLE):
        file = Path(environ[CONFIG_VARIABLE])
    if file is None:
        if not CONFIG_FILE.is_file():
            return {}
        file = CONFIG_FILE
    try:
        table = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot read the configuration file {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the configuration file {file} is not valid TOML: {error}") from error
    return {
        name: _convert(_known(name, SETTING_NAMES, f" in {file}"), value, f"{name} in {file}")
        for name, value in table.items()
    }


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    names = {variable_of(name): name for name in SETTING_NAMES}
    given = {key: value for key, value in environ.items() if key.startswith(PREFIX) and key not in _NO_SETTINGS}
    return {
        names[_known(variable, names, " in the environment")]: _convert(names[variable], value, variable)
        for variable, value in given.items()
    }


def _from_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _convert(_known(name, SETTING_NAMES), value, flag_of(name))
        for name, value in flags.items()
        if value is not None
    }


def _known(name: str, names: Iterable[str], where: str = "") -> str:
    names = list(names)
    if name in names:
        return name
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(names)}"
    raise ConfigurationError(f"unknown setting {name}{where}; {hint}")


def _convert(name: str, value: Any, source: str) -> Any:
    """Return the value in the setting's type; text from the environment and values from TOML are both welcome."""
    kind = _TYPES[name]
    try:
        if kind is timedelta:
            return value if isinstance(value, timedelta) else parse_span(value)
        if kind in (Path, Path | None):
            return Path(msgspec.convert(str(value) if isinstance(value, Path) else value, str))
        if kind == tuple[str, ...] and isinstance(value, str):
            value = [part for part in (piece.strip() for piece in value.split(",")) if part]
        if name == "max_buffer_size" and isinstance(value, str) and value.strip().lower() == "none":
            return None
        return msgspec.convert(value, kind, strict=False)
    except ValueError as error:
        shown = "" if name == "database_url" else f", not {value!r}"
        raise ConfigurationError(f"{source} must be {_demand(kind)}{shown}") from error


def _demand(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(get_args(kind))
    return {
        bool: "true or false",
        int: "a whole number",
        int | None: "a whole number, or none",
        timedelta: "a span such as 500ms, 30s, 5m, 24h, 7d, or plain seconds",
        tuple[str, ...]: "a list of names",
    }.get(kind, "text")


# Spans

_UNITS = {
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}
_SPAN = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d|w))+", re.ASCII)
_SPAN_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)", re.ASCII)
_SECONDS = re.compile(r"\d+(?:\.\d+)?", re.ASCII)


def parse_span(value: object) -> timedelta:
    """Return the span that `500ms`, `30s`, `5m`, `24h`, `7d`, `1h30m` or plain seconds name; else `ValueError`."""
    text = str(value).strip().lower() if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    try:
        if _SECONDS.fullmatch(text):
            return timedelta(seconds=float(text))
        if _SPAN.fullmatch(text):
            return sum((float(count) * _UNITS[unit] for count, unit in _SPAN_PART.findall(text)), timedelta(0))
    except OverflowError as error:
        raise ValueError(f"{value!r} is too long a span") from error
    raise ValueError(f"{value!r} is no span; write 500ms, 30s, 5m, 24h, 7d, or plain seconds")


def format_span(span: timedelta) -> str:
    """Return the span as `parse_span` reads it, in the largest unit up to days that divides it."""
    for unit in ("d", "h", "m", "s"):
        if span and span % _UNITS[unit] == timedelta(0):
            return f"{span // _UNITS[unit]}{unit}"
    return f"{span / _UNITS['ms']:.3f}".rstrip("0").rstrip(".") + "ms" if span else "0s"


# PostgreSQL's own variables


def fill_postgres_address(url: str, environ: Mapping[str, str]) -> str:
    """Fill the gaps of a `postgresql://` address: host, port, database, user, password.

    Each from PostgreSQL's own variable (`PGHOST`, `PGPORT`, `PGDATABASE`, `PGUSER`, `PGPASSWORD`:
    https://www.postgresql.org/docs/current/libpq-envars.html), else from `PG_HOST`, `PG_PORT`, and so on. Any other
    address, and one that names a `service`, comes back as it is.
    """
    address = _POSTGRES_ADDRESS.fullmatch(url)
    options = parse_qs(address["query"] or "") if address else {}
    if address is None or "service" in options:
        return url
    credentials, _, place = address["netloc"].rpartition("@")
    host, port = _split_place(place)
    user, has_password, password = credentials.partition(":")

    def fill(present: str, name: str, *keywords: str) -> str:
        if present or any(keyword in options for keyword in keywords):
            return present
        return quote(environ.get(f"PG{name}") or environ.get(f"PG_{name}") or "", safe="")

    host = fill(host, "HOST", "host", "hostaddr")
    user = fill(user, "USER", "user")
    password = fill(password, "PASSWORD", "password", "passfile")
    database = fill(address["database"] or "", "DATABASE", "dbname")
    # Several hosts bring their own ports.
    port = port if "," in host else fill(port, "PORT", "port")
    if not re.fullmatch(r"\d{0,5}", port, re.ASCII):
        raise ConfigurationError("the port of the postgresql:// address, or PGPORT or PG_PORT, must be a number")
    credentials = user + (f":{password}" if password or has_password else "")
    place = host + (f":{port}" if port else "")
    query = f"?{address['query']}" if address["query"] else ""
    return f"{address['scheme']}://{credentials}{'@' if credentials else ''}{place}/{database}{query}"


# Not urlsplit: it ends the address at a "#", which is an ordinary character of a password to PostgreSQL.
_POSTGRES_ADDRESS = re.compile(
    r"(?P<scheme>postgres(?:ql)?)://(?P<netloc>[^/?]*)(?:/(?P<database>[^?]*))?(?:\?(?P<query>.*))?"
)


def _split_place(place: str) -> tuple[str, str]:
    """Split `host:port`; several hosts, `a:1,b:2`, stay together."""
    if "," in place:
        return place, ""
    bracketed, bracket, rest = place.rpartition("]")
    host, _, port = rest.partition(":")
    return bracketed + bracket + host, port
