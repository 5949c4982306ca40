"""Excluded paths: the quick look never lets one pass."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastseen.web.exclude import DEFAULT_EXCLUDED, excluded_paths, first_excluded

PATTERNS = st.lists(st.text("/ab*?[]!", max_size=6), max_size=4)
PATHS = st.text("/ab*?[]!\U0010ffff", max_size=8)


@given(PATTERNS, PATHS)
def test_nothing_before_the_first_is_excluded(patterns: list[str], path: str) -> None:
    """Whatever is excluded comes, in the order of texts, not before what `first_excluded` returns."""
    assert not excluded_paths(patterns)(path) or path >= first_excluded(patterns)


@pytest.mark.parametrize(("path", "passes"), [("/api/orders", True), ("/favicon.ico", False), ("/static/a.js", False)])
def test_the_first_of_the_default_ones(path: str, passes: bool) -> None:
    """With the default patterns an ordinary path passes at once; the control, what is excluded, does not."""
    assert (path < first_excluded(DEFAULT_EXCLUDED)) is passes
