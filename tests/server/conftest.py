"""A server a test module, a browser a session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from scripts.install_browser import find_browser

from tests.server.running import DEADLINE, ServerProcess

# Playwright's own five seconds say how busy the machine is.
expect.set_options(timeout=DEADLINE * 1_000)

BROWSER_OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run one server for the tests of a module; each test uses clients of its own."""
    with ServerProcess(tmp_path_factory.mktemp("server"), measured=True) as process:
        yield process


@pytest.fixture
def new_server(tmp_path: Path) -> Iterator[ServerProcess]:
    """Run a server with an empty database for one test."""
    with ServerProcess(tmp_path) as process:
        yield process


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Run one Chromium for the tests of a module; without one the test is skipped, under `CI` it fails.

    Not longer than the module: as long as Playwright runs, its event loop counts as running in this thread.
    """
    path = find_browser()
    if path is None:
        message = "no Chromium; run: .venv/bin/python scripts/install_browser.py"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=BROWSER_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """Open a browser window without any past."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """Open a page; whatever it complains about in its console, a refused script or style too, fails the test."""
    complaints: list[str] = []
    page = context.new_page()
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    assert complaints == []
