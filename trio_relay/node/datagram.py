"""A datagram socket over the overlay, wire-compatible with `PeerRelay.Socket` of peer-relay 0.0.2."""

from __future__ import annotations

import errno
import inspect
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, NoReturn, ParamSpec

import trio

from ..exceptions import RemoteProtocolError
from ..wire.datagram import Datagram, build_datagram, parse_datagram_untrusted
from ..wire.ids import NodeId, parse_node_id
from .node import Node
from .opening import open_node
from .values import Message

__all__ = ["Address", "DatagramSocket", "open_datagram_socket"]

P = ParamSpec("P")

Address = tuple[str, int]
"""An id of 40 hexadecimal digits, or ``localhost``; and a port, which only ``localhost`` needs."""

_LAST_PORT: Final = 9998
_LOCAL: Final = ("localhost", "127.0.0.1")
_bound: Final[dict[int, NodeId]] = {}
"""Sockets of this process by port; what ``localhost`` means, as in the original."""


class DatagramSocket:
    """What `open_datagram_socket` gives: the shape of a UDP socket, with ids for hosts.

    Attributes:
        node: the peer below; its other messages are not for this socket and are counted in `ignored`.
        ignored: messages received that were not datagrams.
    """

    def __init__(self, node: Node) -> None:
        self.node: Final = node
        self.ignored = 0
        self._port: int | None = None
        self._closed = False
        self._receiving: Final = set[trio.CancelScope]()

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("the socket was closed")

    async def bind(self, port: int | None = None) -> None:
        """Takes a port, a free one by default, and returns at the first link.

        Raises:
            OSError: the socket is bound already (EINVAL), or another one in this process has the port (EADDRINUSE).
            ValueError: the port is not between 0 and 65,535.
        """
        self._check_open()
        if self._port is not None:
            raise OSError(errno.EINVAL, "the socket is bound already")
        if port is None:
            free = [number for number in range(_LAST_PORT + 1) if number not in _bound]
            if not free:
                raise OSError(errno.EADDRINUSE, "every port is bound in this process")
            port = random.choice(free)
        if not 0 <= port <= 65535:
            raise ValueError(f"expected a port between 0 and 65535, not {port}")
        if port in _bound:
            raise OSError(errno.EADDRINUSE, f"port {port} is bound in this process")
        self._port = port
        _bound[port] = self.node.id
        try:
            await self.node.wait_linked()
        except BaseException:
            self._give_back()
            raise

    async def sendto(self, data: bytes, address: Address) -> None:
        """Sends a datagram: at most once, unordered. Unbound sockets send from port 0.

        Its JSON form, up to four bytes for each of `data`, must fit `Limits.payload`.

        Raises:
            ValueError: the host is neither an id nor ``localhost``.
            ConnectionRefusedError: nothing in this process is bound to that port of ``localhost``.
            PayloadTooLarge: it does not fit.
        """
        self._check_open()
        host, port = address
        to = _bound.get(port) if host in _LOCAL else parse_node_id(host)
        if to is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"nothing in this process is bound to port {port}")
        own = host if host in _LOCAL else self.node.id.hex()
        await self.node.send(to, build_datagram(Datagram(data, own, self._port or 0)))

    async def recvfrom(self) -> tuple[bytes, Address]:
        """Waits for a datagram; returns it and the address to answer to.

        The host is the sender's id as the overlay knows it, whatever the datagram claims.

        Raises:
            trio.ClosedResourceError: the socket was closed.
        """
        while True:
            message = await self._receive()
            if isinstance(message.data, bytes):
                self.ignored += 1
                continue
            try:
                datagram = parse_datagram_untrusted(message.data)
            except RemoteProtocolError:
                self.ignored += 1
                continue
            return datagram.buffer, (message.sender.hex(), datagram.port)

    async def _receive(self) -> Message:
        """The node's next message; `close` ends the waiting."""
        self._check_open()
        with trio.CancelScope() as scope:
            self._receiving.add(scope)
            try:
                return await self.node.receive()
            except trio.EndOfChannel:
                pass
            finally:
                self._receiving.discard(scope)
        raise trio.ClosedResourceError("the socket was closed")

    def getsockname(self) -> Address:
        """The id, and the port, 0 before `bind`."""
        self._check_open()
        return self.node.id.hex(), self._port or 0

    def close(self) -> None:
        """Gives the port back; the node ends with the block of `open_datagram_socket`. Idempotent."""
        self._closed = True
        self._give_back()
        for scope in self._receiving:
            scope.cancel()

    def _give_back(self) -> None:
        if self._port is not None:
            _bound.pop(self._port, None)
            self._port = None

    def set_broadcast(self, flag: bool) -> NoReturn:
        """Not implemented, as in the original."""
        raise NotImplementedError("set_broadcast has no meaning in an overlay")

    def set_ttl(self, ttl: int) -> NoReturn:
        """Not implemented, as in the original."""
        raise NotImplementedError("set_ttl has no meaning in an overlay")

    def set_multicast_ttl(self, ttl: int) -> NoReturn:
        """Not implemented, as in the original."""
        raise NotImplementedError("set_multicast_ttl has no meaning in an overlay")

    def set_multicast_loopback(self, flag: bool) -> NoReturn:
        """Not implemented, as in the original."""
        raise NotImplementedError("set_multicast_loopback has no meaning in an overlay")

    def add_membership(self, group: str, interface: str | None = None) -> NoReturn:
        """Not implemented, as in the original."""
        raise NotImplementedError("add_membership has no meaning in an overlay")

    def drop_membership(self, group: str, interface: str | None = None) -> NoReturn:
        """Not implemented, as in the original."""
        raise NotImplementedError("drop_membership has no meaning in an overlay")

    def ref(self) -> NoReturn:
        """Not implemented, as in the original."""
        raise NotImplementedError("ref has no meaning in Trio")

    def unref(self) -> NoReturn:
        """Not implemented, as in the original."""
        raise NotImplementedError("unref has no meaning in Trio")


def _with_socket(
    opener: Callable[P, AbstractAsyncContextManager[Node]],
) -> Callable[P, AbstractAsyncContextManager[DatagramSocket]]:
    """The same arguments as `opener`, and a socket over the node that it gives."""

    @asynccontextmanager
    async def open_datagram_socket(*args: P.args, **kwargs: P.kwargs) -> AsyncIterator[DatagramSocket]:
        """A datagram socket with a node of its own; takes every argument of `open_node`."""
        async with opener(*args, **kwargs) as node:
            sock = DatagramSocket(node)
            try:
                yield sock
            finally:
                sock.close()

    open_datagram_socket.__signature__ = inspect.signature(opener)  # type: ignore[attr-defined]
    return open_datagram_socket


open_datagram_socket = _with_socket(open_node)
