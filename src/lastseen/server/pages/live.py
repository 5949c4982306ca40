"""Lists that keep themselves current: the whole page, then what changed, if anything did."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

import msgspec
from litestar import MediaType, Response
from litestar.response import Template

from lastseen.server.pages.frame import AnyRequest, show
from lastseen.server.pages.relative import relative

Page = Response[Any]

PERIOD = 2_000
"""Milliseconds between two looks; mostly the answer is that nothing changed."""


def with_tag(content: dict[str, Any], now: datetime, **around: Any) -> dict[str, Any]:
    """Return what a template needs: the content, its digest, and what says nothing new by itself."""
    digest = hashlib.blake2s(msgspec.json.encode(content), digest_size=12).hexdigest()
    return {
        **content,
        **around,
        "etag": f'W/"{digest}"',
        "now": now,
        "relative": lambda moment: relative(moment, now),
    }


def show_live(
    request: AnyRequest,
    part: str,
    content: dict[str, Any],
    *,
    title: str,
    path: str,
    period: int = PERIOD,
    styles: tuple[str, ...] = (),
    has_chart: bool = False,
) -> Page:
    """Show the whole page; `part` is the template of what changes, which `path` followed by `/rows` serves."""
    return show(
        request,
        "live.html",
        live=True,
        title=title,
        page=path,
        rows_at=f"{path.rstrip('/')}/rows",
        part=part,
        period=period,
        styles=styles,
        has_chart=has_chart,
        **content,
    )


def show_part(request: AnyRequest, part: str, content: dict[str, Any]) -> Page:
    """Show what changes on the page; 304 when nothing did."""
    headers = {"etag": content["etag"]}
    if request.headers.get("if-none-match") == content["etag"]:
        return Response(None, status_code=304, headers=headers, media_type=MediaType.HTML)
    return Template(part, context=content, headers=headers)


def element_id(kind: str, id: str) -> str:  # noqa: A002 - whatever has one
    """Return an id for an element of the page: what an id here may hold, one there may not."""
    return f"{kind}-{hashlib.blake2s(id.encode(), digest_size=8).hexdigest()}"
