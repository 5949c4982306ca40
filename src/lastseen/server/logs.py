"""Log lines: for people, or one JSON object a line."""

from __future__ import annotations

import logging
import logging.config
from datetime import datetime
from typing import Any

import msgspec

from lastseen.clock import utc
from lastseen.settings import Settings

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}


def _moment(record: logging.LogRecord) -> datetime:
    return utc(record.created)


class HumanFormatter(logging.Formatter):
    """`2026-01-31 12:00:00 INFO    lastseen: message`, in local time; exceptions follow on their own lines."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S")


class JsonFormatter(logging.Formatter):
    """One object a line: timestamp (UTC), level, logger, message, exception, and the record's `extra` fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "timestamp": _moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _encodable(record.getMessage()),
        }
        if record.exc_info:
            line["exception"] = _encodable(self.formatException(record.exc_info))
        extra = {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
        try:
            return msgspec.json.encode(line | extra, enc_hook=str).decode()
        except (ValueError, TypeError, RecursionError):
            # A value that only looks as if it could be encoded must not cost the line.
            return msgspec.json.encode(line | {name: ascii(value) for name, value in extra.items()}).decode()


def _encodable(text: str) -> str:
    """Return the text with lone surrogates, which UTF-8 does not know, written out."""
    return text.encode("utf-8", "backslashreplace").decode()


def configure_logging(settings: Settings) -> None:
    """Send every log line of this process to standard error, in the format and from the level that is set."""
    formatter = JsonFormatter if settings.log_format == "json" else HumanFormatter
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"lines": {"()": formatter}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "lines"}},
            "root": {"level": settings.log_level.upper(), "handlers": ["stderr"]},
            # Its "started" and "finished" lines say less than ours.
            "loggers": {"uvicorn.error": {"level": "WARNING"}},
        }
    )
