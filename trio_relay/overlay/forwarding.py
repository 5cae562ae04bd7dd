"""The relay path: frames of one neighbour in, the same frames towards their targets out; pure.

Rules of this file:

1. A frame makes strict progress towards its target or takes one of its detours; with the hop limit this excludes
   loops, so nothing is remembered about frames that pass.
2. A leaf sends in its own name only. A frame never goes back over the link it came from.
3. A frame is not re-encoded: its hop limit and detours are patched in place, and runs of frames for the same
   link leave as one piece.
4. Every frame that is not forwarded is counted by reason.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Final, cast

from .._bounded import TokenBucket
from ..exceptions import RemoteProtocolError
from ..wire.frame import FIRST_LINK_LOCAL, HEADER, HEADER_LENGTH, MAX_MESSAGE, VERSION, Kind
from ..wire.ids import NodeId
from .state import State
from .table import Neighbour

__all__ = ["Forwarder", "Local"]

Local = Callable[[Neighbour, int, int, int, int, NodeId, bytes, bytes], None]
"""(via, hop limit, attempt, kind, flags, source, message id, payload): a frame addressed to us."""

_DATA: Final = int(Kind.DATA)
_unpack: Final = struct.Struct("!BBxBBxH20s20s").unpack_from
"""Hop limit, attempt, version, kind, length, target and source of a header: what the hot loop looks at."""
_HINTS_PER_SECOND: Final = 200.0
_HINTS_BURST: Final = 400.0
_RETRY_PATHS: Final = 3
_DETOUR_TURNS: Final = 4


class Forwarder:
    """Moves frames between neighbours; what is for us goes to `local`."""

    def __init__(self, state: State, local: Local) -> None:
        self._state: Final = state
        self._local: Final = local
        self._hints: Final = TokenBucket(_HINTS_PER_SECOND, _HINTS_BURST, state.now)

    def receive(self, messages: Sequence[bytes | str], via: Neighbour) -> None:
        """Handles the WebSocket messages of one read.

        Raises:
            RemoteProtocolError: a message is not whole frames of our version; the frames before it are handled.
        """
        if len(messages) == 1 and type(messages[0]) is bytes:
            self._receive_joined(bytearray(messages[0]), (len(messages[0]),), via)
            return
        types = list(map(type, messages))
        whole = types.index(str) if str in types else len(types)
        binary = cast(Sequence[bytes], messages[:whole])
        self._receive_joined(bytearray().join(binary), accumulate(map(len, binary)), via)
        if whole < len(messages):
            raise RemoteProtocolError("expected binary messages on an overlay link, not text", 1003)

    def _receive_joined(self, data: bytearray, ends: Iterable[int], via: Neighbour) -> None:
        """The hot loop, over messages that were joined, since many are one frame long; `ends` is where each ends.

        A run is a stretch of frames that leave over the same link, in one piece, whatever messages they came in. A
        frame in the usual case costs one unpacked header, one look in the cache of next hops, one patched byte.
        """
        state = self._state
        own, counts, table = state.own, state.counts, state.table
        trusted, relaying, via_id, via_link = via.trusted, state.relaying, via.id, via.link
        cached, next_hop, max_hops = table.next_hops.get, table.next_hop, state.limits.hops
        position = start = frames = end = 0
        run: Neighbour | None = None
        run_control = False
        for end in ends:
            if end - start > MAX_MESSAGE and run is not None:
                state.transmit(run, data[start:position], frames=frames, via=via_link, control=run_control)
                run, start, frames = None, position, 0
            while position < end:
                if end - position < HEADER_LENGTH:
                    break
                hop_limit, attempt, version, kind, length, to, source = _unpack(data, position)
                following = position + HEADER_LENGTH + length
                if version != VERSION or following > end:
                    break
                hop = None
                control = kind != _DATA
                if to == own:
                    self._take(data, position, following, via)
                elif not trusted and source != via_id:
                    counts["spoofed"] += 1
                elif relaying and hop_limit and not attempt and kind < FIRST_LINK_LOCAL:
                    hop = cached(to) or next_hop(to)
                    if hop is None or hop is via:
                        hop = None
                        self._detour(data[position:following], via)
                    else:
                        data[position] = (hop_limit if hop_limit < max_hops else max_hops) - 1
                else:
                    hop = self._unusual(data, position, following, via)
                if hop is not run or control is not run_control:
                    if run is not None:
                        state.transmit(run, data[start:position], frames=frames, via=via_link, control=run_control)
                    run, run_control, start, frames = hop, control, position, 0
                frames += 1
                position = following
            if position != end:
                break
        if run is not None:
            piece = data if position - start == len(data) else data[start:position]
            state.transmit(run, piece, frames=frames, via=via_link, control=run_control)
        if position != end:
            left = f"{data[position : position + 8].hex()} with {end - position} bytes left"
            raise RemoteProtocolError(f"expected a whole frame of version {VERSION}, not {left}")

    def _take(self, message: bytearray, start: int, end: int, via: Neighbour) -> None:
        hop_limit, attempt, _, _, kind, flags, _, _, source, message_id = HEADER.unpack_from(message, start)
        if source == self._state.own or (source != via.id and not via.trusted):
            self._state.counts["spoofed"] += 1
            return
        payload = bytes(message[start + HEADER_LENGTH : end])
        self._local(via, hop_limit, attempt, kind, flags, NodeId(source), message_id, payload)

    def _unusual(self, message: bytearray, start: int, end: int, via: Neighbour) -> Neighbour | None:
        """A frame that is a retry, out of hops, link-local, or comes to a leaf; the hop it takes, if any."""
        state = self._state
        hop_limit, attempt, _, _, kind, _, _, to, _, _ = HEADER.unpack_from(message, start)
        if kind >= FIRST_LINK_LOCAL:
            state.counts["link_local_for_another"] += 1
        elif not state.relaying:
            state.counts["not_a_relay"] += 1
            self._report(message[start:end], via)
        elif hop_limit == 0:
            state.counts["hop_limit"] += 1
        else:
            hop = self._alternative(to, attempt, via)
            if hop is not None:
                message[start] = min(hop_limit, state.limits.hops) - 1
                return hop
            self._detour(message[start:end], via)
        return None

    def _alternative(self, to: bytes, attempt: int, via: Neighbour) -> Neighbour | None:
        """The hop of a retry: each attempt prefers another of the neighbours that bring it closer."""
        direct = self._state.table.direct(to)
        if direct is not None and direct is not via:
            return direct
        choices = [n for n in self._state.table.progress(to, _RETRY_PATHS) if n is not via]
        return choices[attempt % len(choices)] if choices else None

    def _detour(self, frame: bytearray, via: Neighbour) -> None:
        """No way on but back: another relay that brings it closer; else, since we are closest and lack the link, one
        copy to each of the next relays, or a hint to the origin."""
        state = self._state
        hop_limit, attempt, detours, _, kind, _, _, to, source, _ = HEADER.unpack_from(frame)
        aside = [n for n in state.table.progress(to, 2) if n is not via][:1]
        if not aside:
            aside = self._aside(to, source, via, attempt, min(detours, state.limits.detours))
            frame[2] = 0
            state.counts["detours"] += len(aside)
        if not aside or not hop_limit:
            state.counts["unreachable"] += 1
            self._report(frame, via)
            return
        frame[0] = min(hop_limit, state.limits.hops) - 1
        for neighbour in aside:
            state.transmit(neighbour, frame, via=via.link, control=kind != Kind.DATA)

    def _aside(self, to: bytes, source: bytes, via: Neighbour, attempt: int, count: int) -> list[Neighbour]:
        """The next closest relays; each retry takes those after, for a leaf whose closest relays were full."""
        skip = count * (attempt % _DETOUR_TURNS)
        near = self._state.table.closest_transit(to, skip + count + 2)
        near = [n for n in near if n is not via and n.id != source]
        return near[skip : skip + count] or near[:count]

    def _report(self, frame: bytearray, via: Neighbour) -> None:
        """Tells the origin that its frame went no further; that may be ourselves, when it came back on a detour."""
        state = self._state
        _, attempt, _, _, kind, _, _, to, source, message_id = HEADER.unpack_from(frame)
        if kind not in (Kind.DATA, Kind.FIND, Kind.CONNECT, Kind.SESSION):
            return
        hint = to + bytes([attempt])
        if source == state.own:
            self._local(via, 0, 0, Kind.UNREACHABLE, 0, state.own, message_id, hint)
        elif not self._hints.take(state.now):
            state.counts["hint_rate"] += 1
        else:
            state.send(Kind.UNREACHABLE, NodeId(source), message_id, hint)
