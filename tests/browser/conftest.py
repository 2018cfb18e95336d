"""Chromium on the test server: fixture `page`, once in each of the frontend's two renderers.

Chromium is the one on the PATH, or Playwright's own; `make setup` gets one where it can. Each test
leaves a screenshot of its end in .screenshots/, and fails when the console showed an error
that is not the frontend's own (see KNOWN_ERRORS in tools/server/page.py).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from personalize.tools.server.page import SCREENSHOTS, ComfyPage, NoBrowser, Renderer, chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One Chromium for all tests of a file.

    It ends with them: Playwright keeps an event loop in this thread, which asyncio.run and the
    websocket of ComfyClient could not share. (The scope "package" lasts to the end of the session,
    because folders of tests are no packages.)
    """
    try:
        with chromium() as running:
            yield running
    except NoBrowser as missing:
        if os.environ.get("PERSONALIZE_BROWSER") == "required":
            pytest.fail(f"PERSONALIZE_BROWSER is required, but there is {missing}")
        pytest.skip(str(missing))


@pytest.fixture(params=list(Renderer), ids=lambda renderer: renderer.value)
def renderer(request: pytest.FixtureRequest) -> Renderer:
    return request.param


@pytest.fixture
def page(
    request: pytest.FixtureRequest, browser: Any, server: Any, renderer: Renderer
) -> Iterator[ComfyPage]:
    """The frontend in a tab of its own, with an empty graph and nothing remembered."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    try:
        opened = ComfyPage(context.new_page(), server, renderer)
        opened.open()
        opened.clear()
        yield opened
        opened.screenshot(request.node.name)
        assert not opened.errors, "\n".join(opened.errors)
    finally:
        context.close()


@pytest.fixture(scope="session", autouse=True)
def screenshots() -> None:
    """Only the pictures of the last run are kept, of all its processes."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    mark = SCREENSHOTS / ".run"
    if run is None or not mark.is_file() or mark.read_text() != run:
        shutil.rmtree(SCREENSHOTS, ignore_errors=True)
        SCREENSHOTS.mkdir(exist_ok=True)
        mark.write_text(run or "")
