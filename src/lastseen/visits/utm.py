"""The campaign parameters that a link carries. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

MAX_LENGTH = 255
"""Longer values are cut."""


class UtmParams(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The five parameters of Urchin, as the visitor's link carried them (https://support.google.com/analytics/answer/10917952)."""

    source: str | None = None
    medium: str | None = None
    campaign: str | None = None
    term: str | None = None
    content: str | None = None

    @classmethod
    def from_query(cls, params: Mapping[str, str | Sequence[str]]) -> UtmParams | None:
        """Read `utm_source` and the others; None unless source, medium or campaign is there.

        `params` is what `urllib.parse.parse_qs` returns, or one string a name; of several values the first counts.
        """
        source, medium = _first(params.get("utm_source")), _first(params.get("utm_medium"))
        campaign = _first(params.get("utm_campaign"))
        if not (source or medium or campaign):
            return None
        term, content = _first(params.get("utm_term")), _first(params.get("utm_content"))
        return cls(source=source, medium=medium, campaign=campaign, term=term, content=content)

    @property
    def key(self) -> tuple[str, str, str]:
        """What is compared: source, medium and campaign, without case and surplus blanks."""
        return _normal(self.source), _normal(self.medium), _normal(self.campaign)

    def differs_from(self, other: UtmParams) -> bool:
        """Return whether the two name another source, medium or campaign."""
        return self.key != other.key


def _first(value: str | Sequence[str] | None) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else next(iter(value), "")
    return text.strip()[:MAX_LENGTH] or None


def _normal(text: str | None) -> str:
    return " ".join((text or "").split()).casefold()
