"""Sees to a Chromium for the tests of the page: the one that is here, Debian's, or Playwright's own.

Ends with 0 when there is one. When there is none and none can be installed, the tests of the page are skipped (exit
code 0), except under continuous integration (the environment has `CI`), where nobody would notice (exit code 1).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def main() -> int:
    """Find or install a browser; say which."""
    for attempt in (find_browser, install_with_apt, install_with_playwright):
        browser = attempt()
        if browser is not None:
            print(f"browser for the tests: {browser}")
            return 0
    print(
        "no browser for the tests of the page, and none could be installed; "
        "install Debian's package chromium, or run: .venv/bin/playwright install chromium",
        file=sys.stderr,
    )
    return 1 if os.environ.get("CI") else 0


def find_browser() -> str | None:
    """Return the path of a Chromium or Chrome: on the path, else Playwright's own, else None."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    return found or find_playwright_browser()


def find_playwright_browser() -> str | None:
    """Return the path of the Chromium that Playwright downloaded, or None."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def install_with_apt() -> str | None:
    """Install Debian's package as root, or with a sudo that asks for no password; return the browser's path."""
    if shutil.which("apt-get") is None:
        return None
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if prefix and not runs(*prefix, "true"):
        return None
    environment = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
    installed = runs(*environment, "update", "-qq") and runs(*environment, "install", "-y", "-qq", "chromium")
    return find_browser() if installed else None


def install_with_playwright() -> str | None:
    """Let Playwright download its own Chromium; return the browser's path."""
    return find_playwright_browser() if runs(sys.executable, "-m", "playwright", "install", "chromium") else None


def runs(*command: str) -> bool:
    """Run a command quietly; return whether it ended well."""
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=900)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"{command[0]}: {error}", file=sys.stderr)
        return False
    if done.returncode:
        print(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-500:]}", file=sys.stderr)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
