"""Where an address is, from a file in MaxMind's format; nothing is asked over the network."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

from lastseen.errors import ConfigurationError, missing_extra
from lastseen.visits.event import Geo

_CACHED = 1 << 14


class Geography:
    """One open database: GeoLite2 City, DB-IP City Lite, or any other with their fields. Any thread may ask.

    Raises `MissingExtra` without the extra `geo`, and `ConfigurationError` for a file that is none.
    """

    def __init__(self, path: Path | str) -> None:
        try:
            import maxminddb
        except ImportError as error:
            raise missing_extra(error, "geography needs its extra: pip install 'lastseen[geo]'", "maxminddb") from error
        try:
            self._reader = maxminddb.open_database(str(path))
        except OSError as error:
            raise ConfigurationError(f"geo_database: cannot read {path}: {error.strerror or error}") from error
        except maxminddb.InvalidDatabaseError as error:
            raise ConfigurationError(f"geo_database: cannot read {path} as a MaxMind database: {error}") from error
        self._broken = maxminddb.InvalidDatabaseError
        self._find = lru_cache(maxsize=_CACHED)(self._read)

    def locate(self, address: str) -> Geo | None:
        """Return where an IP address is; None when that is not known, and for what is no IP address."""
        return self._find(address)

    def _read(self, address: str) -> Geo | None:
        try:
            record = self._reader.get(address)
        except (ValueError, TypeError, self._broken):
            return None
        return _geo(record) if isinstance(record, Mapping) else None

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def __enter__(self) -> Geography:
        """Return this."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def _geo(record: Mapping[str, Any]) -> Geo | None:
    """Read the fields of https://dev.maxmind.com/geoip/docs/databases/city-and-country#binary-databases."""
    regions = record.get("subdivisions") or [{}]
    geo = Geo(
        country=(record.get("country") or {}).get("iso_code"),
        region=_name(regions[0]),
        city=_name(record.get("city") or {}),
        timezone=(record.get("location") or {}).get("time_zone"),
    )
    return None if geo == Geo() else geo


def _name(place: Mapping[str, Any]) -> str | None:
    name = (place.get("names") or {}).get("en")
    return name if isinstance(name, str) else None
