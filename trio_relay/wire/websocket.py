"""The data phase of a WebSocket (RFC 6455 sections 5 to 8), after the HTTP upgrade and without extensions.

Bytes in, whole messages out; what must be answered waits in `data_to_send`. Rules of this file:

1. Every frame is judged by its head before any of its payload is kept.
2. What is kept between calls is one incomplete frame and one incomplete message, each a single buffer, together
   no larger than `max_message` and one control frame: never a list that a peer can make grow.
3. The fast loops of `websocket_batch` take only what is certainly right. Everything else, errors above all, is
   decided in `_take_frame_untrusted`.
4. A byte is copied a constant number of times, however the stream is cut into pieces.
"""

from __future__ import annotations

import codecs
import enum
from typing import TYPE_CHECKING, Final

from ..exceptions import LocalProtocolError, RemoteProtocolError
from .masking import MASKING, Buffer, apply_mask
from .websocket_batch import NONE_DECODED, WHOLE_TEXT, frame_plain, take_masked, take_plain
from .websocket_frames import (
    FIN,
    INVALID_UTF8,
    MAX_CONTROL,
    Opcode,
    check_head_untrusted,
    encode_close,
    encode_head,
    parse_close_untrusted,
    parse_length_untrusted,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["MASKING", "Buffer", "Opcode", "Role", "WebSocketCodec", "apply_mask"]

POLICY_VIOLATION = 1008
MESSAGE_TOO_BIG = 1009
ABNORMAL_CLOSURE = 1006
MASK_SIZE = 4

_Utf8Decoder: Final = codecs.getincrementaldecoder("utf-8")


class Role(enum.Enum):
    """Our end of the connection: a client masks what it sends, a server must not (RFC 6455 section 5.1)."""

    CLIENT = "client"
    SERVER = "server"


class WebSocketCodec:
    """Both directions of one WebSocket connection.

    Example:
        >>> codec = WebSocketCodec(Role.SERVER, max_message=1024, max_fragments=4, new_mask=bytes)
        >>> codec.receive_data(bytes.fromhex("828301020304 606060"))
        [b'abc']
        >>> codec.send_binary([b"abc"])
        [b'\\x82\\x03', b'abc']

    Args:
        role: our end.
        max_message: bytes in one received message; a longer one is refused with 1009.
        max_fragments: frames of one received message, empty ones included; one more is refused with 1008.
        new_mask: four unpredictable bytes per call (RFC 6455 section 5.3); called in the client role only.
        raw: text messages are bytes too, whatever is in them: who forwards them decodes each once, and need not
            encode it again. What is not UTF-8 is then for the caller to refuse with 1007.

    Attributes:
        failure: the first rule that the peer broke; after it nothing more is parsed.
        close_code: what the peer's close frame said, 1005 when it had no code, 1006 after the stream ended
            without one; None before.
        close_reason: the reason beside it.
    """

    __slots__ = (
        "_buffer",
        "_close_reply",
        "_close_sent",
        "_decoded",
        "_decoder",
        "_fragments",
        "_max_fragments",
        "_max_message",
        "_message",
        "_need",
        "_new_mask",
        "_ping",
        "_pinging",
        "_server",
        "close_code",
        "close_reason",
        "failure",
    )

    def __init__(
        self, role: Role, *, max_message: int, max_fragments: int, new_mask: Callable[[], bytes], raw: bool = False
    ) -> None:
        self._server = role is Role.SERVER
        self._decoded = NONE_DECODED if raw else WHOLE_TEXT
        self._max_message = max_message
        self._max_fragments = max_fragments
        self._new_mask = new_mask
        self.failure: RemoteProtocolError | None = None
        self.close_code: int | None = None
        self.close_reason = ""
        self._buffer = bytearray()  # from the first byte of an incomplete frame
        self._need = 0  # bytes in _buffer before parsing gets any further
        self._message: bytearray | None = None  # unmasked payload of the fragments so far
        self._fragments = 0
        self._decoder: codecs.IncrementalDecoder | None = None  # only inside a fragmented text message
        self._ping: bytes | None = None  # newest ping without answer
        self._pinging = False  # a ping of ours is due
        self._close_reply: bytes | None = None  # payload of the close frame that waits in data_to_send
        self._close_sent = False  # or waiting in data_to_send

    @property
    def closed(self) -> bool:
        """Whether no more messages will come: a close frame, a violation or the end of the stream was met."""
        return self.failure is not None or self.close_code is not None

    @property
    def held(self) -> int:
        """Bytes kept for an incomplete frame and an incomplete message."""
        return len(self._buffer) + (0 if self._message is None else len(self._message))

    # Receiving

    def receive_data(self, data: Buffer) -> list[bytes | str]:
        """Takes the next piece of the stream and returns every message that it completes, in order.

        Binary messages are bytes, text messages are strings. Messages that were
        complete before a violation are returned; `failure` is set then, and a close frame waits in
        `data_to_send`. Data after a close frame or a violation is ignored. Nothing is raised.
        """
        messages: list[bytes | str] = []
        if self.closed:
            return messages
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._need:
                return messages
            data = self._buffer
        # One copy of the piece costs less than slicing many frames out of anything but bytes.
        stream = data if type(data) is bytes else bytes(data)
        try:
            end = self._take_frames(stream, messages)
        except RemoteProtocolError as violation:
            self.failure = violation
            self._stop(encode_close(violation.close_code, str(violation)))
            end = len(stream)
        self._buffer = bytearray(stream[end:])
        return messages

    def receive_eof(self) -> None:
        """The stream ended: without a close frame before, that is an abnormal closure (1006)."""
        if self.close_code is None:
            self.close_code = ABNORMAL_CLOSURE
        self._buffer = bytearray()
        self._message = self._decoder = None

    def _take_frames(self, data: bytes, messages: list[bytes | str]) -> int:
        """Takes complete frames; returns where an incomplete one begins, or the end after a close frame.

        Raises:
            RemoteProtocolError: see `_take_frame_untrusted`.
        """
        position, end = 0, len(data)
        while True:
            if self._message is None:
                take = take_masked if self._server else take_plain
                position = take(data, position, self._max_message, self._decoded, messages)
            if position == end:
                return position
            after = self._take_frame_untrusted(data, position, messages)
            if self.close_code is not None:
                return end
            if after == position:
                return position
            position = after

    def _take_frame_untrusted(self, data: bytes, position: int, messages: list[bytes | str]) -> int:
        """Takes one frame of any kind; returns the position after it, or `position` if it is incomplete.

        Raises:
            RemoteProtocolError: its head or its payload breaks a rule.
        """
        if len(data) - position < 2:
            self._need = 2
            return position
        final, opcode = data[position] & FIN != 0, data[position] & 0x0F
        check_head_untrusted(data[position], data[position + 1], self._server)
        if opcode < Opcode.CLOSE:
            self._check_order_untrusted(opcode)
        found = parse_length_untrusted(data, position)
        if found is None:
            self._need = 4 if data[position + 1] & 0x7F == 126 else 10
            return position
        length, start = found
        if opcode < Opcode.CLOSE:
            size = length if self._message is None else length + len(self._message)
            if size > self._max_message:
                raise RemoteProtocolError(
                    f"expected a message of at most {self._max_message} bytes, got {size}", MESSAGE_TOO_BIG
                )
        if self._server:
            start += MASK_SIZE
        stop = start + length
        if len(data) < stop:
            self._need = stop - position
            return position
        payload = data[start:stop]
        if self._server:
            payload = apply_mask(payload, data[start - MASK_SIZE : start])
        if opcode < Opcode.CLOSE:
            self._take_data_untrusted(opcode, final, payload, messages)
        else:
            self._take_control_untrusted(opcode, payload)
        return stop

    def _check_order_untrusted(self, opcode: int) -> None:
        """Checks that a data frame of this opcode may come now: the order and number of fragments."""
        if self._message is None:
            if opcode == Opcode.CONTINUATION:
                raise RemoteProtocolError("expected the start of a message, got a continuation frame")
        elif opcode != Opcode.CONTINUATION:
            raise RemoteProtocolError(f"expected a continuation frame, got opcode 0x{opcode:x}")
        elif self._fragments >= self._max_fragments:
            raise RemoteProtocolError(
                f"expected at most {self._max_fragments} fragments in a message, got more", POLICY_VIOLATION
            )

    def _take_data_untrusted(self, opcode: int, final: bool, payload: bytes, messages: list[bytes | str]) -> None:
        """Takes the payload of a data frame; text is validated frame by frame, so that it fails early."""
        decoded = FIN | opcode == self._decoded
        try:
            if self._message is None:
                if final:
                    messages.append(payload.decode() if decoded else payload)
                    return
                self._message, self._fragments = bytearray(), 0
                self._decoder = _Utf8Decoder() if decoded else None
            self._message += payload
            self._fragments += 1
            if self._decoder is not None:
                self._decoder.decode(payload, final)
        except UnicodeDecodeError:
            raise RemoteProtocolError("expected UTF-8 in a text message", INVALID_UTF8) from None
        if final:
            # Decoding again at the end costs less than keeping the pieces of text: those may be tiny and many.
            messages.append(bytes(self._message) if self._decoder is None else self._message.decode())
            self._message = self._decoder = None

    def _take_control_untrusted(self, opcode: int, payload: bytes) -> None:
        if opcode == Opcode.PING:
            self._ping = payload
        elif opcode == Opcode.CLOSE:
            self.close_code, self.close_reason = parse_close_untrusted(payload)
            self._stop(payload[:2])

    def _stop(self, payload: bytes) -> None:
        """Ends receiving; a close frame with this payload becomes due unless one was sent."""
        self._message = self._decoder = None
        if not self._close_sent:
            self._close_sent = True
            self._close_reply = payload

    # Sending

    @property
    def has_output(self) -> bool:
        """Whether `data_to_send` has anything to return."""
        return self._ping is not None or self._close_reply is not None or self._pinging

    def data_to_send(self) -> bytes:
        """The control frames that are due, each of them once: at most a ping, a pong and a close frame.

        Only the newest ping is answered (RFC 6455 section 5.5.3 allows that), so pings cannot pile up output.
        """
        output = b""
        if self._pinging:
            self._pinging = False
            if not self._close_sent:
                output = self._control_frame(Opcode.PING, b"")
        if self._ping is not None:
            output += self._control_frame(Opcode.PONG, self._ping)
            self._ping = None
        if self._close_reply is not None:
            output += self._control_frame(Opcode.CLOSE, self._close_reply)
            self._close_reply = None
        return output

    def send_binary(self, pieces: Sequence[Buffer]) -> list[Buffer]:
        """One unfragmented binary message whose payload is the concatenation of `pieces`, as buffers to write.

        In the server role the pieces are in the result as they are; in the client role a masked copy is.
        Memoryviews must be of bytes (format ``"B"``).

        Raises:
            LocalProtocolError: a close frame was sent, or is waiting in `data_to_send`.
        """
        return self._data_frame(Opcode.BINARY, pieces)

    def send_text(self, pieces: Sequence[Buffer]) -> list[Buffer]:
        """As `send_binary` for a text message; that `pieces` are UTF-8 is the caller's promise."""
        return self._data_frame(Opcode.TEXT, pieces)

    def send_messages(self, payloads: Sequence[Buffer], *, text: bool = False) -> list[Buffer]:
        """Each payload as one unfragmented message, as buffers to write; otherwise as `send_binary`.

        Raises:
            LocalProtocolError: a close frame was sent, or is waiting in `data_to_send`.
        """
        opcode = Opcode.TEXT if text else Opcode.BINARY
        if not self._server:
            return [buffer for payload in payloads for buffer in self._data_frame(opcode, (payload,))]
        self._check_open()
        return frame_plain(FIN | opcode, payloads)

    def ping_soon(self) -> None:
        """An empty ping is due in `data_to_send`, once however often this is called."""
        self._pinging = True

    def pong_soon(self) -> None:
        """A pong that no ping asked for is due, as a sign of life (RFC 6455 section 5.5.3)."""
        if self._ping is None:
            self._ping = b""

    def send_ping(self, payload: bytes = b"") -> bytes:
        """A ping frame.

        Raises:
            LocalProtocolError: the payload exceeds 125 bytes, or a close frame was sent.
        """
        self._check_open()
        if len(payload) > MAX_CONTROL:
            raise LocalProtocolError(f"expected at most {MAX_CONTROL} bytes in a ping, not {len(payload)}")
        return self._control_frame(Opcode.PING, payload)

    def send_close(self, code: int = 1000, reason: str = "") -> bytes:
        """A close frame, once: later calls return nothing; a long reason is cut to 123 bytes, and 1005 is no code.

        Messages of the peer are received until its own close frame arrives.

        Raises:
            LocalProtocolError: `code` must not be sent (RFC 6455 section 7.4).
        """
        payload = encode_close(code, reason)
        if self._close_sent:
            return b""
        self._close_sent = True
        return self._control_frame(Opcode.CLOSE, payload)

    def _check_open(self) -> None:
        if self._close_sent:
            raise LocalProtocolError("expected an open connection, but a close frame was sent already")

    def _data_frame(self, opcode: Opcode, pieces: Sequence[Buffer]) -> list[Buffer]:
        self._check_open()
        if self._server:
            return [encode_head(opcode, sum(map(len, pieces)), b""), *pieces]
        mask = self._new_mask()
        payload = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return [encode_head(opcode, len(payload), mask), apply_mask(payload, mask)]

    def _control_frame(self, opcode: Opcode, payload: bytes) -> bytes:
        mask = b"" if self._server else self._new_mask()
        return encode_head(opcode, len(payload), mask) + (apply_mask(payload, mask) if mask else payload)
