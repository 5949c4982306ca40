"""Problem details (RFC 9457)."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType


class ProblemDetails(Struct, kw_only=True):
    """What went wrong and what to do about it. The type is left out, which means `about:blank`: the status says it."""

    status: int
    title: str
    detail: str
    code: str | UnsetType = UNSET
    """A word for programs, where the status alone does not tell."""
    parameter: str | UnsetType = UNSET
    """The query parameter or the field that cannot be."""
