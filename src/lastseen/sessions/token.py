"""The secret of a session, and what may be shown of it.

The token goes to the client once. A store keeps its SHA-256 only: 256 random bits need no salt and no slow hash, and a
copy of the database signs nobody in. The public id is separate and may be shown, logged and put into addresses.
"""

from __future__ import annotations

import hashlib
import re
import secrets

TOKEN_BYTES = 32
SESSION_ID_BYTES = 16

# URL-safe base64 of exactly that many bytes, without padding.
_TOKEN_SHAPE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII).fullmatch


def new_token() -> str:
    """Return 32 bytes from the system's random source as 43 URL-safe characters."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def new_session_id() -> str:
    """Return a public id: 16 random bytes as 22 URL-safe characters."""
    return secrets.token_urlsafe(SESSION_ID_BYTES)


def is_token(text: str) -> bool:
    """Return whether the text has the shape of a token; checked before anything is hashed or looked up."""
    return _TOKEN_SHAPE(text) is not None


def digest_of(token: str) -> bytes:
    """Return what a store keeps of the token: its SHA-256, 32 bytes."""
    return hashlib.sha256(token.encode("ascii")).digest()
