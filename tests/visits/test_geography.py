"""Places, from a file in MaxMind's format."""

from __future__ import annotations

from pathlib import Path

import pytest

from lastseen.errors import ConfigurationError
from lastseen.visits.event import Geo
from lastseen.visits.geography import Geography

DATABASE = Path(__file__).parent.parent / "data" / "GeoIP2-City-Test.mmdb"


def test_an_address_has_a_place() -> None:
    """Country, region, city and time zone of IPv4 and IPv6 addresses."""
    with Geography(DATABASE) as geography:
        assert geography.locate("81.2.69.142") == Geo(
            country="GB", region="England", city="London", timezone="Europe/London"
        )
        found = geography.locate("2001:218::")
        assert found is not None
        assert found.country == "JP"


@pytest.mark.parametrize("address", ["10.0.0.1", "nonsense", "", "localhost", "1.2.3", "\ud800"])
def test_nowhere(address: str) -> None:
    """A private address and what is no address are nowhere; nothing raises."""
    with Geography(DATABASE) as geography:
        assert geography.locate(address) is None


def test_a_file_that_is_none(tmp_path: Path) -> None:
    """A missing file and another file are the configuration's fault, by name."""
    other = tmp_path / "other.mmdb"
    other.write_bytes(b"nothing of the kind")
    for path in (other, tmp_path / "missing.mmdb"):
        with pytest.raises(ConfigurationError, match=f"geo_database: cannot read .*{path.name}"):
            Geography(path)
