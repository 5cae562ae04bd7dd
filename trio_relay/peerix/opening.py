"""How a room is opened: its options, its driver, WebRTC, and its first stay."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Literal

import trio

from ..node.services import open_services
from ..transports import webrtc_implementation
from ..transports.bundle import BundleFactory
from ..transports.webrtc import IceServer
from .drivers.driver import Driver
from .drivers.memory import default_memory_driver
from .options import DEFAULT_LABEL, RoomLimits, RoomOptions, Verify
from .room import Room

__all__ = ["open_room"]


@asynccontextmanager
async def open_room(
    id: str = DEFAULT_LABEL,
    *,
    driver: Driver | None = None,
    metadata: Any = None,
    ice_servers: tuple[IceServer, ...] = (),
    ice_transport_policy: Literal["all", "relay"] = "all",
    candidate_debounce: float = 0.05,
    connection_timeout: float = 15.0,
    namespace_hashing: bool = True,
    signaling_compression: bool = True,
    signaling_encryption: bool = True,
    verify: Verify | None = None,
    join_timeout: float = 15.0,
    factory: BundleFactory | None = None,
    limits: RoomLimits | None = None,
) -> AsyncIterator[Room]:
    """Enters a room, and gives it to the block; the end of the block leaves it.

    Args:
        id: the name of the room: whoever knows it, and reaches the same broker, can come in.
        driver: what carries the signalling; it is opened for the room, unless it is open already. Default: one in
            this process that all rooms without a driver share.
        metadata: any JSON value that the other members get.
        ice_servers: STUN and TURN servers; see `trio_relay.WebRTCConfig`.
        ice_transport_policy: ``"relay"`` uses the TURN server and nothing else.
        candidate_debounce: seconds; taken for the sake of the original's options, and without effect: all addresses
            of ours stand in our descriptions, so none are sent after them.
        connection_timeout: seconds until the connection with a member is up; 0: no limit.
        namespace_hashing: whether the broker sees hashes of the room's name and of members' ids only; equal at all
            members, like `signaling_encryption`.
        signaling_compression: whether our packets may be compressed.
        signaling_encryption: whether packets are sealed for their receiver.
        verify: called with a member's id and metadata, before it is connected to; it may be asynchronous. False, an
            exception (told as an `ErrorEvent`), or no answer in time keep the member out.
        join_timeout: seconds until the driver carries packets.
        factory: makes WebRTC connections; default: aiortc.
        limits: see `RoomLimits`.

    Raises:
        RoomError: ``SIGNALING_ERROR``: the driver does not become active, or can not subscribe, in time.
        ValueError, TypeError: an option makes no sense.
        ImportError: WebRTC is not installed: ``pip install 'trio-relay[room]'``.
    """
    options = RoomOptions(
        ice_servers=tuple(ice_servers),
        ice_transport_policy=ice_transport_policy,
        candidate_debounce=candidate_debounce,
        connection_timeout=connection_timeout,
        namespace_hashing=namespace_hashing,
        signaling_compression=signaling_compression,
        signaling_encryption=signaling_encryption,
        verify=verify,
        join_timeout=join_timeout,
        factory=factory,
        limits=limits if limits is not None else RoomLimits(),
    )
    if not isinstance(id, str):
        raise TypeError(f"expected the name of a room, not {type(id).__name__}")
    carrier = driver if driver is not None else default_memory_driver()
    counts: Counter[str] = Counter()
    async with AsyncExitStack() as stack:
        make = options.factory
        if make is None:
            make = await stack.enter_async_context(
                webrtc_implementation.load_bundle()(close_timeout=options.limits.close_timeout)
            )
        await stack.enter_async_context(carrier.use())
        services = await stack.enter_async_context(open_services())
        room = Room(id, carrier, options, make, services, counts)
        try:
            await room.join(metadata)
            yield room
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(2 * options.limits.close_timeout):
                await room.close()
