"""Campaign parameters: when they are there, and when two differ."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastseen.visits.utm import MAX_LENGTH, UtmParams
from tests.visits.streams import utm


@pytest.mark.parametrize("query", ["", "utm_term=shoes&utm_content=top", "source=x", "utm_source=", "utm_source=%20"])
def test_there_are_none_without_source_medium_or_campaign(query: str) -> None:
    """A term or a content alone is no campaign, and neither is a blank one."""
    assert UtmParams.from_query(parse_qs(query, keep_blank_values=True)) is None


@pytest.mark.parametrize("name", ["source", "medium", "campaign"])
def test_one_of_the_three_is_enough(name: str) -> None:
    """Each of source, medium and campaign makes the parameters known."""
    found = UtmParams.from_query({f"utm_{name}": "x"})
    assert found == UtmParams(**{name: "x"})


def test_all_five_are_read_and_the_first_of_several_values_counts() -> None:
    """Lists, as `parse_qs` returns them, and plain text are understood; long values are cut."""
    query = f"utm_source=a&utm_source=b&utm_medium=c&utm_campaign=d+e&utm_term=f&utm_content={'x' * 300}"
    found = UtmParams.from_query(parse_qs(query))
    assert found == UtmParams(source="a", medium="c", campaign="d e", term="f", content="x" * MAX_LENGTH)
    assert UtmParams.from_query({"utm_source": " a ", "utm_medium": []}) == UtmParams(source="a")


def test_only_source_medium_and_campaign_are_compared() -> None:
    """Without case and surplus blanks; what is missing is as good as empty."""
    assert not utm("Google", "CPC", "Spring  Sale").differs_from(utm(" google ", "cpc", "spring sale"))
    assert not UtmParams(source="a", term="x").differs_from(UtmParams(source="a", term="y", content="z"))
    for other in (utm("b", "c", "d"), utm("a", "x", "d"), utm("a", "c", "x"), utm("a", "c")):
        assert utm("a", "c", "d").differs_from(other)


@given(*(st.none() | st.text(max_size=8) for _ in range(3)))
def test_differing_is_symmetric_and_never_from_itself(
    source: str | None, medium: str | None, campaign: str | None
) -> None:
    """Whatever text a link carries."""
    one, other = utm(source, medium, campaign), utm(medium, source, campaign)
    assert not one.differs_from(one)
    assert one.differs_from(other) == other.differs_from(one)
