"""TLS contexts from the files that the command line names."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Final, TypeVar

from .options import UsageError

__all__ = ["Certificate", "client_context"]

T = TypeVar("T")


class Certificate:
    """The certificate of a listener, which can be read again while it is in use.

    Attributes:
        context: for `open_node`; every handshake gets what was read last.
    """

    def __init__(self, chain: str, key: str) -> None:
        """Reads the PEM files.

        Raises:
            UsageError: they can't be read, or don't belong together.
        """
        self._chain: Final = chain
        self._key: Final = key
        self._newest = self._read()
        self.context: Final = self._read()
        self.context.sni_callback = self._choose

    def reload(self) -> None:
        """Reads the files again; on an error, the former certificate stays.

        Raises:
            UsageError: as at first.
        """
        self._newest = self._read()

    def _choose(self, handshake: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        # OpenSSL would keep the former certificate beside one with another kind of key, and a mismatched key without
        # its certificate, if the files were loaded into the context that is in use.
        handshake.context = self._newest

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        what = f"certificate {self._chain} with key {self._key}"
        # An empty password: without one, OpenSSL would ask for it at the terminal.
        _load(what, lambda: context.load_cert_chain(self._chain, self._key, password=""))
        return context


def client_context(authorities: str) -> ssl.SSLContext:
    """For dialling: trusts the authorities in a PEM file, and no others.

    Raises:
        UsageError: there are none in it.
    """
    context = _load(f"certificate authorities {authorities}", lambda: ssl.create_default_context(cafile=authorities))
    # Debian leaves the minimum to the library's configuration.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _load(what: str, load: Callable[[], T]) -> T:
    try:
        return load()
    except ssl.SSLError as error:
        # OpenSSL gives no reason for a file that is not PEM.
        reason = error.reason.replace("_", " ").lower() if error.reason else "not in PEM form, or encrypted"
        raise UsageError(f"can't load {what}: {reason}") from error
    except OSError as error:
        raise UsageError(f"can't read {what}: {error.strerror}") from error
