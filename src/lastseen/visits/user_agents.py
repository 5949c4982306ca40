"""What a user agent says of the device and the program, and whether that program is a robot. Pure."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from lastseen.errors import missing_extra
from lastseen.visits.event import Device

if TYPE_CHECKING:
    from ua_parser import OS, Result, UserAgent

MAX_USER_AGENT_LENGTH = 1_000
"""Longer user agents are cut before they are looked at."""
_CACHED = 1 << 13

DECLARED_ROBOT = re.compile(r"(?<!\bcu)bot|crawl|spider|slurp|feed|archive", re.IGNORECASE)
"""The words by which a robot says itself that it is one. Cubot is a maker of telephones."""

_OTHER_ROBOTS = re.compile(
    # Browsers without a window, and what drives or checks them.
    r"headless|phantomjs|puppeteer|playwright|selenium|lighthouse|pagespeed|gtmetrix|pingdom|uptime|monitor|"
    # Previews of links, readers of news, and what looks for addresses.
    r"preview|externalhit|embedly|\brss|/rss|subscribers|readers;|fetch|scan|scrap|harvest|validator|"
    # Libraries and tools that programs are made of.
    r"^(?:curl|wget|libwww|lwp|python|aiohttp|httpx|java|okhttp|go-http|ruby|php|perl|axios|node|got|undici|"
    r"apache-httpclient|guzzle|postman|insomnia|httpie|libfetch|winhttp)\b|"
    r"python-(?:requests|urllib|httpx)|libwww-perl|libfetch|httpclient|indy library|nutch",
    re.IGNORECASE,
)
_TABLET = re.compile(r"ipad|tablet|kindle|silk/(?!.*mobile)|playbook", re.IGNORECASE)
_TV = re.compile(
    r"smart-?tv|\btv\b|appletv|googletv|hbbtv|roku|crkey|aft[a-z]{1,4}\b|bravia|netcast|web0s", re.IGNORECASE
)
_CONSOLE = re.compile(r"playstation|xbox|nintendo", re.IGNORECASE)
_MOBILE = re.compile(r"mobi|iphone|ipod|phone|blackberry|opera mini|opera mobi|symbian|midp|wap browser", re.IGNORECASE)


class Agent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a user agent says."""

    device: Device | None
    is_bot: bool
    """Whether it is a program that no person looks at."""


def read_user_agent(text: str | None, *, declared_only: bool = False) -> Agent:
    """Return what a user agent says; remembers what it has seen lately. Raises `MissingExtra` without ua-parser.

    A robot is what ua-parser's rules (https://github.com/ua-parser/uap-core) call a spider, what says so itself, a
    browser without a window, and a library. With `declared_only` it is what has one of the six words of
    `DECLARED_ROBOT`. No user agent is no robot: nothing is known of it.
    """
    return _read((text or "").strip()[:MAX_USER_AGENT_LENGTH], declared_only)


@lru_cache(maxsize=_CACHED)
def _read(text: str, declared_only: bool) -> Agent:  # noqa: FBT001 - the cache knows arguments by place
    if not text or text == "-":
        return Agent(device=None, is_bot=False)
    found = _parsed(text)
    is_bot = DECLARED_ROBOT.search(text) is not None or (not declared_only and _is_known_robot(text, found))
    device = Device(
        type="bot" if is_bot else _kind(text, found),
        os=found.os.family if found.os else None,
        os_version=_version(found.os),
        browser=found.user_agent.family if found.user_agent else None,
        browser_version=_version(found.user_agent),
    )
    return Agent(device=device, is_bot=is_bot)


def _is_known_robot(text: str, found: Result) -> bool:
    is_spider = found.device is not None and found.device.family == "Spider"
    return is_spider or _OTHER_ROBOTS.search(text) is not None


def _parsed(text: str) -> Result:
    try:
        # Its rules take 150 ms to read.
        import ua_parser
    except ImportError as error:
        raise missing_extra(error, "devices need ua-parser: pip install 'lastseen[server]'", "ua_parser") from error
    # Its engine takes UTF-8, which half of a surrogate pair has no place in.
    return ua_parser.parse(text if text.isascii() else text.encode("utf-8", "replace").decode())


def _kind(text: str, found: Result) -> str | None:
    if _CONSOLE.search(text):
        return "console"
    if _TV.search(text):
        return "tv"
    if _is_tablet(text):
        return "tablet"
    if _MOBILE.search(text):
        return "mobile"
    return "desktop" if found.os is not None else None


def _is_tablet(text: str) -> bool:
    # "Mobile" is what tells a phone with Android from a tablet: https://developer.chrome.com/docs/multidevice/user-agent
    return bool(_TABLET.search(text)) or ("Android" in text and "Mobi" not in text and "Opera M" not in text)


def _version(of: OS | UserAgent | None) -> str | None:
    """Return major and minor number: more only tells people apart."""
    if of is None or not of.major:
        return None
    return f"{of.major}.{of.minor}" if of.minor else of.major
