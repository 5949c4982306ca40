"""The ASGI application: the hot route, and everything else through Litestar."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from litestar import Litestar, Response, get
from litestar.config.compression import CompressionConfig
from litestar.datastructures import CacheControlHeader
from litestar.di import Provide
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.plugins.jinja import JinjaTemplateEngine
from litestar.static_files import create_static_files_router
from litestar.template.config import TemplateConfig
from prometheus_client import CONTENT_TYPE_LATEST

from lastseen.accounts.manager import Accounts
from lastseen.app import LastSeen
from lastseen.server.access import Access
from lastseen.server.account_pages import OwnAccountController, SignInController
from lastseen.server.body import AsgiApp
from lastseen.server.dashboard import show_page, show_rows
from lastseen.server.description import describe_posting
from lastseen.server.frame import STATIC
from lastseen.server.gate import Gate
from lastseen.server.health import HealthController
from lastseen.server.loopback import is_loopback
from lastseen.server.metrics import Metrics
from lastseen.server.password_threads import PasswordThreads
from lastseen.server.problem import answer_problem
from lastseen.server.queries import ClientsController
from lastseen.server.receive import ActivityRoute
from lastseen.server.user_pages import AuditController, UsersController
from lastseen.settings import Settings
from lastseen.web.sessions.threads import in_thread

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")

_HERE = Path(__file__).parent


def create_app(
    seen: LastSeen, settings: Settings, *, metrics: Metrics | None = None, accounts: Accounts | None = None
) -> AsgiApp:
    """Return the server as an ASGI application; closing `seen` is the caller's affair, accounts close at shutdown.

    For figures about flushes, hand the same `metrics` to `LastSeen.open` as `on_flush=metrics.flushed`.
    """
    metrics = metrics or Metrics()
    activity = ActivityRoute(seen.clients)
    metrics.watch(seen.clients, activity.totals)
    accounts = accounts or Accounts(seen.store.accounts, seen.store.sessions)
    # Litestar's types name each message, ours are the standard's dictionaries.
    litestar = _pages(seen, metrics, accounts)
    describe_posting(litestar.openapi_schema)
    pages = cast("AsgiApp", litestar)
    access = Access(pages, activity, accounts, is_loopback=is_loopback(settings.host))
    return Gate(access, activity, metrics, {*LOOPBACK_NAMES, *settings.allowed_hosts})


def _pages(seen: LastSeen, metrics: Metrics, accounts: Accounts) -> Litestar:
    threads = PasswordThreads()

    async def close_accounts() -> None:
        await in_thread(accounts.close)

    @get("/metrics", sync_to_thread=False, include_in_schema=False)
    def show_metrics() -> Response[bytes]:
        return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    return Litestar(
        route_handlers=[
            ClientsController,
            HealthController,
            SignInController,
            OwnAccountController,
            UsersController,
            AuditController,
            show_metrics,
            show_page,
            show_rows,
            create_static_files_router(
                path="/static",
                directories=[STATIC],
                include_in_schema=False,
                cache_control=CacheControlHeader(public=True, max_age=31_536_000, immutable=True),
            ),
        ],
        dependencies={
            "seen": Provide(lambda: seen, sync_to_thread=False),
            "accounts": Provide(lambda: accounts, sync_to_thread=False),
            "threads": Provide(lambda: threads, sync_to_thread=False),
        },
        on_shutdown=[close_accounts],
        exception_handlers={Exception: answer_problem},
        template_config=TemplateConfig(directory=_HERE / "templates", engine=JinjaTemplateEngine),
        compression_config=CompressionConfig(backend="gzip", minimum_size=500),
        openapi_config=OpenAPIConfig(
            title="lastseen", version="1", path="/api/v1", render_plugins=[JsonRenderPlugin()]
        ),
        logging_config=None,
        signature_types=[LastSeen, Accounts, PasswordThreads],
    )
