"""Addresses of the other side, on their way into ICE: bounded, checked, and looked up in the background."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections import Counter
from collections.abc import Callable
from typing import Final

from aiortc.rtcicetransport import RTCIceCandidate, RTCIceTransport
from aiortc.sdp import candidate_from_sdp

from ...wire.description import MAX_CANDIDATES, Candidate

__all__ = ["Candidates", "Signalled", "split_description"]

_UFRAG: Final = re.compile(r" ufrag ([^ ]+)")
_LOCAL_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,63}\.local", re.ASCII)
"""A name that hides an address, resolved by multicast DNS (draft-ietf-mmusic-mdns-ice-candidates)."""


class Signalled:
    """What a description says about candidates: `candidates`, and whether these are all (`complete`).

    `line` and `mid` are those of the section whose transport is used, and `ufrag` is its ICE user name; `mid` is None
    where there is one section only.
    """

    def __init__(
        self,
        candidates: list[Candidate],
        complete: bool,
        line: int = 0,
        mid: str | None = None,
        ufrag: str | None = None,
    ) -> None:
        self.candidates: Final = candidates
        self.complete: Final = complete
        self.line: Final = line
        self.mid: Final = mid
        self.ufrag: Final = ufrag

    def concerns(self, candidate: Candidate) -> bool:
        """Whether it is of that section, as far as it says of which it is."""
        if self.mid is not None and candidate.mid is not None:
            return candidate.mid == self.mid
        return candidate.line in (None, self.line)


def split_description(sdp: str) -> tuple[str, Signalled]:
    """Takes the candidates out of a checked description: aiortc would wait for their names, and fail at a bad one.

    The group goes, too: it bundles one section with nothing, and a wrong one would cost aiortc its transport.
    The candidates are all when the description says so, or when it has some and does not promise more
    (RFC 8840 section 4.1.1).
    """
    kept: list[str] = []
    candidates: list[Candidate] = []
    ended = trickles = False
    for line in re.split(r"\r\n|\r|\n", sdp):
        if line.startswith("a=candidate:"):
            candidates.append(Candidate(line[2:], None, 0))
        elif line == "a=end-of-candidates":
            ended = True
        elif line and not line.startswith("a=group:"):
            kept.append(line)
            trickles = trickles or (line.startswith("a=ice-options:") and "trickle" in line[14:].split())
    return "\r\n".join([*kept, ""]), Signalled(candidates, ended or bool(candidates and not trickles))


class Candidates:
    """Plain functions, in asyncio context; `spawn` starts a task there.

    Attributes:
        tasks: those that are on their way; to be cancelled before the connection is closed.
    """

    def __init__(
        self, spawn: Callable[..., asyncio.Task[None]], ice: Callable[[], RTCIceTransport], counters: Counter[str]
    ) -> None:
        self.tasks: Final[list[asyncio.Task[None]]] = []
        self._spawn: Final = spawn
        self._ice: Final = ice
        self._counters: Final = counters
        self._early: list[Candidate | None] | None = []
        self._signalled = Signalled([], False)
        self._count = 0
        self._ended = False
        self._hidden = False

    def add(self, candidate: Candidate | None) -> None:
        """One more, or None for the end; those that come before `begin` are kept, those beyond a bound ignored."""
        if candidate is not None and not candidate.candidate.removeprefix("candidate:"):
            candidate = None
        if self._ended:
            self._counters["webrtc_candidates_ignored"] += candidate is not None
            return
        if candidate is not None and not self._has_room():
            return
        self._ended = candidate is None
        if self._early is not None:
            self._early.append(candidate)
        elif candidate is None:
            self.tasks.append(self._spawn(self._end, list(self.tasks)))
        else:
            self.tasks.append(self._spawn(self._take, candidate))

    def _has_room(self) -> bool:
        self._count += 1
        if self._count <= MAX_CANDIDATES:
            return True
        self._counters["webrtc_candidates_ignored"] += 1
        return False

    async def begin(self, signalled: Signalled) -> None:
        """asyncio. The other side's description is there, with these in it; the early ones follow.

        Those that are no names, and the end of them, are with ICE when it begins, which is after this: it would look
        for them only 20 ms later.
        """
        self._signalled = signalled
        early, self._early = self._early or [], None
        self._ended = False
        self._count -= sum(kept is not None for kept in early)  # counted when they came
        for candidate in (*signalled.candidates, *early):
            if candidate is not None and ".local " not in candidate.candidate:
                if self._has_room():
                    await self._take(candidate)
            elif candidate is not None:
                self.add(candidate)
        if not (signalled.complete or None in early):
            return
        if self.tasks:
            self.add(None)
        elif not self._ended:
            self._ended = True
            await self._end([])

    async def _take(self, candidate: Candidate) -> None:
        """asyncio. A candidate that is none, or of a kind that is of no use here, is ignored."""
        ours = self._signalled.concerns(candidate) and self._is_of_this_description(candidate)
        found = _parse_untrusted(candidate) if ours else None
        if found is None:
            self._counters["webrtc_candidates_ignored"] += 1
        elif found.protocol.lower() == "udp" and found.component == 1:
            try:
                await self._ice().addRemoteCandidate(found)
            except (ValueError, OSError):  # OSError: no multicast on this machine
                self._counters["webrtc_candidates_ignored"] += 1
        if found is not None and _LOCAL_NAME.fullmatch(found.ip) and not self._knows(found.ip):
            self._hidden = True

    async def _end(self, before: list[asyncio.Task[None]]) -> None:
        """asyncio. ICE gives up as soon as no address is left to try; one that hides may still come to us by itself."""
        if before:
            await asyncio.wait(before)
        if not self._hidden:
            await self._ice().addRemoteCandidate(None)

    def _is_of_this_description(self, candidate: Candidate) -> bool:
        """As far as it says so (RFC 8840 section 4.2): another offer of the other side may have been given up."""
        named = _UFRAG.search(candidate.candidate)
        return named is None or self._signalled.ufrag in (None, named[1])

    def _knows(self, name: str) -> bool:
        return any(candidate.ip == name for candidate in self._ice().getRemoteCandidates())


def _parse_untrusted(candidate: Candidate) -> RTCIceCandidate | None:
    """None when it is not such that aioice may send to it."""
    if len(candidate.candidate) > 512:
        return None
    try:
        found = candidate_from_sdp(candidate.candidate.removeprefix("candidate:"))
        if not _LOCAL_NAME.fullmatch(found.ip):
            address = ipaddress.ip_address(found.ip)
            if address.is_multicast or address.is_unspecified:
                return None
    except (ValueError, AssertionError):
        return None
    # TCP candidates have the port 9, and are not used.
    return found if 0 < found.port < 65536 and 0 < found.component < 257 and 0 <= found.priority < 1 << 32 else None
