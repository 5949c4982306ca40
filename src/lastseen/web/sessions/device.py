"""What a list of devices shows of a browser or an application: coarse, so that an update is not a new device."""

from __future__ import annotations

# The first that is found counts: most browsers also name those they once wanted to be taken for.
_PROGRAMS = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
_SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)
_LONGEST = 60


def device_of(user_agent: str) -> str:
    """Return `Firefox on Linux`, or the product that a program names first, without its version; at most 60 letters."""
    program = next((name for mark, name in _PROGRAMS if mark in user_agent), "")
    system = next((name for mark, name in _SYSTEMS if mark in user_agent), "")
    if program and system:
        return f"{program} on {system}"
    product = program or system or user_agent.strip().partition("/")[0]
    return "".join(letter for letter in product if letter.isprintable())[:_LONGEST]
