"""One member's connection, from its first description to its end: the tasks around a `Bundle`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal

import trio

from ...exceptions import NegotiationFailed, RoomError
from ...node.services import open_alone
from ...transports.bundle import Bundle, BundleChannel
from .. import events
from ..options import MAX_LABEL, ChannelOptions
from ..packets.control import ChannelRequest, Control, ControlAnswer, ControlCandidate, ControlOffer
from ..packets.signalling import Answer, Offer
from ..signalling.negotiation import is_polite
from .channels import Channels
from .control import ControlChannel
from .host import Host
from .negotiator import MemberAnswer, MemberCandidate, MemberOffer, MemberSignal, Negotiator
from .streams import RemoteStreams

if TYPE_CHECKING:
    from .member import Member

__all__ = ["Connection"]

_TURN: Final = 3.0
"""Seconds after which another member has its turn, whether or not this one is connected: what costs much is done by
then, and those who do not answer shall not keep those who come after them waiting."""
_LAST_WORDS: Final = 0.1
"""Seconds in which channels may read what came before the member's goodbye: acknowledgements, above all."""
_ASK_AFTER: Final = (1.0, 3.0)
"""Seconds between two requests for a channel."""
_STATES: Final = {
    "connecting": events.ConnectionConnecting,
    "connected": events.ConnectionConnected,
    "disconnected": events.ConnectionDisconnected,
}


class Connection:
    """Run it once, as a task of its own. The other methods do not wait.

    Attributes:
        bundle: None before and after.
        failed: whether it ended otherwise than by the member's leaving, or by ours; known at its end.
        reason: why it ended.
        connected_at: when it was up (Trio's clock), None if it never was.
    """

    def __init__(self, member: Member, host: Host) -> None:
        self.bundle: Bundle | None = None
        self.failed = False
        self.reason = ""
        self.connected_at: float | None = None
        self.polite: Final = is_polite(host.own_id, member.id)
        self.streams: Final = RemoteStreams(host.options.limits.streams, host.counts)
        self.channels: Final = Channels(member, host)
        self._member: Final = member
        self._host: Final = host
        self._scope: Final = trio.CancelScope()
        self._sent: Final[set[str]] = set()
        self._asking: Final[dict[str, trio.CancelScope]] = {}
        self._nursery: trio.Nursery | None = None
        self._early: list[MemberSignal] = []
        self._negotiator: Negotiator | None = None
        self._control: ControlChannel | None = None
        self._up: Final = trio.Event()

    @property
    def is_up(self) -> bool:
        """Whether the member can be spoken to."""
        return self._up.is_set() and not self._scope.cancel_called

    # From the room

    def take(self, signal: MemberSignal) -> None:
        """One more description or candidate of the member, from the driver."""
        if self._negotiator is not None:
            self._negotiator.take(signal)
        elif len(self._early) < 128:
            self._early.append(signal)
        else:
            self._host.counts["member_signals_overflowed"] += 1

    def close(self) -> None:
        """Ends it."""
        self._end("it was closed here", failed=False)

    def is_of_another(self, sdp: str) -> bool:
        """Whether a description is not of this connection, but of one that the member has begun anew."""
        return self._negotiator is not None and self._negotiator.is_of_another(sdp)

    def unclaimed(self) -> list[MemberSignal]:
        """Candidates of a description that has not come: of the member's next connection."""
        held = self._negotiator.unclaimed() if self._negotiator is not None else []
        return [MemberCandidate(candidate, True) for candidate in held]

    def update_streams(self) -> None:
        """What is sent has changed; before the control channel is open, it is not told, for labels go by it."""
        if self.bundle is None or self._control is None or not self._control.open:
            return
        wanted = {stream.id: stream.tracks for stream in self._member.outgoing()}
        try:
            for id in self._sent - wanted.keys():
                self.bundle.set_stream(id, ())
                self._sent.discard(id)
            for id, tracks in wanted.items():
                self.bundle.set_stream(id, tracks)
                self._sent.add(id)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        except ValueError as error:
            self._host.report(RoomError("MEDIASTREAM_ERROR", str(error)), self._member)

    def open_channel(self, label: str) -> None:
        """Makes a channel, or asks the member to, as far as they can be made now."""
        options = self._member.wanted_channel(label)
        if options is None or self._control is None or not self._control.open or self.channels.get(label) is not None:
            return
        if self.polite:
            self._ask(options)
            if self._nursery is not None:
                self._nursery.start_soon(self._ask_again, label)
        else:
            self._make_channel(
                label, options.protocol, options.ordered, options.max_packet_lifetime, options.max_retransmits
            )

    async def drain(self) -> None:
        """Waits until the member has what was said to it, acknowledgements included; not for transfers under way."""
        await trio.lowlevel.checkpoint()
        for channel in self.channels.by_label.values():
            await channel.drain()

    def _ask(self, options: ChannelOptions) -> None:
        self._say(
            ChannelRequest(
                options.label,
                options.protocol or None,
                options.ordered,
                options.max_packet_lifetime,
                options.max_retransmits,
            )
        )

    async def _ask_again(self, label: str) -> None:
        """A member that has not seen the end of an earlier channel of that label ignores what we ask."""
        if label in self._asking:
            self._asking[label].cancel()
        with trio.CancelScope() as self._asking[label]:
            for wait in _ASK_AFTER:
                await trio.sleep(wait)
                options = self._member.wanted_channel(label)
                if options is None or self.channels.get(label) is not None:
                    return
                self._ask(options)

    # The task

    async def run(self) -> None:
        """Makes the connection and keeps it, until it ends."""
        turns = self._host.turns
        with self._scope:
            await turns.acquire()
            try:
                held = True
                async with self._host.factory(self._host.options.webrtc()) as bundle:
                    self.bundle = bundle
                    async with open_alone() as nursery:
                        self._begin(bundle, nursery)
                        timeout = self._host.options.connection_timeout or float("inf")
                        deadline = trio.current_time() + timeout
                        with trio.move_on_after(min(_TURN, timeout)):
                            await self._up.wait()
                        turns.release()
                        held = False
                        await self._wait_up(deadline, timeout)
                        await trio.sleep_forever()
            except NegotiationFailed as error:
                self._end(str(error), failed=True)
            finally:
                self.bundle = None
                self.channels.end()
                if held:
                    turns.release()

    def _begin(self, bundle: Bundle, nursery: trio.Nursery) -> None:
        host, report = self._host, self._report
        control = bundle.open_channel("", id=0)
        self._negotiator = Negotiator(
            bundle,
            polite=self.polite,
            send_offer=self._send_offer,
            send_answer=self._send_answer,
            on_labels=self.streams.relabel,
            on_described=self._on_described,
            on_error=report,
            counts=host.counts,
        )
        self._control = ControlChannel(
            control,
            on_open=self._on_control_open,
            on_control=self._on_control,
            may_read=self._negotiator.wait_room,
            on_error=report,
            counts=host.counts,
        )
        for signal in self._early:
            self._negotiator.take(signal)
        self._early.clear()
        self._nursery = nursery
        self.channels.begin(nursery)
        nursery.start_soon(self._watch, bundle)
        nursery.start_soon(self._negotiate, self._negotiator)
        nursery.start_soon(self._converse, self._control)
        nursery.start_soon(self._accept_channels, bundle)

    async def _wait_up(self, deadline: float, timeout: float) -> None:
        with trio.move_on_at(deadline):
            await self._up.wait()
            return
        self._end(f"no connection within {timeout:g} s", failed=True)
        await trio.lowlevel.checkpoint()

    async def _watch(self, bundle: Bundle) -> None:
        state = bundle.state
        while state not in ("failed", "closed"):
            state = await bundle.wait_state(state)
            # A member to whom nothing can be said yet does not count as connected.
            if state == "connecting" or (state in ("connected", "disconnected") and self._up.is_set()):
                self._tell_state(state)
        if state == "closed":
            with trio.move_on_after(_LAST_WORDS):
                await self.channels.wait_read()
        self._end(bundle.failure, failed=state == "failed")

    async def _negotiate(self, negotiator: Negotiator) -> None:
        self._end(await negotiator.run(), failed=True)

    async def _converse(self, control: ControlChannel) -> None:
        reason = await control.run()
        # The connection may say more about it.
        with trio.move_on_after(0.1):
            await trio.sleep_forever()
        self._end(reason, failed=not self._up.is_set())

    async def _accept_channels(self, bundle: Bundle) -> None:
        try:
            while True:
                self.channels.adopt(await bundle.accept_channel(), ours=False)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # the watch tells why

    def _end(self, reason: str, *, failed: bool) -> None:
        if not self._scope.cancel_called:
            self.reason, self.failed = reason, failed
            self._scope.cancel()

    # What the parts say; none of it waits

    def _tell_state(self, state: Literal["connecting", "connected", "disconnected"]) -> None:
        if self._member.state != state:
            self._member.state = state
            self._host.tell(_STATES[state](self._member))

    def _on_control_open(self) -> None:
        self._up.set()
        self.connected_at = trio.current_time()
        self._tell_state("connected")
        self._host.changed.unpark_all()
        for label in self._member.wanted_channels():
            self.open_channel(label)
        self.update_streams()

    def _on_control(self, control: Control) -> None:
        assert self._negotiator is not None
        match control:
            case ControlOffer(sdp, labels):
                self._negotiator.take(MemberOffer(sdp, labels))
            case ControlAnswer(sdp):
                self._negotiator.take(MemberAnswer(sdp))
            case ControlCandidate(candidate):
                self._negotiator.take(MemberCandidate(candidate, False))
            case ChannelRequest():
                self._on_request(control)

    def _on_request(self, request: ChannelRequest) -> None:
        if self.polite:
            self._host.counts["channel_requests_ignored"] += 1
        elif len(request.label.encode()) > MAX_LABEL:
            self._host.counts["channels_refused"] += 1
        elif self.channels.get(request.label) is None:
            ordered = True if request.ordered is None else request.ordered
            self._make_channel(
                request.label, request.protocol or "", ordered, request.max_packet_lifetime, request.max_retransmits
            )

    def _make_channel(
        self, label: str, protocol: str, ordered: bool, lifetime: float | None, retransmits: int | None
    ) -> None:
        assert self.bundle is not None
        channel: BundleChannel | None = None
        try:
            if self.channels.has_room():
                channel = self.bundle.open_channel(
                    label,
                    protocol=protocol,
                    ordered=ordered,
                    max_packet_lifetime=lifetime,
                    max_retransmits=retransmits,
                )
        except ValueError as error:
            self._report(RoomError("DATACHANNEL_ERROR", str(error)))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # the watch tells why
        if channel is not None:
            self.channels.adopt(channel, ours=True)

    def _on_described(self) -> None:
        if self.bundle is None:
            return
        for change in self.streams.update(self.bundle.tracks):
            member, stream = self._member, change.stream
            if change.added and change.edge:
                self._host.tell(events.StreamAdded(member, stream.label, stream))
            kind = events.TrackAdded if change.added else events.TrackRemoved
            self._host.tell(kind(member, stream.label, stream, change.track))
            if change.edge and not change.added:
                self._host.tell(events.StreamRemoved(member, stream.label, stream))

    def _send_offer(self, sdp: str) -> None:
        if self._control is not None and self._control.open:
            self._say(ControlOffer(sdp, self._labels()))
        else:
            self._host.say(Offer(sdp, self._host.own_metadata), self._member.id)

    def _send_answer(self, sdp: str) -> None:
        if self._control is not None and self._control.open:
            self._say(ControlAnswer(sdp))
        else:
            self._host.say(Answer(sdp), self._member.id)

    def _labels(self) -> Mapping[str, str]:
        return {stream.id: stream.label for stream in self._member.outgoing()}

    def _say(self, control: Control) -> None:
        assert self._control is not None
        try:
            self._control.say(control)
        except trio.WouldBlock:
            self._end("the member takes nothing on its control channel", failed=True)

    def _report(self, error: RoomError) -> None:
        self._host.report(error, self._member)
