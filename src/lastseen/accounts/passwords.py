"""Passwords: which ones are good enough, and their hashes (argon2id, RFC 9106)."""

from __future__ import annotations

import base64
import secrets
import unicodedata
from typing import Any, Protocol

from lastseen.errors import missing_extra

MIN_LENGTH = 12
RECOMMENDED_LENGTH = 15
"""NIST SP 800-63B-4, 3.1.1.2, for a password that is the only factor."""
MAX_LENGTH = 1_024
# No four characters compose to less than one. To sort the accents of a letter takes the square of their number.
_LONGEST_TYPED = 4 * (MAX_LENGTH + 1)

# The beginnings of what people type when they are asked for twelve characters; NIST SP 800-63B-4, 3.1.1.2, wants common
# values and words of the context refused.
_COMMON = (
    "password",
    "passw0rd",
    "123456789",
    "1234567890",
    "qwertyuiop",
    "qwerty123",
    "abcdefghij",
    "iloveyou",
    "letmein",
    "lastseen",
    "administrator",
    "changeme",
    "correcthorsebatterystaple",
)
_DIFFERENT_CHARACTERS = 5
_OWN_CHARACTERS = 6
"""So many characters must be left when a common word or the name is taken away."""


def normalized(password: str) -> str:
    """Return the password as RFC 8265 (4.2) prepares it: the same key presses give the same text on every system.

    What is far too long to be a password is cut, and too long all the same.
    """
    typed = password[:_LONGEST_TYPED]
    spaced = "".join(" " if unicodedata.category(letter) == "Zs" else letter for letter in typed)
    return unicodedata.normalize("NFC", spaced)


def password_problem(password: str, name: str = "") -> str | None:
    """Return in words why this password is not good enough, or None. There are no rules about kinds of characters."""
    password = normalized(password)
    if len(password) < MIN_LENGTH:
        return f"The password needs {MIN_LENGTH} characters or more; {RECOMMENDED_LENGTH} are better."
    if len(password) > MAX_LENGTH:
        return f"The password may have {MAX_LENGTH} characters."
    if any("\ud800" <= letter <= "\udfff" or letter == "\0" for letter in password):
        return "The password holds a character that is none."
    if len(set(password)) < _DIFFERENT_CHARACTERS:
        return "The password repeats too few characters; take several words that do not belong together."
    plain = password.casefold()
    for word in (*_COMMON, *filter(None, [name.casefold()])):
        if word in plain and len(plain.replace(word, "")) < _OWN_CHARACTERS:
            return "The password is easy to guess; take several words that do not belong together."
    return None


class PasswordHasher(Protocol):
    """Makes and checks hashes; slow on purpose, call it in a thread."""

    def hash(self, password: str) -> str:
        """Return a salted hash."""

    def verify(self, password_hash: str | None, password: str) -> bool:
        """Return whether the password is the one; without a hash never, after the same work."""

    def is_outdated(self, password_hash: str) -> bool:
        """Return whether a new hash of the same password would be stronger."""


class Argon2Hasher:
    """argon2id with the parameters that argon2-cffi recommends (RFC 9106, second choice: 64 MiB, 3 passes).

    `cost` names others, as `argon2.PasswordHasher` does; hashes that cost something else are outdated.
    """

    def __init__(self, **cost: Any) -> None:
        try:
            from argon2 import PasswordHasher as Hasher
            from argon2 import exceptions
        except ImportError as error:
            raise missing_extra(error, "accounts need argon2-cffi: pip install 'lastseen[server]'", "argon2") from error
        self._hasher = Hasher(**cost)
        self._wrong = (exceptions.VerificationError, exceptions.InvalidHashError)
        self._nobodys = _nobodys_hash(self._hasher)

    def hash(self, password: str) -> str:
        """See `PasswordHasher`."""
        return self._hasher.hash(normalized(password))

    def verify(self, password_hash: str | None, password: str) -> bool:
        """See `PasswordHasher`."""
        try:
            self._hasher.verify(password_hash or self._nobodys, normalized(password)[: MAX_LENGTH + 1])
        except (*self._wrong, UnicodeError):
            return False
        return password_hash is not None

    def is_outdated(self, password_hash: str) -> bool:
        """See `PasswordHasher`."""
        return self._hasher.check_needs_rehash(password_hash)


def _nobodys_hash(hasher: object) -> str:
    """Return a hash that no password is known for, with the same cost; random bytes need no hashing to be one."""
    salt, digest = (
        base64.b64encode(secrets.token_bytes(getattr(hasher, length))).decode().rstrip("=")
        for length in ("salt_len", "hash_len")
    )
    cost = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"  # type: ignore[attr-defined]
    return f"$argon2id$v=19${cost}${salt}${digest}"
