"""Session descriptions of audio and video, in the form of browsers, shortened."""

from __future__ import annotations

from typing import Final

FINGERPRINT: Final = (
    "sha-256 2D:E6:4B:13:39:71:E3:28:E4:18:24:0A:DD:9C:CC:E3:49:DF:ED:9A:C1:93:F8:41:2F:63:C4:08:94:C9:14:55"
)
_SESSION: Final = "v=0\r\no=- 2167133523885401916 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1 2\r\n"
_TRANSPORT: Final = (
    "c=IN IP4 0.0.0.0\r\n{candidates}a=ice-ufrag:{ufrag}\r\na=ice-pwd:hxWg4rJy6lbS6jcdKMbfqggs\r\n"
    "a=ice-options:trickle\r\na=fingerprint:" + FINGERPRINT + "\r\na=setup:actpass\r\n"
)
_CANDIDATE: Final = "a=candidate:1 1 udp 2113937151 192.0.2.{number} 5338{number} typ host generation 0\r\n"
_AUDIO: Final = (
    "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\na={direction}\r\na=msid:s1 t1\r\na=rtcp-mux\r\n"
    "a=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n"
    "a=ssrc:1001 cname:c\r\na=ssrc:1001 msid:s1 t1\r\n"
)
_VIDEO: Final = (
    "a={direction}\r\na=msid:s1 t2\r\na=rtcp-mux\r\na=rtcp-rsize\r\na=rtpmap:96 VP8/90000\r\n"
    "a=rtcp-fb:96 nack pli\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=ssrc-group:FID 2001 2002\r\n"
    "a=ssrc:2001 cname:c\r\na=ssrc:2002 cname:c\r\n"
)


def media_offer(
    audio: str = "sendrecv", video: str = "sendrecv", *, ufrags: tuple[str, str, str] = ("F+BT", "F+BT", "F+BT")
) -> str:
    """As Chromium makes it: sound, pictures, and a data channel, each with a transport of its own until answered."""
    parts = [
        ("m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n", _AUDIO.format(direction=audio)),
        ("m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n", _VIDEO.format(direction=video)),
        ("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n", "a=sctp-port:5000\r\na=max-message-size:262144\r\n"),
    ]
    sdp = _SESSION
    for number, (line, attributes) in enumerate(parts):
        candidates = _CANDIDATE.format(number=number)
        sdp += line + _TRANSPORT.format(candidates=candidates, ufrag=ufrags[number])
        sdp += f"a=mid:{number}\r\n{attributes}"
    return sdp


def bundle_only_offer() -> str:
    """As browsers make it with ``bundlePolicy: "max-bundle"``: the sections after the first have no transport."""
    sdp = media_offer()
    head, *sections = sdp.split("m=")
    bare = ["m=" + sections[0]]
    for section in sections[1:]:
        lines = [
            line
            for line in ("m=" + section).split("\r\n")
            if not line.startswith(("a=candidate", "a=ice-", "a=fingerprint", "a=setup"))
        ]
        lines[0] = lines[0].replace(" 9 ", " 0 ")
        bare.append("\r\n".join([*lines[:-1], "a=bundle-only", ""]))
    return head + "".join(bare)
