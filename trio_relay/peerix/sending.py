"""Messages to members: which channel takes them, where there is none yet, and the tasks that send."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import trio

from ..node.services import Services
from .transfers.limits import TransferLimits
from .transfers.starting import Sink, start_transfer
from .transfers.transfer import Part, Transfer

if TYPE_CHECKING:
    from .members.channels import Channels
    from .members.member import Member

__all__ = ["Sender"]


class Sender:
    """Sends for one room."""

    def __init__(self, services: Services, limits: TransferLimits) -> None:
        self.limits: Final = limits
        self.services: Final = services

    def send(
        self,
        message: Any,
        members: Sequence[Member],
        unknown: Sequence[str] = (),
        *,
        label: str,
        info: Any,
        cancel_scope: trio.CancelScope | None,
    ) -> Transfer:
        """Begins to send a message to these members; it does not arrive at the unknown ones. See `start_transfer`."""
        sinks: dict[str, Sink | None] = {member.id: self._sink(member, label) for member in members}
        sinks.update((id, _Absent()) for id in unknown)
        return start_transfer(
            message,
            sinks,
            label=label,
            limits=self.limits,
            start_soon=self.services.start_soon,
            info=info,
            cancel_scope=cancel_scope,
        )

    def _sink(self, member: Member, label: str) -> Sink | None:
        channel = member.link.channels.get(label)
        if channel is not None:
            return channel.link
        return _Pending(self, member.link.channels, label) if member.wanted_channel(label) is not None else None


class _Absent:
    """Where there is no such member."""

    full = False

    def send(self, part: Part) -> None:
        part.fail("disconnected", "there is no such member in the room")


class _Pending:
    """Where there will be a channel: the other side was asked to make it, or is still being connected to."""

    def __init__(self, sender: Sender, channels: Channels, label: str) -> None:
        self._sender: Final = sender
        self._channels: Final = channels
        self._label: Final = label

    @property
    def full(self) -> bool:
        return self._channels.waiting(self._label) >= self._sender.limits.queue

    def send(self, part: Part) -> None:
        if self._channels.keep(self._label, part):
            self._sender.services.start_soon(self._expire, part)

    async def _expire(self, part: Part) -> None:
        await trio.sleep(self._sender.limits.ack_timeout)
        if self._channels.drop(self._label, part):
            part.fail("no-channel", f"the member did not make the channel {self._label!r} in time")
