"""Headless Chromium for tests of pages: finds an installed one and opens it through Playwright.

Playwright's own download is used where it is there; otherwise the system's Chromium or Chrome, which needs none.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Playwright, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MAC_APPS = (
    Path("/Applications/Chromium.app/Contents/MacOS/Chromium"),
    Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"),
)
HOW_TO_INSTALL = (
    "no Chromium found; install one with `apt install chromium`, `brew install --cask chromium`"
    " or `.venv/bin/python -m playwright install chromium`"
)


class ChromiumMissingError(Exception):
    """This machine has no Chromium; the message says how to get one."""


def find_chromium(playwright: Playwright) -> Path:
    """The Chromium to run. Raises ChromiumMissingError where there is none."""
    on_path = (Path(found) for name in NAMES if (found := shutil.which(name)))
    for candidate in (Path(playwright.chromium.executable_path), *on_path, *MAC_APPS):
        if candidate.exists():
            return candidate
    raise ChromiumMissingError(HOW_TO_INSTALL)


@contextmanager
def open_browser() -> Iterator[Browser]:
    """A headless Chromium, closed at the end. Raises ChromiumMissingError where there is none."""
    with sync_playwright() as playwright:
        # In containers tests run as root, which Chromium refuses, with little shared memory, on which it crashes.
        browser = playwright.chromium.launch(
            executable_path=find_chromium(playwright), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            browser.close()
