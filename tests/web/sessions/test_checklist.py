"""The page of what is protected names tests; they are there, and no requirement is left out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "session-security.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(test_\w+)`", PAGE)))
ROWS = [line.split(" | ") for line in PAGE.partition("## OWASP")[2].splitlines() if line.startswith("| ")][1:]
REQUIREMENTS = [
    *("V7.1.1", "V7.1.2", "V7.1.3", "V7.6.1", "V7.2.1", "V7.2.2", "V7.2.3", "V7.2.4", "V7.3.1", "V7.3.2"),
    *("V7.4.1", "V7.4.2", "V7.4.3", "V7.4.4", "V7.4.5", "V7.5.1", "V7.5.2", "V7.5.3", "V7.6.2"),
    *("V3.3.1", "V3.3.3", "V3.3.2", "V3.3.4", "V3.3.5", "V3.5.1", "V3.5.3", "V3.7.2"),
    *("V14.2.1", "V14.2.2", "V14.3.2", "V14.3.1", "V14.2.7", "NIST SP 800-63B-4, 5.2"),
    *("unknown ids", "untrusted input", "cookie name", "idle timeouts", "logged", "guessing", "simultaneous"),
]


@pytest.mark.parametrize(("path", "name"), NAMED, ids=[name for _, name in NAMED])
def test_a_named_test_exists(path: str, name: str) -> None:
    """A test that was renamed is noticed."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_the_search_for_tests_notices_a_missing_one() -> None:
    """The negative control: the pattern finds names, and a wrong one is none of this file's."""
    assert len(NAMED) > 50
    with pytest.raises(AssertionError):
        test_a_named_test_exists("tests/web/sessions/test_checklist.py", "test_that_is_not_here")


@pytest.mark.parametrize("requirement", REQUIREMENTS)
def test_every_requirement_has_a_row(requirement: str) -> None:
    """It says whether it is held, and by which test; only what is open or the application's names none."""
    rows = [row for row in ROWS if requirement in row[0]]
    assert rows, requirement
    for row in rows:
        is_held = row[1].startswith(("yes", "in part"))
        assert is_held or row[1].startswith(("no", "yours")), row
        assert is_held == ("::test_" in row[-1]), row
