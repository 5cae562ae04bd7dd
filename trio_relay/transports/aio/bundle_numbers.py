"""The numbers of codecs and header extensions: over one transport, each has one meaning (RFC 9143 sections 9.1, 9.2).

aiortc's own numbers mean other things to browsers. Chromium refuses a description where both meet; when offers of both
sides do, it even compares with its own offer, which gives way. So the numbers here are those of Chromium.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Final

from aiortc import RTCRtpCodecParameters, RTCRtpHeaderExtensionParameters
from aiortc.codecs import CODECS, HEADER_EXTENSIONS, is_rtx
from aiortc.rtcpeerconnection import find_common_codecs, find_common_header_extensions, is_codec_compatible
from aiortc.rtp import DYNAMIC_PAYLOAD_TYPES

__all__ = ["Numbers", "common_codecs", "common_extensions"]

_PAYLOADS: Final[tuple[int, ...]] = (*DYNAMIC_PAYLOAD_TYPES, *range(35, 64))
"""Free ones are looked for in this order (RFC 5761 section 4)."""
_PREFERRED: Final = {96: 111, 97: 96, 98: 97, 99: 102, 100: 103, 101: 108, 102: 109}
"""Numbers of aiortc, and what Chromium has for the same."""
_SEND_TIME: Final = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
_SEND_TIME_ID: Final = 2
"""Of Chromium, for what tells the other side how much it may be sent. Others have no fixed numbers there; they are only
used when the other side has numbered them."""


class Numbers:
    """Of one connection. Plain functions."""

    def __init__(self) -> None:
        self._codecs: Final[dict[int, RTCRtpCodecParameters]] = {}
        self._extensions: Final[dict[int, str]] = {}

    def learn(
        self, codecs: Iterable[RTCRtpCodecParameters], extensions: Iterable[RTCRtpHeaderExtensionParameters]
    ) -> None:
        """What a description that was accepted says; it has precedence."""
        for codec in codecs:
            if codec.payloadType is not None and 0 <= codec.payloadType < 128:
                self._codecs[codec.payloadType] = codec
        for extension in extensions:
            if 0 < extension.id < 256:
                self._extensions[extension.id] = extension.uri

    def codecs(self, kind: str) -> list[RTCRtpCodecParameters]:
        """What we can send of this kind.

        Raises:
            ValueError: the other side has used all numbers up.
        """
        found: list[RTCRtpCodecParameters] = []
        moved: dict[object, int | None] = {}
        for ours in CODECS[kind]:
            codec = copy.deepcopy(ours)
            if is_rtx(codec):
                codec.parameters["apt"] = moved[ours.parameters["apt"]]
            if ours.payloadType in DYNAMIC_PAYLOAD_TYPES:
                codec.payloadType = self._find_payload(codec)
                self._codecs[codec.payloadType] = codec
            moved[ours.payloadType] = codec.payloadType
            found.append(codec)
        return found

    def extensions(self, kind: str) -> list[RTCRtpHeaderExtensionParameters]:
        """Likewise."""
        self._extensions.setdefault(_SEND_TIME_ID, _SEND_TIME)
        numbers = {uri: number for number, uri in self._extensions.items()}
        wanted = [extension.uri for extension in HEADER_EXTENSIONS[kind] if extension.uri in numbers]
        return [RTCRtpHeaderExtensionParameters(id=numbers[uri], uri=uri) for uri in wanted]

    def _find_payload(self, codec: RTCRtpCodecParameters) -> int:
        for number, known in self._codecs.items():
            if is_codec_compatible(known, codec) and known.parameters.get("apt") == codec.parameters.get("apt"):
                return number
        preferred = _PREFERRED.get(codec.payloadType or 0, 0)
        for free in (*([preferred] if preferred else []), *_PAYLOADS):
            if free not in self._codecs:
                return free
        raise ValueError("no payload type is free")


def common_codecs(kind: str, theirs: Sequence[RTCRtpCodecParameters]) -> list[RTCRtpCodecParameters]:
    """Those that both sides know, with the other side's numbers, in its order."""
    return find_common_codecs(CODECS[kind], list(theirs))


def common_extensions(
    kind: str, theirs: Sequence[RTCRtpHeaderExtensionParameters]
) -> list[RTCRtpHeaderExtensionParameters]:
    """Likewise."""
    return find_common_header_extensions(HEADER_EXTENSIONS[kind], list(theirs))
