"""Options that commands share, and how they become `Settings`."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Collection
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from lastseen.errors import ConfigurationError
from lastseen.settings import SETTING_NAMES, Settings, flag_of, format_span, load_settings, parse_span, variable_of

LONGEST_SPAN = timedelta(days=365_000)
"""From now on and before now there is room for so much."""

COMMON_OPTIONS = ("database_url", "data_folder", "log_level")

CONFIG_HELP = "TOML file with settings. [dim]LASTSEEN_CONFIG; else lastseen.toml here, when present[/dim]"

HELP = {
    "database_url": "sqlite:///path or postgresql://user@host/name; by default a file in the data folder.",
    "data_folder": "Where the server keeps what has no other place.",
    "host": "Address to listen on.",
    "port": "Port to listen on; 0 takes a free one.",
    "log_level": "debug, info, warning, error or critical.",
    "log_format": "human or json.",
    "allowed_hosts": "Host names that the server answers, separated by commas.",
    "http_server": "uvicorn or granian.",
    "flush_interval": "Activity is written this often.",
    "max_buffer_size": "Activity is written at once when this many clients wait; none leaves it to the interval.",
    "max_pending": "At most this many clients wait.",
    "min_persist_interval": "The same client is written at most this often.",
    "chunk_size": "At most this many clients in one statement.",
    "flush_deadline": "A flush stops after this span; the rest waits for the next one.",
    "close_deadline": "The end waits this long for the last flush.",
    "rate_limit": "Requests a second that one key, person or network may make; 0 is no limit.",
    "pool_size": "At most this many connections to PostgreSQL.",
    "trusted_proxies": "Proxies whose X-Forwarded-For says who sends events: addresses, networks, separated by commas.",
    "spool_limit": "At most this many bytes of events wait on disk while the database is away.",
    "status_online": "Seen within this span: online.",
    "status_recent": "Seen within this span: recent.",
    "status_idle": "Seen within this span: idle; beyond it: inactive.",
    "visit_timeout": "New sites: a visit ends after this silence.",
    "visit_max_duration": "New sites: a visit lasts this long at most.",
    "new_visit_on_referrer_change": "New sites: another referrer begins another visit.",
    "new_visit_on_utm_change": "New sites: another campaign begins another visit.",
    "geo_database": "File in MaxMind's format that says where addresses are.",
    "kept_url_parameters": "URL parameters to keep, separated by commas, beside those of campaigns.",
}

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def setting_option(name: str) -> Any:
    """Return the Typer option for a setting; what it is given is checked with the other sources, not by Typer."""
    return typer.Option(
        flag_of(name),
        metavar=_metavar(name),
        help=f"{HELP[name]} [dim]{variable_of(name)}{_default(name)}[/dim]",
        rich_help_panel="Settings",
        show_default=False,
    )


def with_settings(*names: str, without: Collection[str] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of these settings, besides the common ones, and the finished `settings`.

    The decorated function takes `settings: Settings`; its own parameters stay as they are. An option that it does
    `without` is refused also before the command: it would be passed over.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        options = (*names, *(name for name in COMMON_OPTIONS if name not in {*names, *without}))
        hints = get_type_hints(function, include_extras=True)
        own = [
            parameter.replace(annotation=hints[parameter.name])
            for parameter in inspect.signature(function).parameters.values()
            if parameter.name != "settings"
        ]

        @functools.wraps(function)
        def command(_context: typer.Context, **values: Any) -> None:
            given = {name: values.pop(name) for name in (*options, "config")}
            before = _context.obj or {}
            for name in without:
                if name in before:
                    raise ConfigurationError(f"{flag_of(name)} does not go with {_context.info_name}")
            function(**values, settings=_settings(before, given))

        parameters = [inspect.Parameter("_context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)]
        parameters += [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        parameters += [_parameter(name, Annotated[str | None, setting_option(name)]) for name in options]
        config = typer.Option("--config", metavar="FILE", help=CONFIG_HELP, rich_help_panel="Settings")
        parameters.append(_parameter("config", Annotated[Path | None, config]))
        # Typer reads a command's parameters from its signature and its annotations.
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        command.__doc__ = _reflowed(inspect.getdoc(function) or "")
        return command

    return decorate


def _reflowed(text: str) -> str:
    """Put each paragraph on one line: Typer keeps line ends, and terminals have their own width."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


ALL_SETTINGS = SETTING_NAMES


def span(text: str) -> timedelta:
    """Read a span for Typer; a wrong one is a usage error, and one that no calendar has room for."""
    try:
        found = parse_span(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if found > LONGEST_SPAN:
        raise typer.BadParameter(f"{text} is too long a span; there are a thousand years at most")
    return found


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _settings(before: dict[str, Any], after: dict[str, Any]) -> Settings:
    """Merge the options before the command with those after it, which win."""
    flags = before | {name: value for name, value in after.items() if value is not None}
    file = flags.pop("config", None)
    if file is not None and not file.is_file():
        raise ConfigurationError(f"--config: there is no file {file}")
    return load_settings(flags, os.environ, file)


def _metavar(name: str) -> str:
    special = {"database_url": "URL", "data_folder": "FOLDER", "allowed_hosts": "NAMES", "host": "ADDRESS"} | {
        "geo_database": "FILE",
        "kept_url_parameters": "NAMES",
        "trusted_proxies": "NETWORKS",
    }
    if name in special:
        return special[name]
    default = _DEFAULTS[name]
    if isinstance(default, bool):
        return "true|false"
    return "SPAN" if isinstance(default, timedelta) else "NUMBER" if isinstance(default, int) else "WORD"


def _default(name: str) -> str:
    default = _DEFAULTS[name]
    if not default and not isinstance(default, timedelta):
        return ""
    if isinstance(default, timedelta):
        default = format_span(default)
    elif isinstance(default, tuple):
        default = ",".join(default)
    elif isinstance(default, bool):
        default = str(default).lower()
    # Rich takes square brackets for markup.
    return f"; {default}".replace("[", "\\[")


_DEFAULTS = {field.name: field.default for field in fields(Settings)}
