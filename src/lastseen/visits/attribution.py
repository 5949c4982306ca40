"""Where a visitor came from: campaign, referrer, and the channel that the two make. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import parse_qsl, urlsplit

from lastseen.visits.utm import UtmParams

DIRECT = "Direct"
REFERRAL = "Referral"
UNASSIGNED = "Unassigned"
AI_ASSISTANT = "AI Assistant"

_PAID = re.compile(r".*cp.*|ppc|retargeting|paid.*").fullmatch
_SHOPPING_CAMPAIGN = re.compile(r"(?:.*(?:[^a-df-z]|^)shop|.*shopping).*").fullmatch
_VIDEO_MEDIUM = re.compile(r".*video.*").fullmatch


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Names by which campaigns call them and the labels of their domains. Google's own lists name hundreds:
# https://support.google.com/analytics/answer/9756891 links to them.
_SEARCH = _words("""
    google bing yahoo duckduckgo baidu yandex ecosia qwant startpage naver daum seznam sogou ask aol brave presearch
    lycos onet rambler virgilio mojeek swisscows kagi metager so biglobe googlequicksearchbox googlebing msn
""")
_SOCIAL = _words("""
    facebook fb instagram ig twitter t x linkedin lnkd pinterest reddit tumblr snapchat tiktok threads vk vkontakte
    weibo wechat quora mastodon bsky bluesky xing ok whatsapp telegram discord ycombinator hackernews hn meetup
    messenger line flickr digg lemmy nextdoor slashdot lobste livejournal disqus stackexchange stackoverflow medium
    plurk viber
""")
_VIDEO = _words("youtube youtu vimeo dailymotion twitch netflix hulu disneyplus wistia rumble bilibili iqiyi youku")
_SHOPPING = _words("""
    amazon ebay etsy walmart alibaba aliexpress shopify shopping mercadolibre rakuten igshopping
""")
_AI = _words("""
    chatgpt openai perplexity claude anthropic gemini copilot deepseek mistral grok meta-ai poe you phind character
""")
# Hosts of assistants whose registrable domain is that of a search engine or a company with much else.
_AI_HOSTS = frozenset(
    {
        "gemini.google.com",
        "bard.google.com",
        "copilot.microsoft.com",
        "chat.mistral.ai",
        "meta.ai",
        "x.ai",
        "edgeservices.bing.com",
    }
)
_MAIL_HOSTS = frozenset(
    {
        "mail.google.com",
        "com.google.android.gm",
        "outlook.live.com",
        "mail.yahoo.com",
        "outlook.office.com",
        "mail.proton.me",
    }
)
# One-letter and two-letter names mean a network only as a whole domain or a campaign's source.
_SHORT_DOMAINS = {
    "t.co": "twitter",
    "x.com": "twitter",
    "ok.ru": "ok",
    "vk.com": "vk",
    "fb.com": "facebook",
    "so.com": "so",
}
_PAID_SEARCH_CLICKS = frozenset({"gclid", "msclkid"})
_PAID_SOCIAL_CLICKS = frozenset({"ttclid", "twclid", "li_fat_id"})
_REMEMBERED = 1 << 13
_LONGEST_REMEMBERED = 300
"""Characters; so what is remembered takes some megabytes at most, whatever is sent."""


def channel_of(
    utm: UtmParams | None, referrer_domain: str | None, url: str | None = None, referrer: str | None = None
) -> str:
    """Return the channel of a visit's entry.

    By the rules of Google Analytics' default channel group in their order
    (https://support.google.com/analytics/answer/9756891), and `AI Assistant`.
    `utm` goes before `referrer_domain`; where there is neither, an advertisement's click id in `url` tells. `referrer`,
    the whole address, tells an assistant or a mail from the search engine of the same company. Facebook's click id says
    nothing: it is on every link that leads away from there.
    """
    if utm is not None:
        names = (utm.source, utm.medium, utm.campaign)
        is_short = sum(len(name) for name in names if name) <= _LONGEST_REMEMBERED
        return (_known_campaign if is_short else _of_campaign)(*names)
    clicks = _click_ids(url)
    if clicks & _PAID_SEARCH_CLICKS:
        return "Paid Search"
    if clicks & _PAID_SOCIAL_CLICKS:
        return "Paid Social"
    if referrer_domain is None:
        return DIRECT
    host = _host(referrer) or referrer_domain
    is_short = len(referrer_domain) + len(host) <= _LONGEST_REMEMBERED
    return (_known_referrer if is_short else _by_referrer)(referrer_domain, host)


def _of_campaign(source: str | None, medium: str | None, campaign: str | None) -> str:
    return _by_campaign(_low(source), _low(medium), _low(campaign))


_known_campaign = lru_cache(maxsize=_REMEMBERED)(_of_campaign)


def _by_campaign(source: str, medium: str, campaign: str) -> str:
    if source in ("", "(direct)") and medium in ("", "(none)", "(not set)") and not campaign:
        return DIRECT
    if "cross-network" in campaign:
        return "Cross-network"
    names = _names(source)
    for channel, matches in _RULES:
        if matches(source, names, medium, campaign):
            return channel
    return UNASSIGNED


_Rule = Callable[[str, frozenset[str], str, str], object]


def _is_shopping(_source: str, names: frozenset[str], _medium: str, campaign: str) -> bool:
    return bool(names & _SHOPPING or _SHOPPING_CAMPAIGN(campaign))


def _is_mobile_push(source: str, _names: frozenset[str], medium: str, _campaign: str) -> bool:
    return medium.endswith("push") or "mobile" in medium or "notification" in medium or source == "firebase"


_SOCIAL_MEDIA = ("social", "social-network", "social-media", "sm", "social network", "social media")
_EMAIL = ("email", "e-mail", "e_mail", "e mail", "newsletter")

_RULES: tuple[tuple[str, _Rule], ...] = (
    ("Paid Shopping", lambda s, n, m, c: _PAID(m) and _is_shopping(s, n, m, c)),
    ("Paid Search", lambda _s, n, m, _c: _PAID(m) and n & _SEARCH),
    ("Paid Social", lambda _s, n, m, _c: _PAID(m) and n & _SOCIAL),
    ("Paid Video", lambda _s, n, m, _c: _PAID(m) and n & _VIDEO),
    ("Display", lambda _s, _n, m, _c: m in ("display", "banner", "expandable", "interstitial", "cpm")),
    ("Paid Other", lambda _s, _n, m, _c: _PAID(m)),
    ("Organic Shopping", _is_shopping),
    ("Organic Social", lambda _s, n, m, _c: n & _SOCIAL or m in _SOCIAL_MEDIA),
    ("Organic Video", lambda _s, n, m, _c: n & _VIDEO or _VIDEO_MEDIUM(m)),
    (AI_ASSISTANT, lambda _s, n, m, _c: n & _AI or m == "ai-assistant"),
    ("Organic Search", lambda _s, n, m, _c: n & _SEARCH or m == "organic"),
    (REFERRAL, lambda _s, _n, m, _c: m in ("referral", "app", "link")),
    ("Email", lambda s, _n, m, _c: s in _EMAIL or m in _EMAIL),
    ("Affiliates", lambda _s, _n, m, _c: m in ("affiliate", "affiliates")),
    ("Audio", lambda _s, _n, m, _c: m == "audio"),
    ("SMS", lambda s, _n, m, _c: "sms" in (s, m)),
    ("Mobile Push Notifications", _is_mobile_push),
)


def _by_referrer(domain: str, host: str) -> str:
    if host in _MAIL_HOSTS:
        return "Email"
    names = _names(domain)
    if names & _AI or host in _AI_HOSTS:
        return AI_ASSISTANT
    for channel, known in (
        ("Organic Shopping", _SHOPPING),
        ("Organic Social", _SOCIAL),
        ("Organic Video", _VIDEO),
        ("Organic Search", _SEARCH),
    ):
        if names & known:
            return channel
    return REFERRAL


_known_referrer = lru_cache(maxsize=_REMEMBERED)(_by_referrer)


def _names(source: str) -> frozenset[str]:
    """Return what a source may be known by: itself, or the names in its domain but for the last one, the country's."""
    if "." not in source:
        return frozenset((source,))
    labels = source.removeprefix("www.").split(".")[:-1]
    known = next((name for domain, name in _SHORT_DOMAINS.items() if source in (domain, f"www.{domain}")), None)
    return frozenset((known,)) if known else frozenset(label for label in labels if len(label) > 2)  # noqa: PLR2004 - above


def _low(text: str | None) -> str:
    return " ".join((text or "").split()).casefold()


def _host(address: str | None) -> str | None:
    if address is None:
        return None
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def _click_ids(url: str | None) -> frozenset[str]:
    # Without these no name of theirs is there, however it is written; most queries are read no further.
    if url is None or "?" not in url or not ("id=" in url or "%" in url):
        return frozenset()
    return frozenset(name for name, value in parse_qsl(url.partition("?")[2]) if value)
