"""Tables on a terminal and into a pipe: nothing in a cell steers the terminal, and a line stays a line."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

PRINT = """
from lastseen.cli.output import print_table
row = ["a" * 32, {name!r}, "https://shop.test/" + "x" * 40]
print_table(["ID", "NAME", "ENTRY"], [row], whole=(0,), beneath=(1, 2))
"""
STYLE = re.compile(r"\x1b\[[0-9;]*m")


def piped(name: str) -> str:
    """Return what is printed into a pipe."""
    command = [sys.executable, "-c", PRINT.format(name=name)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def on_terminal(name: str, columns: int) -> list[str]:
    """Return the lines that a terminal of this width gets, without styles."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    command = [sys.executable, "-c", PRINT.format(name=name)]
    try:
        subprocess.run(command, check=True, stdout=theirs, stdin=subprocess.DEVNULL, env=environment)
    finally:
        os.close(theirs)
    printed = b""
    try:
        while piece := os.read(ours, 65_536):
            printed += piece
    except OSError:
        pass  # what Linux says at the end of a terminal
    finally:
        os.close(ours)
    return [STYLE.sub("", line).rstrip() for line in printed.decode().splitlines()]


def test_what_would_steer_the_terminal_is_written_out() -> None:
    """An escape sequence, a new line or a mark of direction in a name that anybody may send is shown as text."""
    printed = piped("a\x1b[2Jb\nc\u202ed")
    assert "\x1b" not in printed
    assert "a\\x1b[2Jb\\nc\\u202ed" in printed
    assert len(printed.splitlines()) == 2


def test_usual_text_is_printed_as_it_is() -> None:
    """The negative control: letters of any script, blanks and symbols."""
    assert "Zoë 東京 · ✓" in piped("Zoë 東京 · ✓")


def test_a_wide_terminal_has_a_row_a_line() -> None:
    """Everything fits beside each other."""
    assert len(on_terminal("ann", 120)) == 2


def test_on_a_narrow_terminal_the_rest_of_a_row_follows_beneath() -> None:
    """No column is squeezed to a few letters: the id stays whole, and the others have a line of their own."""
    head, first, second, *more = on_terminal("ann", 80)
    assert head.split() == ["ID"]
    assert first == "a" * 32
    assert second == "  ann · https://shop.test/" + "x" * 40
    assert not more
