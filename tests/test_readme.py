"""The README tells the truth."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


def test_the_ten_lines_print_what_the_readme_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first Python block prints the first text block."""
    monkeypatch.chdir(tmp_path)
    text = README.read_text("utf-8")
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    printed = re.search(r"```text\n(.*?)```", text, re.DOTALL)
    assert code
    assert printed
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(code.group(1), {})
    assert output.getvalue() == printed.group(1)
    assert len(code.group(1).splitlines()) <= 10


def test_every_file_that_the_readme_links_is_there() -> None:
    """A newcomer follows links."""
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", README.read_text("utf-8"))
    assert targets
    assert [target for target in targets if not (README.parent / target).exists()] == []


def test_formatting_has_not_broken_what_the_pages_include() -> None:
    """A formatter takes the line that includes a file for Python, and a page would show that line instead."""
    pages = {page.name: page.read_text("utf-8") for page in (README.parent / "docs").glob("*.md")}
    included = [line for text in pages.values() for line in text.splitlines() if re.match(r"-+ *8", line)]
    assert len(included) == 5
    assert [line for line in included if not line.startswith('--8<-- "')] == []
