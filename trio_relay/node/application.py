"""What the application asks of a running peer, and when it has to wait for room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import trio

from ..exceptions import DeliveryError, NegotiationFailed, PeerUnreachable
from ..overlay.actions import Found, NotConnected, Preference
from ..transports.admission import TransportStatistics
from ..wire.content import decode_content_untrusted
from ..wire.ids import NodeId, short
from ..wire.record import PeerRecord
from .desk import Waiter
from .link import Link
from .originals import Originals
from .runtime import Runtime
from .subscriptions import Subscriptions
from .turns import Turns
from .values import LinkInfo, Message, NodeStatistics, Receipt

__all__ = ["Application"]


class Application:
    """The operations behind `Node`; arguments are checked there.

    Attributes:
        topics: what the application subscribes to and publishes.
    """

    def __init__(self, runtime: Runtime, transport: TransportStatistics) -> None:
        self._runtime: Final = runtime
        self._transport: Final = transport
        self._router: Final = runtime.router
        self._desk: Final = runtime.desk
        self._sends: Final = Turns()
        self._receives: Final = Turns()
        self.topics: Final = Subscriptions(runtime)

    # Sending

    async def is_original(self, to: NodeId) -> bool:
        """Whether that id is an original node's: whatever says so, only after a lookup found no key of it."""
        originals = self._originals_for(to)
        if originals is None:
            return False
        if not originals.is_keyless(to):
            with suppress(PeerUnreachable):
                await self.lookup(to)
        return originals.is_original(to)

    def send(self, to: NodeId, payload: bytes, *, sealed: bool) -> None:
        """Sends a datagram; `sealed`: not to an original, whatever is known of the id."""
        runtime = self._runtime
        originals = None if sealed else self._originals_for(to)
        if originals is not None:
            # A copy: it may wait for a lookup while the application goes on with its own.
            originals.send(to, decode_content_untrusted(payload))
        else:
            runtime.send(to, payload)

    def _originals_for(self, to: NodeId) -> Originals | None:
        """By whom messages for that id go, None for the overlay's own way."""
        legacy = self._runtime.legacy
        return legacy if legacy is not None and legacy.claims(to) else None

    def _first_link(self, to: NodeId, sealed: bool) -> Link | None:
        originals = None if sealed else self._originals_for(to)
        if originals is not None:
            return originals.first_link(to)
        neighbour = self._router.first_hop(to)
        if neighbour is None:
            return None
        assert isinstance(neighbour.link, Link)
        return neighbour.link

    def has_room(self, to: NodeId, size: int, *, sealed: bool) -> bool:
        """Whether a message of so many bytes can be sent without waiting."""
        if to == self._runtime.identity.id:
            return True
        originals = None if sealed else self._originals_for(to)
        if originals is not None and not originals.has_room(to):
            return False
        link = self._first_link(to, sealed)
        if link is not None and link.high:
            return False
        if link is not None or self._runtime.link_count:
            return self._router.has_session_room(to, size)
        return self._router.has_unlinked_room

    async def wait_room(self, to: NodeId, size: int, *, sealed: bool) -> None:
        """Waits until a message can be sent, and gives way; raises if the node is closing."""
        await self._sends.give_way()
        while not self.has_room(to, size, sealed=sealed):
            link = self._first_link(to, sealed)
            if link is None or not link.high:
                await self._desk.wait_change()
            else:
                await link.wait_room()
                self._desk.check_open()

    async def deliver(self, to: NodeId, payload: bytes, timeout: float) -> Receipt:
        """Sends until acknowledged; raises the `DeliveryError` otherwise."""
        runtime, desk = self._runtime, self._desk
        desk.check_open()
        deadline = trio.current_time() + timeout
        with trio.move_on_at(deadline):
            while not self._has_delivery_room(len(payload)):
                await desk.wait_change()
        if not self._has_delivery_room(len(payload)):
            raise DeliveryError(f"too many confirmed messages were under way for {timeout:g} s", "not_delivered")
        now = trio.current_time()
        message_id, actions = self._router.deliver(to, payload, max(deadline - now, 0.0), now)
        waiter = desk.deliveries[message_id] = Waiter()
        try:
            runtime.act(actions)
            receipt = await waiter.get()
        finally:
            if desk.deliveries.pop(message_id, None) is not None:
                self._router.cancel_delivery(message_id)
                desk.change()
        assert isinstance(receipt, Receipt)
        return receipt

    def _has_delivery_room(self, size: int) -> bool:
        count, total = self._router.pending_deliveries
        limits = self._runtime.limits
        return count < limits.pending_deliveries and total + size <= limits.pending_deliveries_bytes

    # Receiving

    async def receive(self) -> Message:
        """The next message of the mailbox."""
        await self._receives.give_way()
        message, size = self._desk.receive_nowait() or await self._desk.receive()
        self._router.taken(size)
        return message

    # Links

    async def connect(self, to: NodeId, prefer: Preference) -> None:
        """Makes a direct link, or raises why there is none."""
        runtime = self._runtime
        self._desk.check_open()
        if runtime.legacy is not None and runtime.legacy.is_linked(to):
            return
        with self._desk.wish(to, prefer) as waiter:
            try:
                with trio.move_on_after(runtime.limits.connect_timeout):
                    await self._ask_for_link(to, prefer)
                    self._check_connected(to, await waiter.get())
                    return
            finally:
                so_far = self._router.connecting(to)
                if self._desk.wishes(to) == 1:
                    if runtime.legacy is not None:
                        runtime.legacy.cancel_connect(to)
                    runtime.act(self._router.cancel_connect(to))
        if waiter.settled:  # in the same moment
            self._check_connected(to, await waiter.get())
            return
        if so_far is not None and self._originals_for(to) is None:
            self._check_connected(to, so_far)
        if self._router.record_of(to) is not None:
            raise NegotiationFailed(f"{short(to)} is known, but no link with it came about in time")
        raise PeerUnreachable(f"no record of {short(to)} was found", "not_delivered")

    async def _ask_for_link(self, to: NodeId, prefer: Preference) -> None:
        """Asks the gateway, the router, or both, while it is not known whose the id is; the wish is granted or not."""
        original = await self.is_original(to)
        originals = self._originals_for(to)
        if originals is not None:
            originals.connect(to, prefer)
            if original:
                return
        started, actions = self._router.connect(to, trio.current_time(), prefer)
        self._runtime.act(actions)
        if not started:
            raise NegotiationFailed("too many direct links are being made at once")

    def _check_connected(self, to: NodeId, result: object) -> None:
        if isinstance(result, NotConnected):
            if result.known:
                hint = "; this node was opened without webrtc" if self._runtime.webrtc is None else ""
                raise NegotiationFailed(f"no direct link with {short(to)}: {result.reason}{hint}")
            raise PeerUnreachable(f"{short(to)} was not found: {result.reason}", "not_delivered")

    def disconnect(self, to: NodeId) -> None:
        """Closes a direct link, and remembers."""
        self._runtime.act(self._router.disconnect(to, trio.current_time()))
        if self._runtime.legacy is not None:
            self._runtime.legacy.disconnect(to)

    async def lookup(self, to: NodeId) -> PeerRecord:
        """Finds a record, or raises PeerUnreachable."""
        runtime = self._runtime
        known = self._router.record if to == runtime.identity.id else self._router.record_of(to)
        if known is not None:
            return known
        self._desk.check_open()
        asked = bool(self._router.table.closest_relays(to, 1))
        with self._desk.looking() as waiter:
            started, actions = self._router.lookup(to, waiter, trio.current_time())
            runtime.act(actions)
            if started:
                with trio.move_on_after(2 * runtime.limits.lookup_timeout):
                    found = await waiter.get()
                    assert isinstance(found, Found)
                    if found.record is not None:
                        return found.record
                    if runtime.legacy is not None:
                        runtime.legacy.looked_up(to, asked=asked)
        raise PeerUnreachable(f"no record of {short(to)} was found", "not_delivered")

    # What there is

    def link_infos(self) -> Iterator[LinkInfo]:
        """Every link that is up."""
        table = self._router.table
        for link in self._runtime.links:
            neighbour = table.get(link.peer)
            if link.legacy and not link.closing:
                yield link.info("legacy", None)
            elif neighbour is not None and neighbour.link is link:
                yield link.info("relay" if neighbour.trusted else "leaf", neighbour.rtt)

    def statistics(self) -> NodeStatistics:
        """Counters and sizes."""
        runtime = self._runtime
        counts = Counter(self._router.counts()) + runtime.counts
        sizes = dict(self._router.sizes())
        if runtime.legacy is not None:
            counts.update(runtime.legacy.counts)
            sizes.update(runtime.legacy.sizes)
        counts.update({f"transport_{name}": count for name, count in self._transport.snapshot().items()})
        counts["mailbox_closed"] = self._desk.lost
        return NodeStatistics(
            counts=dict(+counts),
            sizes=sizes,
            links=runtime.link_count,
            relaying=self._router.relaying,
            backlog=sum(link.backlog.size for link in runtime.links),
            neighbours=tuple(self.link_infos()),
        )
