"""Chromium without a window, over its DevTools protocol: pages, what they do, and what they show.

    with run_chromium() as endpoint:
        async with open_browser(endpoint) as browser:
            page = await browser.open_page()
            await page.visit("http://127.0.0.1:8080/ui")
            assert await page.evaluate("document.title") == "Relay"

https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import itertools
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import trio
import trio_websocket

from tests.conftest import CHROMIUM_NAMES

__all__ = ["PATIENCE", "Browser", "BrowserError", "Page", "open_browser", "run_chromium"]

PATIENCE: Final = 10.0
"""Seconds that anything may take; nothing waits so long that works."""
START_PATIENCE: Final = 30.0
LOOK_AGAIN: Final = 0.02
MOST_BYTES: Final = 64 * 1024 * 1024
"""Of one answer: screenshots are answers."""

ARGUMENTS: Final = (
    "--headless",
    "--no-sandbox",  # which root cannot have; all pages are the tests' own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    # A name that leads to this machine and is not of it, and no way to anywhere else. Names of candidates in .local
    # are those of tabs.
    "--host-resolver-rules=MAP *.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost, "
    "EXCLUDE *.local",
    "--remote-debugging-port=0",
)

DISABLED_FEATURES: Final = ("HttpsUpgrades", "HttpsFirstBalancedModeAutoEnable", "MediaRouter", "OptimizationHints")
HIDES_ADDRESSES: Final = "WebRtcHideLocalIpsWithMdns"


class BrowserError(Exception):
    """The browser refused a command, or a script in a page failed."""


@contextmanager
def run_chromium(*, hide_addresses: bool = True) -> Iterator[str]:
    """A process with an empty profile for the time of the block; gives the address of its DevTools.

    Args:
        hide_addresses: have names in ``.local`` in the candidates of WebRTC, as a person's browser does.
    """
    program = next(path for name in CHROMIUM_NAMES if (path := shutil.which(name)))
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        disabled = DISABLED_FEATURES if hide_addresses else (*DISABLED_FEATURES, HIDES_ADDRESSES)
        features = f"--disable-features={','.join(disabled)}"
        command = [program, *ARGUMENTS, f"--user-data-dir={profile}", features, "about:blank"]
        log = Path(profile) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            yield _endpoint(process, log)
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _endpoint(process: subprocess.Popen[bytes], log: Path) -> str:
    for _ in range(int(START_PATIENCE / LOOK_AGAIN)):
        said = log.read_text(errors="replace")
        if found := re.search(r"DevTools listening on (ws://\S+)\n", said):
            return found[1]
        try:
            process.wait(LOOK_AGAIN)
        except subprocess.TimeoutExpired:
            continue
        break
    raise BrowserError(f"Chromium did not start: {log.read_text(errors='replace')}")


class Browser:
    """A profile of its own in a running Chromium: cookies and storage are shared with no other."""

    def __init__(self, connection: trio_websocket.WebSocketConnection) -> None:
        self._connection: Final = connection
        self._numbers: Final = itertools.count(1)
        self._answers: Final[dict[int, dict[str, Any]]] = {}
        self._waiting: Final[dict[int, trio.Event]] = {}
        self._pages: Final[dict[str, Page]] = {}
        self.context: str | None = None

    async def command(self, method: str, session: str | None = None, **parameters: object) -> dict[str, Any]:
        """The result of a command of the protocol."""
        number = next(self._numbers)
        message: dict[str, object] = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        answered = self._waiting[number] = trio.Event()
        with trio.fail_after(PATIENCE):
            await self._connection.send_message(json.dumps(message))
            await answered.wait()
        answer = self._answers.pop(number)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    async def open_page(self) -> Page:
        """A new empty tab."""
        target = await self.command("Target.createTarget", url="about:blank", browserContextId=self.context)
        attached = await self.command("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = self._pages[attached["sessionId"]] = Page(self, attached["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Network"):
            await page.command(f"{domain}.enable")
        return page

    async def read(self) -> None:
        """Takes what the browser says, until the connection ends."""
        while True:
            message = json.loads(await self._connection.get_message())
            if (number := message.get("id")) is not None:
                self._answers[number] = message
                self._waiting.pop(number).set()
            elif (page := self._pages.get(message.get("sessionId"))) is not None:
                page.note(message["method"], message["params"])


class Page:
    """One tab.

    Attributes:
        problems: errors and warnings that the page, or the browser about the page, wrote on the console, exceptions
            that nobody caught, and violations of its Content-Security-Policy.
        requests: the addresses of all requests of the page.
    """

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser: Final = browser
        self._session: Final = session
        self._loaded = trio.Event()
        self.problems: Final[list[str]] = []
        self.requests: Final[list[str]] = []

    async def command(self, method: str, **parameters: object) -> dict[str, Any]:
        return await self._browser.command(method, self._session, **parameters)

    def note(self, method: str, event: dict[str, Any]) -> None:
        """An event of the protocol."""
        if method == "Page.loadEventFired":
            self._loaded.set()
        elif method == "Network.requestWillBeSent":
            self.requests.append(event["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.problems.append(str(event["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and event["type"] in ("error", "warning", "assert"):
            self.problems.append(f"console: {event['args']}")
        elif method == "Log.entryAdded" and event["entry"]["level"] in ("error", "warning"):
            entry = event["entry"]
            self.problems.append(f"{entry['source']}: {entry['text']} {entry.get('url', '')}")

    async def visit(self, url: str) -> None:
        """Goes there, until the page is loaded."""
        async with self.loading():
            failed = (await self.command("Page.navigate", url=url)).get("errorText")
            if failed is not None:
                raise BrowserError(f"{url}: {failed}")

    @asynccontextmanager
    async def loading(self) -> AsyncIterator[None]:
        """At the end of the block, waits until the page is loaded that the block went to."""
        loaded = self._loaded = trio.Event()
        yield
        with trio.fail_after(PATIENCE):
            await loaded.wait()

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, as JSON; of a promise, what it is resolved with."""
        result = await self.command("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise BrowserError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    async def wait_for(self, expression: str) -> Any:
        """The value of an expression once it is true."""
        with trio.move_on_after(PATIENCE):
            while not (value := await self.evaluate(expression)):
                await trio.sleep(LOOK_AGAIN)
            return value
        shown = await self.evaluate("document.body.innerText")
        raise AssertionError(f"not within {PATIENCE:g} s: {expression}\n{shown}\n{self.problems}")

    async def wait_for_request(self, number: int) -> str:
        """The address of the request with this number, counted from 0, once it is made."""
        with trio.fail_after(PATIENCE):
            while len(self.requests) <= number:
                await trio.sleep(LOOK_AGAIN)
        return self.requests[number]

    async def type(self, text: str, *, enter: bool = False) -> None:
        """Text at the keyboard, into what has the focus."""
        await self.command("Input.insertText", text=text)
        if enter:
            for kind in ("keyDown", "keyUp"):
                key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
                await self.command("Input.dispatchKeyEvent", type=kind, **key)

    async def look(self, width: int, height: int = 800, *, scale: float = 1, dark: bool = False) -> None:
        """The size of the page in CSS pixels, device pixels to one of them, and the scheme of colours.

        A page at 200 % zoom is one of half the width with twice the scale. Below 600 pixels it is a phone.
        """
        phone = width < 600
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": phone}
        await self.command("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.command("Emulation.setEmulatedMedia", features=[scheme])

    async def screenshot(self) -> bytes:
        """The whole page, as PNG."""
        return base64.b64decode((await self.command("Page.captureScreenshot", captureBeyondViewport=True))["data"])


@asynccontextmanager
async def open_browser(endpoint: str) -> AsyncIterator[Browser]:
    """A `Browser` for the time of the block.

    Args:
        endpoint: of `run_chromium`.
    """
    address = urlsplit(endpoint)
    assert address.hostname is not None
    stream = await trio.open_tcp_stream(address.hostname, address.port or 80)
    try:
        async with trio.open_nursery() as nursery:
            with trio.fail_after(PATIENCE):
                connection = await trio_websocket.wrap_client_stream(
                    nursery, stream, address.netloc, address.path, max_message_size=MOST_BYTES
                )
            browser = Browser(connection)
            nursery.start_soon(browser.read)
            context = await browser.command("Target.createBrowserContext", disposeOnDetach=True)
            browser.context = context["browserContextId"]
            yield browser
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(stream)
