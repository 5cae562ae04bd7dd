"""One connection with many data channels and streams over aiortc, negotiated again while it lasts, for Trio tasks."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, cast

import trio
from aiortc import RTCConfiguration, RTCDtlsTransport

from ...exceptions import NegotiationFailed
from ...wire.bundle_description import Outline, check_bundle_description_untrusted
from ...wire.description import Candidate
from ..bundle import BundleState, StreamTrack
from ..webrtc import MediaTrack, WebRTCConfig
from . import bundle_internals, internals
from .bundle_channel import BundleChannel
from .bundle_channels import MAX_STREAMS, BundleChannels, make_parameters
from .bundle_consent import Consent
from .bundle_lines import Line, Lines, Plan
from .bundle_media import Media
from .bundle_numbers import common_codecs, common_extensions
from .bundle_patience import LateEnd
from .bundle_sections import Described, Own, Section, Written, read, write
from .bundle_transport import BundleTransport, Role
from .candidates import Signalled
from .closing import Connection
from .guarded import Guarded
from .loop import Loop

__all__ = ["Bundle"]

_ANSWERS: Final[dict[str, Role]] = {"auto": "client", "client": "server", "server": "client"}
"""Our role in DTLS by that of the other side; ``"auto"`` can stand in an offer only (RFC 8842 section 5.3)."""


class Bundle(Guarded):
    """Implements `trio_relay.transports.bundle.Bundle`."""

    carries_media = True
    max_streams = MAX_STREAMS

    def __init__(self, loop: Loop, config: WebRTCConfig, counters: Counter[str]) -> None:
        super().__init__(loop, config, counters)
        self._lines: Final = Lines(counters)
        self._media: Final = Media(loop, self._owner, self._transport, self._fate)
        self._channels: Final = BundleChannels(
            loop, self._owner, self._transport.sctp, config, self._fate, self._on_association_ended
        )
        self._draft: list[Line] | None = None
        self._remote: object = None
        self._role: Role = "client"
        self._number: Final = secrets.randbits(62)
        self._version = 0
        self._associated = self._said_goodbye = self._was_over = self._busy = False
        self._late_end: Final = LateEnd(
            loop, config.negotiation_timeout / 2, self._fate.guard(self._on_candidates_ended)
        )
        self._consent: Final = Consent(self._transport.ice, self._changed.unpark_all)
        self._transport.on_progress = self._fate.guard(self._on_progress)
        self._prepare()

    def __repr__(self) -> str:
        return f"<Bundle, {self.state}>"

    # Channels

    def open_channel(
        self,
        label: str,
        *,
        protocol: str = "",
        ordered: bool = True,
        max_retransmits: int | None = None,
        max_packet_lifetime: float | None = None,
        id: int | None = None,
    ) -> BundleChannel:
        """Plain. Makes a data channel; it opens when it can."""
        parameters = make_parameters(
            label,
            protocol=protocol,
            ordered=ordered,
            max_retransmits=max_retransmits,
            max_packet_lifetime=max_packet_lifetime,
            id=id,
        )
        self._fate.check_open()
        channel = self._loop.call(self._owner, self._channels.open, parameters)
        self._changed.unpark_all()
        return channel

    async def accept_channel(self) -> BundleChannel:
        """Trio. Waits for the next data channel that the other side made."""
        return await self._channels.accept()

    # Streams

    def set_stream(self, stream: str, tracks: Sequence[MediaTrack]) -> None:
        """Plain. What is sent as the stream of this id from now on."""
        self._media.check(stream, tracks)
        if not self._fate.over and not self._loop.has_ended:
            self._loop.call(self._owner, self._media.set_stream, stream, tracks)
            self._changed.unpark_all()

    async def accept_track(self) -> StreamTrack:
        """Trio. Waits for the next track of the other side."""
        await trio.lowlevel.checkpoint()
        while True:
            self._fate.check_open()
            if self._media.new:
                return self._media.new.popleft()
            await self._media.arrived.park()

    @property
    def tracks(self) -> tuple[StreamTrack, ...]:
        """Plain. Those of the other side that have not ended."""
        return () if self._fate.over else tuple(incoming.told for incoming in self._media.incoming)

    # Negotiation

    @property
    def needs_negotiation(self) -> bool:
        """Plain. Whether something waits to be told to the other side, and no offer of ours tells it."""
        if self._fate.over or self._draft is not None:
            return False
        if self._lines.channels is None and len(self._channels):
            return True
        told = {line.place for line in self._lines.now if line.role == "ours"}
        return told != {place for place in self._media.places if not place.refused or place in told}

    async def wait_negotiation_needed(self) -> None:
        """Trio. Waits until `needs_negotiation`."""
        await trio.lowlevel.checkpoint()
        while not self.needs_negotiation:
            self._fate.check_open()
            await self._changed.park()

    async def create_offer(self) -> str:
        """Trio. Returns a description of all that there is to be, with all candidates; nothing is changed by it."""
        with self._alone():
            return await self._run("making an offer", self._make_offer)

    async def accept_offer(self, offer: str) -> str:
        """Trio. Takes the other side's offer, and returns the answer, with all candidates."""
        with self._alone():
            outline = self._check_untrusted("offer", offer, check_bundle_description_untrusted)
            return await self._run("taking the offer", self._make_answer, offer, outline)

    async def accept_answer(self, answer: str) -> None:
        """Trio. Takes the answer to the last offer."""
        with self._alone():
            self._fate.check_negotiation()
            draft, self._draft = self._draft, None
            if draft is None:
                raise NegotiationFailed("the answer: there is no offer that it answers")
            outline = self._check_untrusted("answer", answer, check_bundle_description_untrusted)
            await self._run("taking the answer", self._take_answer, answer, outline, draft)

    async def add_candidate(self, candidate: Candidate | None) -> None:
        """Trio. Takes one more address of the other side, None when it has no more."""
        if candidate is not None and candidate.candidate.removeprefix("candidate:"):
            await super().add_candidate(candidate)
        else:
            await self._run("taking the end of candidates", self._late_end.note)

    # State

    @property
    def state(self) -> BundleState:
        """Plain. How it stands."""
        if self._said_goodbye or (self._fate.closed and not self._was_over):
            return "closed"
        if self._fate.over:
            return "failed"
        progress = self._transport.progress
        return "disconnected" if progress == "connected" and self._consent.silent else progress

    async def wait_state(self, than: BundleState) -> BundleState:
        """Trio. Waits until the state is another than `than`, and returns it."""
        await trio.lowlevel.checkpoint()
        while (state := self.state) == than:
            self._fate.raise_bug()
            await self._changed.park()
        self._fate.raise_bug()
        return state

    @property
    def failure(self) -> str:
        """Plain. Why it is failed or closed; empty before."""
        return self._fate.failure or ("the connection was closed here" if self._fate.closed else "")

    async def aclose(self, timeout: float) -> None:
        """Trio, shielded. Ends it."""
        self._was_over = self._was_over or (self._fate.over and not self._fate.closed)
        if not self._loop.has_ended:
            self._loop.call(self._owner, self._media.release)
            self._late_end.stop()
        await super().aclose(timeout)

    # asyncio

    async def _make_offer(self) -> str:
        draft = self._lines.draft(self._media.places)
        await self._gather()
        self._draft = draft
        self._transport.offer()
        return self._write([line.write_offered() for line in draft], "auto")

    async def _make_answer(self, sdp: str, outline: Outline) -> str:
        described = read(sdp, outline)
        self._check_remote(described)
        plan = self._lines.plan_offered(described.sections, self._media.places)
        await self._gather()
        await self._take_candidates(described.signalled)
        self._draft = None
        self._apply(plan, described)
        return self._write([line.write_answered(section) for line, section in plan], self._role)

    async def _take_answer(self, sdp: str, outline: Outline, draft: list[Line]) -> None:
        described = read(sdp, outline)
        self._check_remote(described)
        if described.dtls.role == "auto":
            raise NegotiationFailed("the answer does not say who begins with DTLS")
        plan = self._lines.plan_answered(draft, described.sections)
        await self._take_candidates(described.signalled)
        self._apply(plan, described, draft)

    async def _gather(self) -> None:
        await self._transport.gather()
        self._check_addresses()

    async def _take_candidates(self, signalled: Signalled) -> None:
        """asyncio. Of the first description; those of a later one are known, or not needed any more."""
        if self._transport.progress == "new":
            await self._candidates.begin(signalled)

    # Plain, in asyncio context

    def _make(self, configuration: RTCConfiguration) -> Connection:
        return BundleTransport(configuration)

    @property
    def _transport(self) -> BundleTransport:
        return cast(BundleTransport, self._connection)

    def _find_dtls(self) -> RTCDtlsTransport | None:
        return self._transport.dtls

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if self._busy:
            raise trio.BusyResourceError("another task negotiates")
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
            self._changed.unpark_all()

    def _check_remote(self, described: Described) -> None:
        """Refuses another transport than the one that there is: aiortc cannot change to it."""
        if self._remote is not None and self._remote != described.identity:
            raise NegotiationFailed("ICE restarts are not possible, and this is another transport or certificate")

    def _apply(self, plan: Plan, described: Described, draft: Sequence[Line] = ()) -> None:
        """Nothing in here waits: it happens as a whole. `draft` is of the offer, when it was ours."""
        kept = {line for line, _ in plan}
        for line in {*self._lines.now, *draft} - kept:
            self._media.end(line)
        self._lines.now = [line for line, _ in plan]
        self._learn(described.sections)
        for line, section in plan:
            self._update(line, section)
        if self._transport.progress == "new":
            self._remote = described.identity
            self._role = _ANSWERS[described.dtls.role]
            self._transport.connect(described.ice, described.dtls, self._role, offered=bool(draft))

    def _learn(self, sections: Iterable[Section]) -> None:
        for section in sections:
            if section.media is not None and section.kind != "application":
                self._lines.numbers.learn(section.media.rtp.codecs, section.media.rtp.headerExtensions)

    def _update(self, line: Line, section: Section | None) -> None:
        if section is None or section.media is None:
            return
        media = section.media
        if line.role == "channels":
            if not self._associated and media.sctp_port is not None:
                self._transport.start_channels(media.sctpCapabilities, media.sctp_port)
        elif line.role == "theirs":
            self._media.receive(line, section)
        elif line.place is not None:
            if not line.place.started:
                line.codecs = common_codecs(line.kind, media.rtp.codecs)
                line.extensions = common_extensions(line.kind, media.rtp.headerExtensions)
            self._media.send(line, section)

    def _write(self, sections: list[Written], role: str) -> str:
        self._version += 1
        transport = self._transport
        own = Own(transport.ice_parameters, transport.candidates, transport.fingerprints, role, transport.sctp.port)
        return write(sections, own, number=self._number, version=self._version, cname=self._media.cname)

    def _say_goodbye(self) -> None:
        """The other side wants no more."""
        if not self._fate.over:
            self._said_goodbye = True
            self._channels.end()
            self._fate.fail("the other side closed the connection")

    # Callbacks, in asyncio context

    def _on_candidates_ended(self) -> None:
        if not self._fate.over and self._transport.progress == "connecting":
            self._candidates.add(None)

    def _on_progress(self) -> None:
        progress = self._transport.progress
        if progress == "connected":
            bundle_internals.bound_sources(self._transport.dtls, self._on_dropped)
        elif progress == "failed" and not self._fate.over:
            ice = self._transport.ice.state == "failed"
            self._fate.fail("ICE: no pair of addresses works" if ice else "DTLS: the handshake failed")
        elif progress == "closed" and not self._fate.over:
            reason = self._ending()
            if reason is None:
                self._say_goodbye()
            else:
                self._fate.fail(reason)
        self._changed.unpark_all()

    def _on_packet_taken(self) -> None:
        self._channels.inflow.on_packet()
        if self._transport.sctp.state == "closed":
            self._on_association_ended()
        elif not self._associated and self._transport.sctp.state == "connected":
            self._associated = True
            internals.bound_slow_start(self._transport.sctp)

    def _on_association_ended(self) -> None:
        """All channels are closed, if there were any."""
        if self._associated:
            self._say_goodbye()
        elif not self._fate.over:
            self._fate.fail("SCTP: the other side refused the association")
