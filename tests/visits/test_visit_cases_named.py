"""The table of cases in the documentation and the tests that hold it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "visits.md"


def named_tests(page: str) -> list[str]:
    """Return the test that each row of the table of cases names, in the order of the rows."""
    rows = [line for line in page.partition("## Case by case")[2].splitlines() if line.startswith("| ")]
    return [re.findall(r"`(test_\w+)`|$", row)[0] for row in rows[1:]]


def written_tests() -> set[str]:
    """Return the names of all tests of visits."""
    modules = [ast.parse(file.read_text("utf-8")) for file in HERE.glob("test_*.py")]
    return {node.name for module in modules for node in ast.walk(module) if isinstance(node, ast.FunctionDef)}


def test_every_case_names_a_test_that_exists() -> None:
    """A row without a test fails, and so does the name of one that was renamed."""
    named = named_tests(PAGE.read_text("utf-8"))
    assert len(named) > 20
    assert set(named) <= written_tests()
    assert len(set(named)) == len(named)


def test_the_cases_of_the_fold_are_all_in_the_table() -> None:
    """Who adds a case adds its row."""
    cases = ast.parse((HERE / "test_fold_cases.py").read_text("utf-8")).body
    tests = {node.name for node in cases if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}
    not_cases = {
        "test_a_late_event_finds_the_windows_beside_as_they_were",
        "test_few_windows_beside_are_kept",
        "test_change_rules_can_be_switched_off",
        "test_device_and_place_may_be_told_later_the_origin_may_not",
        "test_the_channel_is_that_of_the_entry",
        "test_going_on_skips_what_the_visit_has_already",
    }
    assert not_cases <= tests
    assert tests - not_cases <= set(named_tests(PAGE.read_text("utf-8")))
