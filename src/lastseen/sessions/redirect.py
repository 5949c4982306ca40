"""Where a user may be sent after signing in: this site, or an origin on an exact list.

The rule refuses what any browser might read differently from us (https://url.spec.whatwg.org/#url-parsing: a backslash
is a slash, tabs and line breaks vanish, `//host` is another host), before and after one percent-decoding.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import unquote, urlsplit

_UNSAFE = re.compile(r"[\x00-\x20\x7f-\x9f\\\u2028\u2029]").search
_MAX_LENGTH = 2_048


def safe_redirect(target: str | None, default: str = "/", allowed_origins: Collection[str] = ()) -> str:
    """Return the target when it is safe, else the default.

    Safe is a path of this site (`/page?query`), or an address whose origin (`https://host[:port]`) is on the list.
    """
    if not target or len(target) > _MAX_LENGTH:
        return default
    for text in (target, unquote(target)):
        if _UNSAFE(text):
            return default
    if _is_path(target) and _is_path(unquote(target)):
        return target
    return target if _origin(target) in {origin.rstrip("/") for origin in allowed_origins} else default


def _is_path(text: str) -> bool:
    return text.startswith("/") and not text.startswith("//")


def _origin(target: str) -> str | None:
    try:
        parts = urlsplit(target)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        return None
    return f"{parts.scheme}://{parts.hostname}" + ("" if port is None else f":{port}")
