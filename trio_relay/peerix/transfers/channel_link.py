"""One application channel of one member, as long as it lasts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio

from ...exceptions import RemoteProtocolError, RoomError, TransferFailed
from ...node.turns import Turns
from ...transports.bundle import BundleChannel
from ...wire.json import decode_untrusted
from ..packets.transfer import (
    Acknowledgement,
    PayloadType,
    Piece,
    ReceiverAbort,
    encode_ack,
    parse_transfer_untrusted,
)
from .assembly import Answer, Assembly, Began, Came, Completed, Event, Failed
from .inbox import Account, Inbox
from .limits import TransferLimits
from .message import Message
from .outgoing import Outgoing
from .transfer import Part

__all__ = ["ChannelLink"]

_GRACE: Final = 1.0


class ChannelLink:
    """Sends and receives over a channel.

    Args:
        member: the id of the other side.
        on_message: called with each new message, when its first piece has come; it must not wait.
        on_error: called with packets that can not be read; it must not wait.
    """

    def __init__(
        self,
        channel: BundleChannel,
        member: str,
        inbox: Inbox,
        limits: TransferLimits,
        counts: Counter[str],
        *,
        on_message: Callable[[Message], None],
        on_error: Callable[[RoomError], None],
    ) -> None:
        self._channel: Final = channel
        self._member: Final = member
        self._inbox: Final = inbox
        self._limits: Final = limits
        self._counts: Final = counts
        self._on_message: Final = on_message
        self._on_error: Final = on_error
        self._outgoing: Final = Outgoing(channel, limits, counts, self._read_at)
        self._assembly: Final = Assembly(limits.incoming, limits.idle_timeout, counts)
        self._messages: Final[dict[int, Message]] = {}
        self._keys: Final[dict[Message, int]] = {}
        self._stalled = False
        self._resumed_at = -math.inf
        self._turns: Final = Turns()

    def __repr__(self) -> str:
        return f"<ChannelLink {self.label!r} to {self._member!r}>"

    @property
    def channel(self) -> BundleChannel:
        """The channel."""
        return self._channel

    @property
    def member(self) -> str:
        """The id of the other side."""
        return self._member

    @property
    def label(self) -> str:
        """Of the channel."""
        return self._channel.label

    @property
    def framed(self) -> bool:
        """Whether binary messages are pieces."""
        return self._channel.ordered and not self._channel.protocol

    # Sending

    @property
    def full(self) -> bool:
        """Whether no more messages can wait to be sent."""
        return self._outgoing.full

    def send(self, part: Part) -> None:
        """Sends a part of a transfer when it is its turn; whatever becomes of it, the part tells.

        Raises:
            trio.WouldBlock: it is `full`.
        """
        if self.framed and self._channel.reliable:
            self._outgoing.submit(part)
        else:
            part.fail("unsupported-channel", "expected a channel that is ordered, reliable and without a protocol")

    async def send_raw(self, message: bytes | str) -> None:
        """Sends one message of the channel as it is, without framing.

        Args:
            message: text; or bytes, on a channel that is unordered or has a protocol: elsewhere they are for pieces.

        Raises:
            TransferFailed: ``unsupported-channel``: bytes, where they would be taken for a piece; ``too-large``: for
                one message; ``timeout``: there was no room for it in time; ``disconnected``.
        """
        if self.framed and not isinstance(message, str):
            raise TransferFailed(self._member, "unsupported-channel", "expected text, for bytes are pieces here")
        try:
            with trio.fail_after(self._limits.ack_timeout):
                await self._channel.wait_open()
                await self._outgoing.send(message)
        except trio.TooSlowError:
            raise TransferFailed(self._member, "timeout", "there was no room for it in time") from None
        except ValueError as error:
            raise TransferFailed(self._member, "too-large", str(error)) from error
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise TransferFailed(self._member, "disconnected", "the channel was closed") from error

    async def drain(self) -> None:
        """Waits until the member has all answers, and the pieces that were sent before them; or the channel ends."""
        await self._outgoing.drain_answers()
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._channel.drain()

    # The tasks

    async def run(self) -> None:
        """Sends and receives until the channel is at its end, whoever ends it; then whatever is under way fails."""
        account = self._inbox.open_account(self._member)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._outgoing.run)
                nursery.start_soon(self._outgoing.run_answers)
                nursery.start_soon(self._outgoing.run_timeouts)
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await self._channel.wait_open()
                    await self._read(account)
                nursery.cancel_scope.cancel()
        finally:
            self._outgoing.end()
            self._end_messages()
            self._inbox.close_account(account)

    async def _read(self, account: Account) -> None:
        while True:
            messages: list[bytes | str] | None = None
            # What is late only because we were, is there already.
            with trio.move_on_at(max(self._assembly.expires, trio.current_time() + _GRACE)):
                messages = await self._channel.receive()
            if messages is None:
                await self._carry_out(self._assembly.expire(trio.current_time()), account)
            elif not messages:
                return
            else:
                for message in messages:
                    await self._turns.give_way()
                    await self._take(message, account)

    async def _take(self, message: bytes | str, account: Account) -> None:
        """One message of the channel."""
        if isinstance(message, str) or not self.framed:
            await self._take_raw(message, account)
            return
        try:
            packet = parse_transfer_untrusted(message)
        except RemoteProtocolError as error:
            self._counts["transfer_packets_bad"] += 1
            self._on_error(RoomError("DATACHANNEL_ERROR", f"{self._member} on {self.label!r}: {error}"))
            return
        if isinstance(packet, Piece):
            await self._carry_out(self._assembly.on_piece(packet, trio.current_time()), account)
        elif isinstance(packet, Acknowledgement):
            self._outgoing.on_acknowledgement(packet.id)
        elif isinstance(packet, ReceiverAbort):
            ours = self._outgoing.is_under_way(packet.id)
            for_ours, events = self._assembly.on_receiver_abort(packet.id, ours=ours, now=trio.current_time())
            if for_ours:
                self._outgoing.on_receiver_abort(packet.id)
            await self._carry_out(events, account)
        elif packet is not None:
            await self._carry_out(self._assembly.on_sender_abort(packet.id), account)

    async def _carry_out(self, events: list[Event], account: Account) -> None:
        for event in events:
            if isinstance(event, Came):
                message = self._messages.get(event.key)
                if message is not None:
                    if not self._inbox.has_room(account, message):
                        await self._wait_room(account, message)
                    message.feed(event.chunk)
            elif isinstance(event, Began):
                await self._begin(event, account)
            elif isinstance(event, Completed):
                self._complete(event)
            elif isinstance(event, Failed):
                self._fail(event)
            else:
                self._outgoing.answer(event.packet)

    # What comes

    async def _begin(self, event: Began, account: Account) -> None:
        if not self._inbox.has_room(account, None):
            await self._wait_room(account, None)
        message = Message(
            self._member,
            self.label,
            event.type,
            self._inbox,
            self._give_up,
            info=self._check_info(event.info),
            read_bytes=self._limits.read_bytes,
        )
        self._messages[event.key] = message
        self._keys[message] = event.key
        self._announce(message)

    async def _take_raw(self, content: bytes | str, account: Account) -> None:
        if not self._inbox.has_room(account, None):
            await self._wait_room(account, None)
        type, data = PayloadType.BYTES, content
        if isinstance(data, str):
            type, data = PayloadType.TEXT, data.encode("utf-8", "replace")
        assert isinstance(data, bytes)
        message = Message(
            self._member,
            self.label,
            type,
            self._inbox,
            self._give_up,
            raw=True,
            read_bytes=self._limits.read_bytes,
        )
        if data:
            message.feed(data)
        message.finish()
        self._announce(message)

    def _announce(self, message: Message) -> None:
        self._inbox.put(message)
        self._on_message(message)

    def _check_info(self, info: bytes | None) -> bytes | None:
        """What an original can not read it ignores, too."""
        if info is not None:
            try:
                decode_untrusted(info)
            except RemoteProtocolError:
                self._counts["transfer_infos_bad"] += 1
                return None
        return info

    def _complete(self, event: Completed) -> None:
        message = self._forget(event.key)
        if message is not None and not message.over:
            message.finish()
            self._outgoing.answer(encode_ack(event.id))
        else:
            self._outgoing.answer(self._assembly.refuse(event.id).packet)

    def _fail(self, event: Failed) -> None:
        message = self._forget(event.key)
        if message is not None:
            message.end(event.reason, event.message)

    def _forget(self, key: int) -> Message | None:
        message = self._messages.pop(key, None)
        if message is not None:
            del self._keys[message]
        return message

    def _give_up(self, message: Message) -> None:
        """It is not wanted any more, and has not all come."""
        key = self._keys.get(message)
        for event in self._assembly.abort(key) if key is not None else []:
            if isinstance(event, Answer):
                self._outgoing.answer(event.packet)
        if key is not None:
            self._forget(key)

    async def _wait_room(self, account: Account, message: Message | None) -> None:
        self._stalled = True
        try:
            await self._inbox.wait_room(account, message)
        finally:
            self._stalled = False
            self._resumed_at = trio.current_time()
            self._assembly.on_resumed(self._resumed_at)

    def _read_at(self) -> float:
        """Until when the channel was not read."""
        return trio.current_time() if self._stalled else self._resumed_at

    def _end_messages(self) -> None:
        for event in self._assembly.end():
            if isinstance(event, Failed):
                self._fail(event)
