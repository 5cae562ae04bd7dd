"""What is published, and the forms in which subscribers get it. Pure.

At one door it is text, which is base64 if it is a packet; at the other one it is bytes. Text that is no base64 has no
form for the other door.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from collections.abc import Sequence
from typing import Final

from ..socketio.packets import encode_event

__all__ = ["Update"]

_LINES: Final = re.compile(r"\r\n|\r|\n")


class Update:
    """One thing that was said; each form is made once, when it is asked for.

    Args:
        topics: under which it was said, one at least.
        id: of an event at the first door.
        data: text; None: it is a packet.
        packet: bytes, if there is no text.
        type: name of the event; empty: ``message``, as browsers call it then.
        retry: milliseconds that a browser is to wait before it connects again.
    """

    __slots__ = ("_data", "_decoded", "_event", "_messages", "_packet", "id", "retry", "topics", "type")

    def __init__(
        self,
        topics: Sequence[str],
        id: str,
        *,
        data: str | None = None,
        packet: bytes | None = None,
        type: str = "",
        retry: int | None = None,
    ) -> None:
        if (data is None) == (packet is None):
            raise ValueError("expected either text or a packet")
        self.topics: Final = tuple(topics)
        self.id: Final = id
        self.type: Final = type
        self.retry: Final = retry
        self._data: Final = data
        self._packet = packet
        self._decoded = packet is not None
        self._event: bytes | None = None
        self._messages: Final[dict[tuple[str, str], str]] = {}

    @property
    def packet(self) -> bytes | None:
        """The bytes that it is; None: it is text that is no base64."""
        if not self._decoded:
            self._decoded = True
            with contextlib.suppress(binascii.Error, ValueError):
                self._packet = base64.b64decode(self._data or "", validate=True)
        return self._packet

    def event(self) -> bytes:
        """As one event of ``text/event-stream``."""
        if self._event is None:
            data = self._data if self._data is not None else base64.b64encode(self._packet or b"").decode("ascii")
            lines = [f"id: {self.id}"]
            lines += [f"event: {self.type}"] if self.type else []
            lines += [f"retry: {self.retry}"] if self.retry is not None else []
            lines += [f"data: {line}" for line in _LINES.split(data)]
            self._event = "\n".join([*lines, "", ""]).encode("utf-8", "replace")
        return self._event

    def message(self, name: str, topic: str) -> str | None:
        """As a Socket.IO event of this name, with topic and packet; None: it has no packet."""
        key = name, topic
        message = self._messages.get(key)
        if message is None and (packet := self.packet) is not None:
            message = self._messages[key] = encode_event(name, topic, list(packet))
        return message
