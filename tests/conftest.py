"""What every test may ask for: real servers, one a test process."""

from __future__ import annotations

import importlib
import os
import pkgutil
import signal
from collections.abc import Generator, Iterator
from contextlib import suppress

import coverage
import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import HealthCheck, settings

import lastseen
from tests.servers import PostgresServer, ServerMissingError

# How long an example takes, and how long it takes to make one, says how busy the machine is.
settings.register_profile("new", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=False)
settings.register_profile("known", settings.get_profile("new"), derandomize=True, database=None)
settings.load_profile("known")

LONG = ("tests/server/", "tests/stores/", "tests/cli/", "tests/web/", "docs/")
"""Where tests take long, the longest first: with servers of their own, then with databases."""


def pytest_configure(config: pytest.Config) -> None:
    """Look for new examples in the long runs alone: the others say whether a change breaks something.

    Let Ctrl-C end what tests start, also where a shell put them into the background and with that ignores it.
    """
    if config.option.markexpr == "faults":
        settings.load_profile("new")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Measure what the package does when it is imported, but not how pytest reads the tests.

    Traced, that takes twice as long, in every process; the one that hands the tests out to others runs none.
    """
    measuring = coverage.Coverage.current()
    if measuring is None:
        return (yield)
    if session.config.pluginmanager.hasplugin("dsession"):
        measuring.stop()
        return (yield)
    for module in pkgutil.walk_packages(lastseen.__path__, "lastseen."):
        # One module has Django's models, which need settings.
        if not module.name.endswith(".__main__"):
            with suppress(ImproperlyConfigured):
                importlib.import_module(module.name)
    measuring.stop()
    try:
        return (yield)
    finally:
        measuring.start()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long, so that at the end short ones keep every process busy.

    No coverage is measured while Hypothesis runs: tracing doubles its time, and named cases cover what it finds.
    """
    items.sort(key=lambda item: next((at for at, folder in enumerate(LONG) if folder in item.nodeid), len(LONG)))
    for item in items:
        if item.get_closest_marker("hypothesis"):
            item.add_marker(pytest.mark.no_cover)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Run one PostgreSQL server, shared by the tests of this process; without binaries the test is skipped.

    Under continuous integration (the environment has `CI`) it fails instead: nobody would notice there.
    """
    try:
        server = PostgresServer()
    except ServerMissingError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
    with server:
        yield server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """Lend an empty database that no other test uses; its address."""
    url = postgres.lend_database()
    yield url
    postgres.take_back(url)
