"""Where a user may be sent after signing in: this site, or an origin on an exact list.

The rule refuses what any browser might read differently from us (https://url.spec.whatwg.org/#url-parsing: a backslash
is a slash, tabs and line breaks vanish, `//host` is another host, dot segments are taken away), before and after one
percent-decoding.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import unquote, urlsplit

# Controls, blanks, backslashes; marks that turn text around or cannot be seen; halves of characters.
_UNSAFE = re.compile(
    "[\x00-\x20\x7f-\xa0\\\\\u00ad\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ud800-\udfff\ufeff\ufffd]"
).search
_HOST = re.compile(r"[a-z0-9.\-\[\]:]+").fullmatch
_MAX_LENGTH = 2_048


def safe_redirect(target: str | None, default: str = "/", allowed_origins: Collection[str] = ()) -> str:
    """Return the target when it is safe, else the default.

    Safe is a path of this site (`/page?query`), or an address whose origin (`https://host[:port]`) is on the list.
    """
    if not target or len(target) > _MAX_LENGTH:
        return default
    decoded = unquote(target)
    if _UNSAFE(target) or _UNSAFE(decoded):
        return default
    if _is_path(target) and _is_path(decoded):
        return target
    return target if _origin(target) in {origin.rstrip("/") for origin in allowed_origins} else default


def _is_path(text: str) -> bool:
    return text.startswith("/") and not _without_dots(re.split(r"[?#]", text, maxsplit=1)[0]).startswith("//")


def _without_dots(path: str) -> str:
    """Take dot segments away as browsers do; servers that send `//host` on as a redirect exist."""
    kept: list[str] = []
    for segment in path.split("/")[1:]:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    return "/" + "/".join(kept)


def _origin(target: str) -> str | None:
    try:
        parts = urlsplit(target)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or not parts.hostname or not _HOST(parts.netloc.lower()):
        return None
    return f"{parts.scheme}://{parts.hostname}" + ("" if port is None else f":{port}")
