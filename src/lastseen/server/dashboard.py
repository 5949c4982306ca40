"""The page."""

from __future__ import annotations

from litestar import MediaType, get

from lastseen.app import LastSeen


@get("/", sync_to_thread=True, media_type=MediaType.HTML, include_in_schema=False)
def show_page(seen: LastSeen) -> str:
    rows = "".join(f"<tr><td>{client.client_id}" for client in seen.clients.list())
    return f"<!doctype html><title>lastseen</title><table>{rows}</table>"


@get("/rows", sync_to_thread=True, media_type=MediaType.HTML, include_in_schema=False)
def show_rows(seen: LastSeen) -> str:
    return ""
