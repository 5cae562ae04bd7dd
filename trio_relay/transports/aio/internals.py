"""Private attributes of aiortc, aioice and asyncio that this folder touches, each with its reason.

Those that media need are in `media_internals`, and what bounds the pieces of messages is in `fragments`.

`missing` names those that the installed versions lack; a test holds it empty. Functions are plain and callable from
both sides, but for `send_window_update`, which is asyncio's, and `restart`, which is Trio's.
"""

from __future__ import annotations

import asyncio
import asyncio.selector_events
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, cast

import aioice.ice
import aioice.stun
import trio
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtcsctptransport import RTCSctpTransport
from OpenSSL import SSL

from ..webrtc import CandidatePair, CandidateType

__all__ = [
    "abort_sockets",
    "add_window",
    "announced_size",
    "bound_datagrams",
    "bound_slow_start",
    "context_owner",
    "eager_datagrams",
    "executor",
    "forget_closed_mdns",
    "hasten_checks",
    "ice_connection",
    "ice_has_ended",
    "missing",
    "on_packet",
    "remote_said_goodbye",
    "restart",
    "selected_pair",
    "send_window_update",
    "set_patience",
    "set_window",
    "stop_timers",
    "unacknowledged",
    "window",
]

_AT_ONCE: Final = 32
"""Datagrams that are read when a socket becomes readable, before anybody else has a turn."""
_PACE: Final = 0.02
"""Seconds from one check of ICE to the next: aioice's own."""
_SLOW_START: Final = 64 * 1024
"""Bytes: half of what the receive buffer of a socket on Linux holds by default, in datagrams of 1,200 bytes."""
_Datagrams: Any = asyncio.selector_events._SelectorDatagramTransport  # type: ignore[attr-defined]


def ice_connection(dtls: RTCDtlsTransport) -> aioice.Connection:
    """The ICE agent: aiortc shows neither its chosen pair nor its sockets."""
    connection: aioice.Connection = dtls.transport._connection
    return connection


def selected_pair(dtls: RTCDtlsTransport) -> CandidatePair | None:
    """From the nominated pair of the first component, the only one that there is."""
    pair = ice_connection(dtls)._nominated.get(1)
    if pair is None:
        return None
    # `remote_addr` is the address in use, where `remote_candidate.host` may be a name.
    local, remote = _shown(*pair.local_addr), _shown(*pair.remote_addr)
    kinds = cast(CandidateType, pair.local_candidate.type), cast(CandidateType, pair.remote_candidate.type)
    return CandidatePair(*kinds, local, remote)


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def ice_has_ended(dtls: RTCDtlsTransport) -> bool:
    """Whether ICE closed by itself, as it does when the other side has not answered for too long."""
    return bool(ice_connection(dtls)._closing)


def set_patience(dtls: RTCDtlsTransport, gathering: float, checking: float) -> None:
    """Shortens what aioice waits for, on this connection alone: 5 s and 63.5 s, which is the most.

    Args:
        gathering: for STUN and TURN servers.
        checking: for answers to the checks of one pair; they are repeated after 0.5, 1, 2, 4 ... s.
    """
    connection: Any = ice_connection(dtls)
    connection.get_component_candidates = partial(connection.get_component_candidates, timeout=gathering)
    repetitions, total = 0, 1.5
    while total <= checking and repetitions < aioice.stun.RETRY_MAX:
        repetitions, total = repetitions + 1, 2 * total + 0.5
    start = connection.check_start

    async def check_start(pair: Any) -> None:
        # `request` is called with a number of its own for the checks of consent, which this default does not change.
        if not isinstance(pair.protocol.request, partial):
            pair.protocol.request = partial(pair.protocol.request, retransmissions=repetitions)
        await start(pair)

    connection.check_start = check_start


class _BoundedQueue(asyncio.Queue[Any]):
    """Drops datagrams beyond its bound, and what is not DTLS (RFC 7983): aiortc ends at an empty one.

    None, which ends the reader, always fits.
    """

    def __init__(self, bound: int, on_drop: Callable[[], None], media: bool) -> None:
        super().__init__()
        self._bound = bound
        self._on_drop = on_drop
        self._media = media

    def put_nowait(self, item: Any) -> None:
        if item is not None and (self.qsize() >= self._bound or not self._is_wanted(item[0])):
            self._on_drop()
        else:
            super().put_nowait(item)

    def _is_wanted(self, data: bytes) -> bool:
        return bool(data) and (19 < data[0] < 64 or (self._media and 127 < data[0] < 192))


def bound_datagrams(dtls: RTCDtlsTransport, bound: int, on_drop: Callable[[], None], *, media: bool) -> None:
    """Bounds the datagrams that wait: anybody can send them, and before ICE is done nobody reads them.

    Args:
        on_drop: callback; one more than `bound` came, or one that is not DTLS.
        media: RTP and RTCP are wanted, too.
    """
    ice_connection(dtls)._queue = _BoundedQueue(bound, on_drop, media)


def hasten_checks(dtls: RTCDtlsTransport) -> None:
    """Lets ICE end when a check has succeeded: aioice looks for that only every 20 ms, between two checks."""
    connection: Any = ice_connection(dtls)
    periodic: Callable[[], bool] = connection._check_periodic

    async def go_on() -> None:
        more = True
        while more:
            await asyncio.sleep(_PACE)
            more = periodic()

    def check_periodic() -> bool:
        more = periodic()
        if more and connection._check_list:
            # Without a pair aioice would take this for the end of all checks.
            connection.trio_relay_checks = asyncio.ensure_future(go_on())
            return False
        return more

    connection._check_periodic = check_periodic


def bound_slow_start(sctp: RTCSctpTransport) -> None:
    """Where slow start ends: aiortc goes on to the other side's window, and overruns the buffer of its socket.

    Called when the association is up; what is lost there takes aiortc seconds to send again.
    """
    sctp._ssthresh = min(sctp._ssthresh, _SLOW_START)


class _EagerDatagrams(_Datagrams):  # type: ignore[misc]
    """A UDP socket that is read until it is empty, or up to a bound.

    asyncio reads one datagram each time that the socket becomes readable, and to wait for that is what costs most.
    """

    def _read_ready(self) -> None:
        for _ in range(_AT_ONCE):
            if self._conn_lost:
                return
            try:
                data, address = self._sock.recvfrom(self.max_size)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._protocol.error_received(error)
                return
            self._protocol.datagram_received(data, address)


@contextmanager
def eager_datagrams(loop: Any, wanted: Callable[[], bool]) -> Iterator[None]:
    """For the block, UDP sockets that are opened where `wanted` says so are eager."""
    original = loop._make_datagram_transport

    def make(*args: Any, **options: Any) -> Any:
        return _EagerDatagrams(loop, *args, **options) if wanted() else original(*args, **options)

    loop._make_datagram_transport = make
    try:
        yield
    finally:
        if loop.__dict__.get("_make_datagram_transport") is make:
            del loop._make_datagram_transport


def set_window(sctp: RTCSctpTransport, size: int) -> None:
    """The receive window that is announced; aiortc has no setting for it."""
    sctp._advertised_rwnd = size


def add_window(sctp: RTCSctpTransport, size: int) -> None:
    """Opens (or, when negative, narrows) the window: aiortc takes a message as read when it has emitted it."""
    sctp._advertised_rwnd += size


def window(sctp: RTCSctpTransport) -> int:
    """Negative when the other side did not keep to it; aiortc announces 0 then and takes all the same."""
    size: int = sctp._advertised_rwnd
    return size


async def send_window_update(sctp: RTCSctpTransport) -> None:
    """asyncio. Tells the other side that the window is open again: aiortc acknowledges only what arrives."""
    if sctp.state == "connected" and sctp._last_received_tsn is not None:
        try:
            await sctp._send_sack()
        except ConnectionError:
            return


def announced_size(sctp: RTCSctpTransport) -> int:
    """The largest message that the other side takes, 0 for any; aiortc checks it but does not show it."""
    size: int = sctp._remote_max_message_size
    return size


def unacknowledged(sctp: RTCSctpTransport) -> bool:
    """Whether a sent message is not wholly at the other side: `bufferedAmount` ends at the SCTP queue."""
    return bool(sctp._data_channel_queue or sctp._outbound_queue or sctp._sent_queue)


def on_packet(sctp: RTCSctpTransport, around: Callable[[Callable[[bytes], Awaitable[None]], bytes], Any]) -> None:
    """Lets `around` call the method that takes a packet: a failure in there would end the pump without a trace."""
    transport: Any = sctp
    transport._handle_data = partial(around, sctp._handle_data)


def stop_timers(sctp: RTCSctpTransport) -> None:
    """An association that begins while its connection closes would repeat its first packet for minutes."""
    sctp._t1_cancel()
    sctp._t2_cancel()
    sctp._t3_cancel()
    sctp._reconfig_timer_cancel()


def remote_said_goodbye(dtls: RTCDtlsTransport) -> bool:
    """Whether DTLS ended by a closing alert: its state is ``closed`` for every kind of end."""
    ssl = dtls._ssl
    return ssl is not None and bool(ssl.get_shutdown() & SSL.RECEIVED_SHUTDOWN)


def abort_sockets(loop: asyncio.AbstractEventLoop, connection: aioice.Connection) -> int:
    """Closes what is open of one connection: aioice forgets the sockets of a gathering that was cancelled.

    Returns:
        how many sockets there were.
    """
    transports: Any = getattr(loop, "_transports", {})
    count = 0
    for transport in list(transports.values()):
        if not transport.is_closing() and _belongs(transport.get_protocol(), connection):
            transport.abort()
            count += 1
    return count


def _belongs(protocol: object, connection: aioice.Connection) -> bool:
    """A socket's protocol is aioice's own, or TURN's with it as its receiver, or TLS with one of these inside."""
    protocol = getattr(protocol, "_app_protocol", protocol)
    for _ in range(2):
        protocol = getattr(protocol, "receiver", None)
        if protocol is connection:
            return True
    return False


async def restart(loop: Any, nursery: trio.Nursery) -> None:
    """Trio. Lets a loop that somebody stopped run until its end: trio-asyncio would wait for its tasks for ever."""
    if not loop.is_running():
        loop._stop_wait = None
        await nursery.start(loop._main_loop)
    for transport in list(loop._transports.values()):
        transport.abort()


def context_owner(thing: object) -> Any:
    """The `contextvars.Context` of a handle or, where Python shows it (3.12), of a task."""
    shown = getattr(thing, "get_context", None)
    return shown() if shown is not None else getattr(thing, "_context", None)


def executor(loop: asyncio.AbstractEventLoop) -> Any:
    """What runs functions in threads; asyncio can only set it."""
    return cast(Any, loop)._default_executor


def forget_closed_mdns() -> None:
    """Drops aioice's resolver of this thread when its loop has ended: it would be used by the next one."""
    state = aioice.ice._mdns
    lock = getattr(state, "lock", None)
    protocol = getattr(state, "protocol", None)
    transport = getattr(protocol, "transport", None)
    loops = [getattr(lock, "_loop", None), getattr(transport, "_loop", None)]
    if any(loop is not None and loop.is_closed() for loop in loops):
        state.__dict__.clear()


def missing(loop: asyncio.AbstractEventLoop, sctp: RTCSctpTransport) -> list[str]:
    """The names used here that the installed versions do not have; `sctp` is one that has not started."""
    connection = ice_connection(sctp.transport)
    pair = aioice.ice.CandidatePair
    wanted: list[tuple[object, str]] = [
        *((loop, name) for name in ("_transports", "_stop_wait", "_main_loop", "_default_executor")),
        (loop, "_make_datagram_transport"),
        *((_Datagrams, name) for name in ("_read_ready", "max_size")),
        (asyncio.Handle(print, (), loop), "_context"),
        (asyncio.Lock(), "_loop"),
        (aioice.ice, "_mdns"),
        *((connection, name) for name in ("_nominated", "_closing", "_queue", "_check_periodic", "_check_list")),
        *((connection, name) for name in ("get_component_candidates", "check_start")),
        *((pair, name) for name in ("local_candidate", "local_addr", "remote_addr")),
        (aioice.ice.StunProtocol, "request"),
        (sctp.transport, "_ssl"),
        (sctp.transport.transport, "_connection"),
        *((sctp, name) for name in ("_advertised_rwnd", "_last_received_tsn", "_send_sack", "_handle_data")),
        *((sctp, name) for name in ("_remote_max_message_size", "_data_channel_queue")),
        *((sctp, name) for name in ("_outbound_queue", "_sent_queue", "_inbound_streams", "_get_inbound_stream")),
        *((sctp, name) for name in ("_mark_received", "_receive_data_chunk", "_sack_duplicates", "_sack_misordered")),
        (sctp, "_sack_needed"),
        *((sctp, name) for name in ("_t1_cancel", "_t2_cancel", "_t3_cancel", "_reconfig_timer_cancel")),
    ]
    return [name for thing, name in wanted if not hasattr(thing, name)]
