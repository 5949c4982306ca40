"""The ASGI application: the hot route, and everything else through Litestar."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from litestar import Litestar, Response, Router, get
from litestar.config.compression import CompressionConfig
from litestar.datastructures import CacheControlHeader
from litestar.di import Provide
from litestar.exceptions import NotFoundException
from litestar.openapi.config import OpenAPIConfig
from litestar.plugins.jinja import JinjaTemplateEngine
from litestar.static_files import create_static_files_router
from litestar.template.config import TemplateConfig
from prometheus_client import CONTENT_TYPE_LATEST

from lastseen.accounts.manager import Accounts, Actor
from lastseen.app import LastSeen
from lastseen.server.access import Access
from lastseen.server.api.asking import (
    MAX_BODY,
    PAGE_NAMES,
    QUERY_NAMES,
    ReadRequest,
    provide_actor,
    provide_principal,
    refuse_unknown,
    refuse_wrong,
)
from lastseen.server.api.clients import ClientsController
from lastseen.server.api.devices import DevicesController
from lastseen.server.api.exports import Export, provide_export
from lastseen.server.api.groups import GroupsController
from lastseen.server.api.idempotency import IdempotentAnswers, Once, provide_once
from lastseen.server.api.keys import KeysController
from lastseen.server.api.openapi import API, DOCUMENT, Description, DescriptionController
from lastseen.server.api.parameters import query_names_of
from lastseen.server.api.reports import ReportsController
from lastseen.server.api.sessions import SessionsController
from lastseen.server.api.sites import SitesController
from lastseen.server.api.users import UsersApiController
from lastseen.server.api.visits import VisitsController
from lastseen.server.body import AsgiApp
from lastseen.server.gate import Gate
from lastseen.server.health import HealthController
from lastseen.server.limits import RateLimits
from lastseen.server.loopback import is_loopback
from lastseen.server.metrics import Metrics
from lastseen.server.pages.accounts import OwnAccountController, SignInController
from lastseen.server.pages.clients import show_page, show_rows
from lastseen.server.pages.devices import DEVICE_PAGES
from lastseen.server.pages.frame import STATIC, show_missing
from lastseen.server.pages.password_threads import PasswordThreads
from lastseen.server.pages.users import AuditController, UsersController
from lastseen.server.pages.visits import VISIT_PAGES
from lastseen.server.problem import answer_problem
from lastseen.server.receive import ActivityRoute
from lastseen.server.rights import Principal, Right, check_declared, require_right
from lastseen.server.trail import Trail, provide_trail
from lastseen.settings import Settings
from lastseen.web.sessions.threads import in_thread

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")

_HERE = Path(__file__).parent


def create_app(
    seen: LastSeen,
    settings: Settings,
    *,
    metrics: Metrics | None = None,
    accounts: Accounts | None = None,
    limits: RateLimits | None = None,
) -> AsgiApp:
    """Return the server as an ASGI application; closing `seen` is the caller's affair, accounts close at shutdown.

    For figures about flushes, hand the same `metrics` to `LastSeen.open` as `on_flush=metrics.flushed`. Wrong
    credentials count together with those of others who have the same `limits`.
    """
    metrics = metrics or Metrics()
    activity = ActivityRoute(seen.clients, metrics)
    metrics.watch(seen.clients, activity.totals)
    accounts = accounts or Accounts(seen.store.accounts, seen.store.sessions)
    # Litestar's types name each message, ours are the standard's dictionaries.
    pages = cast("AsgiApp", _pages(seen, metrics, accounts))
    limits = limits or RateLimits(settings.rate_limit)
    access = Access(pages, activity, accounts, seen, limits, is_loopback=is_loopback(settings.host))
    return Gate(access, activity, metrics, {*LOOPBACK_NAMES, *settings.allowed_hosts})


def _pages(seen: LastSeen, metrics: Metrics, accounts: Accounts) -> Litestar:
    threads, answers = PasswordThreads(), IdempotentAnswers()
    dependencies: dict[str, Provide] = {
        "seen": Provide(lambda: seen, sync_to_thread=False),
        "accounts": Provide(lambda: accounts, sync_to_thread=False),
        "threads": Provide(lambda: threads, sync_to_thread=False),
        "answers": Provide(lambda: answers, sync_to_thread=False),
        "principal": Provide(provide_principal, sync_to_thread=False),
        "actor": Provide(provide_actor, sync_to_thread=False),
        "trail": Provide(provide_trail, sync_to_thread=False),
        "once": Provide(provide_once, sync_to_thread=False),
        "export": Provide(provide_export, sync_to_thread=False),
    }
    signature_types = [LastSeen, Accounts, Actor, PasswordThreads, IdempotentAnswers, Principal, Trail, Once, Export]

    async def close_accounts() -> None:
        await in_thread(accounts.close)

    @get("/metrics", needs=Right.MONITORING, sync_to_thread=False, include_in_schema=False)
    def show_metrics() -> Response[bytes]:
        return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    app = Litestar(
        route_handlers=[
            _api(),
            HealthController,
            SignInController,
            OwnAccountController,
            UsersController,
            AuditController,
            show_metrics,
            show_page,
            show_rows,
            *VISIT_PAGES,
            *DEVICE_PAGES,
            create_static_files_router(
                path="/static",
                directories=[STATIC],
                include_in_schema=False,
                opt={"needs": Right.PUBLIC},
                cache_control=CacheControlHeader(public=True, max_age=31_536_000, immutable=True),
            ),
        ],
        dependencies=dependencies,
        guards=[require_right, refuse_wrong],
        on_shutdown=[close_accounts],
        exception_handlers={Exception: answer_problem, NotFoundException: show_missing},
        template_config=TemplateConfig(directory=_HERE / "pages/templates", engine=JinjaTemplateEngine),
        compression_config=CompressionConfig(backend="gzip", minimum_size=500),
        openapi_config=None,
        logging_config=None,
        request_class=ReadRequest,
        signature_types=signature_types,
    )
    check_declared(app)
    app.state[QUERY_NAMES] = query_names_of(app)
    app.state[PAGE_NAMES] = query_names_of(app, described=False)

    def described() -> Litestar:
        # Litestar serves what it describes at more addresses than one, so the one that is asked for it serves nothing.
        return Litestar(
            [_api(), HealthController],
            dependencies=dependencies,
            signature_types=signature_types,
            openapi_config=OpenAPIConfig(title="lastseen", version="1"),
            logging_config=None,
        )

    app.state[DOCUMENT] = Description(described)
    return app


def _api() -> Router:
    return _OwnRouter(
        path=API,
        route_handlers=[
            ClientsController,
            DevicesController,
            GroupsController,
            KeysController,
            SitesController,
            ReportsController,
            SessionsController,
            VisitsController,
            UsersApiController,
            DescriptionController,
        ],
        guards=[refuse_unknown],
        request_max_body_size=MAX_BODY,
    )


class _OwnRouter(Router):
    """A router of one application: it is not copied for it, with all that was found out about its handlers."""

    def __deepcopy__(self, memo: dict[int, object]) -> _OwnRouter:
        return self
