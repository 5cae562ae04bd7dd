"""One Chromium for all tests of a process; every test has a profile of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from .chromium import Browser, Page, open_browser, run_chromium


@pytest.fixture(scope="session")
def chromium() -> Iterator[str]:
    """The address of the DevTools of a running Chromium."""
    with run_chromium() as endpoint:
        yield endpoint


@pytest.fixture
async def browser(chromium: str) -> AsyncIterator[Browser]:
    async with open_browser(chromium) as browser:
        yield browser


@pytest.fixture
async def page(browser: Browser) -> Page:
    """An empty tab."""
    return await browser.open_page()
