"""Loads WebRTC over aiortc where it is asked for, and says precisely what is missing where it cannot."""

from __future__ import annotations

import platform
from collections import Counter
from contextlib import AbstractAsyncContextManager
from importlib import import_module, metadata
from typing import Final, Protocol, cast

from .bundle import BundleFactory
from .webrtc import Factory, MediaFactory

__all__ = ["OpenBundleFactory", "OpenFactory", "OpenMediaFactory", "load", "load_bundle", "load_media"]

_NEEDED: Final = {"trio_asyncio": "trio-asyncio", "aiortc": "aiortc"}
"""Module -> the distribution that has it; trio-asyncio replaces functions of asyncio, so it comes first."""


class OpenFactory(Protocol):
    """``async with open_factory(close_timeout=...) as factory``; see `trio_relay.transports.aio.open_factory`."""

    def __call__(
        self, *, close_timeout: float, counters: Counter[str] | None = None
    ) -> AbstractAsyncContextManager[Factory]:
        """Opens it."""
        ...


class OpenMediaFactory(Protocol):
    """Likewise; see `trio_relay.transports.aio.open_media_factory`."""

    def __call__(
        self, *, close_timeout: float, counters: Counter[str] | None = None
    ) -> AbstractAsyncContextManager[MediaFactory]:
        """Opens it."""
        ...


class OpenBundleFactory(Protocol):
    """Likewise; see `trio_relay.transports.aio.open_bundle_factory`."""

    def __call__(
        self, *, close_timeout: float, counters: Counter[str] | None = None
    ) -> AbstractAsyncContextManager[BundleFactory]:
        """Opens it."""
        ...


def load() -> OpenFactory:
    """Returns `trio_relay.transports.aio.open_factory`.

    Raises:
        ImportError: a package is not installed: which, and how to install it; or it is, and does not import here:
            with its version and that of Python.
    """
    _import_needed()
    return cast(OpenFactory, import_module(".aio", __package__).open_factory)


def load_media() -> OpenMediaFactory:
    """Returns `trio_relay.transports.aio.open_media_factory`; raises what `load` raises."""
    _import_needed()
    return cast(OpenMediaFactory, import_module(".aio", __package__).open_media_factory)


def load_bundle() -> OpenBundleFactory:
    """Returns `trio_relay.transports.aio.open_bundle_factory`; raises what `load` raises."""
    _import_needed()
    return cast(OpenBundleFactory, import_module(".aio", __package__).open_bundle_factory)


def _import_needed() -> None:
    for module, distribution in _NEEDED.items():
        try:
            import_module(module)
        except Exception as error:
            # Not always an ImportError: trio-asyncio 0.16 uses names that asyncio of Python 3.14 no longer has.
            raise ImportError(_explain(module, distribution, error), name=module) from error


def _explain(module: str, distribution: str, error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name == module:
        return f"WebRTC needs {distribution}, which is not installed: pip install 'trio-relay[webrtc]'"
    try:
        version = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        version = "of an unknown version"
    return (
        f"WebRTC needs {distribution}, but {distribution} {version} does not import on Python "
        f"{platform.python_version()}: {type(error).__name__}: {error}"
    )
