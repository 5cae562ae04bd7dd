"""Hypothesis profiles, and the suites that need something this machine may lack.

A test marked with a suite's name runs only where the suite's requirement is met. Elsewhere it is deselected and
the last lines of the run name the suite and what it needs. With ``CI=true`` that is an error instead, and so is
any skipped test.
"""

from __future__ import annotations

import gc
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Generator
from typing import Any, Final

import pytest
from hypothesis import settings

from tests.interop.brokers import has_brokers
from tests.netns.hosts import can_open_network
from tests.netns.turn import can_run_turn

settings.register_profile("dev", deadline=None, derandomize=True, max_examples=50)
settings.register_profile("ci", settings.get_profile("dev"), print_blob=True, max_examples=100)
settings.register_profile("fuzz", deadline=None, max_examples=20_000, print_blob=True)

IN_CI: Final = os.environ.get("CI", "").lower() in ("1", "true")
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if IN_CI else "dev"))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As of a job that a shell started in the background: the programs that tests start would ignore Ctrl-C, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)

OLDEST_NODE: Final = 18
CHROMIUM_NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")


def has_node() -> bool:
    """Whether Node.js of a version that the interop scripts run on, and npm, are on the path."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        return False
    shown = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    version = re.match(r"v(\d+)\.", shown)
    return version is not None and int(version[1]) >= OLDEST_NODE


def has_chromium() -> bool:
    return any(shutil.which(name) for name in CHROMIUM_NAMES)


def is_root() -> bool:
    return os.geteuid() == 0


REQUIREMENTS: Final[dict[str, tuple[Callable[[], bool], str]]] = {
    "interop": (has_node, f"Node.js >= {OLDEST_NODE} and npm"),
    "brokers": (has_brokers, "nats-server, mosquitto and its clients"),
    "browser": (has_chromium, "Chromium"),
    "root": (is_root, "root privileges"),
    "netns": (can_open_network, "iproute2, and a system where `unshare -rn` works"),
    "turn": (can_run_turn, "coturn and nftables"),
}
"""Marker of a suite -> whether it can run here, and what it needs."""

missing_suites: Final = pytest.StashKey[list[str]]()
"""The suites of which a test was collected and deselected."""


def describe(suites: list[str]) -> str:
    """For example ``interop (needs Node.js >= 18 and npm), root (needs root privileges)``."""
    return ", ".join(f"{suite} (needs {REQUIREMENTS[suite][1]})" for suite in suites)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What was collected stays to the end: looking for garbage in it again and again takes a tenth of the run."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)  # after -m and -k: what nobody asked for is not missing
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    collected = {suite for suite in REQUIREMENTS for item in items if item.get_closest_marker(suite)}
    missing = [suite for suite in REQUIREMENTS if suite in collected and not REQUIREMENTS[suite][0]()]
    deselected = [item for item in items if any(item.get_closest_marker(suite) for suite in missing)]
    if deselected:
        config.stash[missing_suites] = missing
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if item not in deselected]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """With ``pytest -n``: a worker, which collected, is done; this process, which did not, writes the last lines."""
    missing: list[str] = node.workeroutput.get("missing suites", []) if hasattr(node, "workeroutput") else []
    if missing:
        node.config.stash[missing_suites] = missing


@pytest.hookimpl(wrapper=True, tryfirst=True)  # outermost, so that its line comes last
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> Generator[None, object, object]:
    result = yield
    if missing := config.stash.get(missing_suites, []):
        terminalreporter.write_line(f"suites not run: {describe(missing)}", yellow=True, bold=True)
    return result


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["missing suites"] = session.config.stash.get(missing_suites, [])
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not IN_CI or reporter is None:
        return
    if reporter.stats.get("skipped") or session.config.stash.get(missing_suites, []):
        reporter.write_line("\nskipped tests and suites not run are failures in CI", red=True, bold=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
