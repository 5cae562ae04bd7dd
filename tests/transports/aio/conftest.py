"""For every test here: one interface, and nothing left behind when it is over."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Iterator

import aioice.ice
import pytest


@pytest.fixture(autouse=True)
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """aioice leaves 127.0.0.1 out; here it is the only one, and the tests need no network."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


@pytest.fixture(scope="package", autouse=True)
def quick_collections() -> None:
    """What was there before is left out: collecting garbage three times a test would take longer than the tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_left(recwarn: pytest.WarningsRecorder) -> Iterator[None]:
    """Descriptors and asyncio tasks; what is found when garbage is collected is an error of its own."""
    before = len(os.listdir("/proc/self/fd"))
    yield
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before
    assert not [task for task in gc.get_objects() if isinstance(task, asyncio.Task) and not task.done()]
    assert not recwarn.list
