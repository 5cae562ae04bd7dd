"""One Chromium for all tests of a process; every test has a profile of its own."""

from __future__ import annotations

import fcntl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest

from benchmarks.npm import install

from .chromium import Browser, Page, open_browser, run_chromium
from .peerjs_fixtures import npm_brokers as npm_brokers
from .peerjs_fixtures import open_broker as open_broker
from .site import serve_folders

HERE: Final = Path(__file__).parent
EXAMPLES: Final = HERE.parent.parent / "docs" / "examples"


@pytest.fixture(scope="session")
def chromium() -> Iterator[str]:
    """The address of the DevTools of a running Chromium."""
    with run_chromium() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def chromium_with_addresses() -> Iterator[str]:
    """The same of a Chromium that shows the addresses of this machine in candidates, instead of ``.local`` names."""
    with run_chromium(hide_addresses=False) as endpoint:
        yield endpoint


@pytest.fixture
async def browser(chromium: str) -> AsyncIterator[Browser]:
    async with open_browser(chromium) as browser:
        yield browser


@pytest.fixture
async def page(browser: Browser) -> Page:
    """An empty tab."""
    return await browser.open_page()


@pytest.fixture(scope="session")
def chat_url() -> Iterator[str]:
    """Where the browser example is served."""
    with serve_folders({"chat": EXAMPLES / "browser_chat"}) as url:
        yield f"{url}/chat/"


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The folder of the npm packages that `package.json` and its lock file beside this file name."""
    with (HERE / "package.json").open() as lock:  # several processes may run tests
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            install(HERE)
        except RuntimeError as error:
            pytest.fail(str(error), pytrace=False)
    return HERE / "node_modules"


@pytest.fixture(scope="session")
def originals_url(node_modules: Path) -> Iterator[str]:
    """Where pages with original programs are served: ``peer_relay.html`` and ``simple_peer.html``."""
    with serve_folders({"pages": HERE / "pages", "npm": node_modules}) as url:
        yield f"{url}/pages"
