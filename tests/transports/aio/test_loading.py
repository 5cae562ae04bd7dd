"""What is said where WebRTC cannot be had, and that it is not loaded where nobody asks for it."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib import metadata

import pytest

from trio_relay.transports import webrtc_implementation
from trio_relay.transports.aio import open_factory, open_media_factory
from trio_relay.transports.webrtc_implementation import load, load_media


def test_it_is_loaded_where_it_is_installed() -> None:
    assert load() is open_factory
    assert load_media() is open_media_factory


def test_nothing_of_asyncio_is_loaded_without_being_asked_for() -> None:
    program = (
        "import sys, trio_relay; print(sorted({'asyncio', 'aiortc', 'aioice', 'trio_asyncio'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize(("module", "distribution"), [("aiortc", "aiortc"), ("trio_asyncio", "trio-asyncio")])
def test_what_is_not_installed_is_named_with_how_to_install_it(
    module: str, distribution: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # as if it could not be found
    with pytest.raises(ImportError, match=distribution):
        load_media()
    with pytest.raises(ImportError) as caught:
        load()
    expected = f"WebRTC needs {distribution}, which is not installed: pip install 'trio-relay[webrtc]'"
    assert str(caught.value) == expected
    assert caught.value.name == module


def test_trio_asyncio_does_not_import_on_a_newer_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the import of trio-asyncio 0.16 raises on Python 3.14, whose asyncio has lost a name."""

    def import_module(name: str, package: str | None = None) -> object:
        if name == "trio_asyncio":
            raise AttributeError("module 'asyncio.events' has no attribute 'BaseDefaultEventLoopPolicy'")
        return sys.modules[name]

    monkeypatch.setattr(webrtc_implementation, "import_module", import_module)
    monkeypatch.setattr(platform, "python_version", lambda: "3.14.0")
    monkeypatch.setattr(metadata, "version", lambda distribution: "0.16.0")
    with pytest.raises(ImportError) as caught:
        load()
    assert str(caught.value) == (
        "WebRTC needs trio-asyncio, but trio-asyncio 0.16.0 does not import on Python 3.14.0: "
        "AttributeError: module 'asyncio.events' has no attribute 'BaseDefaultEventLoopPolicy'"
    )
    assert isinstance(caught.value.__cause__, AttributeError)
