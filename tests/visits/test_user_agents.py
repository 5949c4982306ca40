"""Devices and robots, from user agents."""

from __future__ import annotations

import pytest

from lastseen.visits.event import Device
from lastseen.visits.user_agents import read_user_agent

WINDOWS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36"
)
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 "
    "Mobile/15E148 Safari/604.1"
)
DEVICES = {
    WINDOWS: "desktop",
    f"{WINDOWS} Edg/128.0.0.0": "desktop",
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0": "desktop",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/17.5 Safari/605.1.15": "desktop",
    IPHONE: "mobile",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 Chrome/128 Mobile Safari/537.36": "mobile",
    "Mozilla/5.0 (Linux; Android 13; SM-X700) AppleWebKit/537.36 Chrome/116 Safari/537.36": "tablet",
    "Mozilla/5.0 (iPad; CPU OS 12_2 like Mac OS X) Version/12.1 Mobile/15E148 Safari/604.1": "tablet",
    "Mozilla/5.0 (SMART-TV; Linux; Tizen 5.0) AppleWebKit/537.36 Version/5.0 TV Safari/537.36": "tv",
    "Mozilla/5.0 (PlayStation; PlayStation 5/2.26) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/13.0": "console",
}
DECLARED = [
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Baiduspider+(+http://www.baidu.com/search/spider.htm)",
    "Mozilla/5.0 (compatible; Yahoo! Slurp; http://help.yahoo.com/help/us/ysearch/slurp)",
    "FeedBurner/1.0 (http://www.FeedBurner.com)",
    "ia_archiver (+http://www.alexa.com/site/help/webmasters)",
]
KNOWN = [
    "curl/8.9.1",
    "python-requests/2.32.3",
    "Go-http-client/2.0",
    "okhttp/4.12.0",
    f"{WINDOWS.replace('Chrome/', 'HeadlessChrome/')}",
    "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
    "Tiny Tiny RSS/1.11 (http://tt-rss.org/)",
]


@pytest.mark.parametrize(("text", "kind"), DEVICES.items(), ids=list(map(str, range(len(DEVICES)))))
def test_devices(text: str, kind: str) -> None:
    """What people use is told apart, and is no robot."""
    agent = read_user_agent(text)
    assert (agent.device and agent.device.type, agent.is_bot) == (kind, False)


def test_a_device_has_system_and_browser() -> None:
    """With major and minor version: more would only tell people apart."""
    assert read_user_agent(IPHONE).device == Device(
        type="mobile", os="iOS", os_version="17.5", browser="Mobile Safari", browser_version="17.5"
    )


@pytest.mark.parametrize("text", DECLARED, ids=list(map(str, range(len(DECLARED)))))
def test_robots_that_say_so(text: str) -> None:
    """They are robots by either measure."""
    assert read_user_agent(text).is_bot
    assert read_user_agent(text, declared_only=True).is_bot
    assert read_user_agent(text).device is not None


@pytest.mark.parametrize("text", KNOWN, ids=list(map(str, range(len(KNOWN)))))
def test_robots_that_are_known(text: str) -> None:
    """Libraries, previews and browsers without a window do not say that they are robots."""
    assert read_user_agent(text).is_bot
    assert not read_user_agent(text, declared_only=True).is_bot


CUBOT = (
    "Mozilla/5.0 (Linux; Android 11; CUBOT_X30) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/99.0 Mobile Safari/537.36"
)


@pytest.mark.parametrize(
    "text", [CUBOT, CUBOT.replace("CUBOT_X30", "CUBOT KING KONG 3 Build/PPR1")], ids=["_", "blank"]
)
def test_a_telephone_whose_maker_has_the_word_in_its_name(text: str) -> None:
    """Telephones of Cubot are no robots by either measure; a robot that says it has one is."""
    assert (read_user_agent(text).is_bot, read_user_agent(text, declared_only=True).is_bot) == (False, False)
    device = read_user_agent(text).device
    assert device is not None
    assert device.type == "mobile"
    for robot in (f"{text} (compatible; Googlebot/2.1)", text.replace("CUBOT", "Scubot")):
        assert (read_user_agent(robot).is_bot, read_user_agent(robot, declared_only=True).is_bot) == (True, True)


@pytest.mark.parametrize("text", [None, "", "-", "   "])
def test_no_user_agent(text: str | None) -> None:
    """Nothing is known then, not even that it is a robot."""
    agent = read_user_agent(text)
    assert (agent.device, agent.is_bot) == (None, False)


def test_any_text_is_a_user_agent() -> None:
    """Half a surrogate pair, a megabyte, control characters: nothing raises."""
    for text in ("\ud800", "x" * 1_000_000, "\x00\x01", "(" * 5_000):
        assert not read_user_agent(text).is_bot
