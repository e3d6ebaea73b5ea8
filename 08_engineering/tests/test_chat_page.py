"""chat_page.html in a real browser: it streams, stops, shows errors, and stays on its server."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from serving_helpers import (  # pyright: ignore[reportMissingImports]
    TestServer,
    running_server,
    wait_until,
)

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium: Playwright's own, or the system's."""
    api = pytest.importorskip("playwright.sync_api", reason="needs Playwright")
    with api.sync_playwright() as playwright:
        found = shutil.which("chromium") or shutil.which("google-chrome")
        try:
            made = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except api.Error as error:
            pytest.skip(f"needs a Chromium: {str(error).splitlines()[0]}")
        yield made
        made.close()


def open_page(browser: Any, server: TestServer, **options: Any) -> tuple[Any, list[str]]:
    """The page, and the addresses that it asks for."""
    page = browser.new_page(**options)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"http://127.0.0.1:{server.port}/")
    page.wait_for_selector("#model:text-is('small')")
    return page, asked


@pytest.mark.parametrize("width", [360, 900])
def test_a_chat_by_keyboard(browser: Any, width: int) -> None:
    with running_server() as server:
        page, asked = open_page(browser, server, viewport={"width": width, "height": 640})
        page.keyboard.press("Enter")  # the message is there already, and has the focus
        answer = page.wait_for_selector("li.assistant:not(.busy) .text")
        assert len(answer.inner_text()) > 5
        page.keyboard.type("What 7?")
        page.keyboard.press("Enter")
        problem = page.wait_for_selector("li.error .text")
        assert "unknown character '7'" in problem.inner_text()
        assert page.input_value("#message") == "What 7?"  # to correct it
        assert all(url.startswith(f"http://127.0.0.1:{server.port}/") for url in asked)
        assert page.locator("html").bounding_box()["width"] <= width
        page.close()


def test_escape_stops_an_answer_and_frees_its_slot(browser: Any) -> None:
    with running_server() as server:
        page, _ = open_page(browser, server)
        page.fill("#tokens", "20000")
        engine = server.service.engine
        step = engine.batch.decode_step
        newline = server.service.tokenizer.encode("\n")[0]

        def endless(tokens: Any) -> Any:  # no line ever ends
            logits = step(tokens)
            logits[:, newline] = -1e9
            return logits

        engine.batch.decode_step = endless
        page.focus("#message")
        page.keyboard.press("Enter")
        page.wait_for_selector("li.assistant.busy .text:not(:empty)")
        page.keyboard.press("Escape")
        page.wait_for_selector("li.assistant:not(.busy)")
        wait_until(lambda: not engine.running, seconds=10)
        page.close()


def test_a_server_with_a_key_asks_for_it(browser: Any) -> None:
    with running_server(key="open sesame") as server:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.port}/")
        page.wait_for_selector("li.error:has-text('API key')")
        page.fill("#key", "open sesame")
        page.focus("#message")
        page.keyboard.press("Enter")
        page.wait_for_selector("li.assistant:not(.busy) .text:not(:empty)")
        page.close()
