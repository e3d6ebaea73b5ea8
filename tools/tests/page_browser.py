"""Open a page in a real headless Chromium, for the tests of the interactive page.

    @pytest.fixture(scope="module")
    def browser() -> Iterator[Any]:
        with started_browser() as browser:
            yield browser

    def test_something(browser):
        with open_page(browser, path) as opened:
            opened.page.click("button")
        assert opened.is_quiet

Playwright drives the system's browser; it downloads none. Where either is missing, the tests are
skipped by name.
"""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextlib.contextmanager
def started_browser() -> Iterator[Any]:
    """A headless Chromium. Skips the test where Playwright or the browser is missing."""
    api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: make install-dev")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("needs a Chromium, as in: apt-get install chromium")
    with api.sync_playwright() as playwright:
        # --no-sandbox: containers have no user namespaces, and the pages are our own.
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class OpenedPage:
    """A page, with what it asked the network for and what it complained about."""

    page: Any
    requests: list[str] = field(default_factory=list)  # but for the page itself
    errors: list[str] = field(default_factory=list)  # uncaught, or written to the console

    @property
    def is_quiet(self) -> bool:
        """Whether there was no request and no error."""
        return not self.requests and not self.errors


@contextlib.contextmanager
def open_page(browser: Any, path: Path, **options: Any) -> Iterator[OpenedPage]:
    """Open a file as a double click would. `options`: viewport={"width": ..., "height": ...} etc.

    A request for anything else is recorded and refused; data: and blob: addresses stay inside.
    """
    context = browser.new_context(**options)
    opened = OpenedPage(context.new_page())
    address = path.resolve().as_uri()

    def on_request(route: Any, request: Any) -> None:
        if request.url == address:
            route.continue_()
            return
        opened.requests.append(request.url)
        route.abort()

    def on_console(message: Any) -> None:
        if message.type in ("error", "warning"):
            opened.errors.append(message.text)

    context.route(lambda url: not url.startswith(("data:", "blob:")), on_request)
    opened.page.on("console", on_console)
    opened.page.on("pageerror", lambda error: opened.errors.append(str(error)))
    opened.page.goto(address)
    try:
        yield opened
    finally:
        context.close()
