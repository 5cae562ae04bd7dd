"""Session descriptions of one data channel: of Chromium, as it made them, and in the form of other browsers."""

from __future__ import annotations

from typing import Final

from trio_relay.wire.json import JSONValue

CHROMIUM_OFFER: Final = (
    "v=0\r\n"
    "o=- 2167133523885401916 2 IN IP4 127.0.0.1\r\n"
    "s=-\r\n"
    "t=0 0\r\n"
    "a=group:BUNDLE 0\r\n"
    "a=extmap-allow-mixed\r\n"
    "a=msid-semantic: WMS\r\n"
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"
    "c=IN IP4 0.0.0.0\r\n"
    "a=candidate:4224308958 1 udp 2113937151 01e74503-3511-4587-84cb-1a0eefeea701.local 53382 typ "
    "host generation 0 network-cost 999\r\n"
    "a=candidate:4240161390 1 udp 2113942271 74d62c65-af00-4fb1-a632-527b773230e9.local 39447 typ "
    "host generation 0 network-cost 999\r\n"
    "a=ice-ufrag:F+BT\r\n"
    "a=ice-pwd:hxWg4rJy6lbS6jcdKMbfqggs\r\n"
    "a=ice-options:trickle\r\n"
    "a=fingerprint:sha-256 "
    "2D:E6:4B:13:39:71:E3:28:E4:18:24:0A:DD:9C:CC:E3:49:DF:ED:9A:C1:93:F8:41:2F:63:C4:08:94:C9:14:55\r\n"
    "a=setup:actpass\r\n"
    "a=mid:0\r\n"
    "a=sctp-port:5000\r\n"
    "a=max-message-size:262144\r\n"
)
"""Chromium 156 with simple-peer 6.4.4, all candidates in it."""

CHROMIUM_ANSWER: Final = (
    "v=0\r\n"
    "o=- 6261208228948400127 2 IN IP4 127.0.0.1\r\n"
    "s=-\r\n"
    "t=0 0\r\n"
    "a=group:BUNDLE 0\r\n"
    "a=extmap-allow-mixed\r\n"
    "a=msid-semantic: WMS\r\n"
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"
    "c=IN IP4 0.0.0.0\r\n"
    "a=candidate:3757607162 1 udp 2113937151 01e74503-3511-4587-84cb-1a0eefeea701.local 45380 typ "
    "host generation 0 network-cost 999\r\n"
    "a=candidate:3632981066 1 udp 2113942271 74d62c65-af00-4fb1-a632-527b773230e9.local 58068 typ "
    "host generation 0 network-cost 999\r\n"
    "a=ice-ufrag:3UQG\r\n"
    "a=ice-pwd:jZTDGYczbaQBrfjGaLtoi1F2\r\n"
    "a=ice-options:trickle\r\n"
    "a=fingerprint:sha-256 "
    "1C:D9:C9:BB:BB:6F:A5:B5:E2:B7:F0:31:76:A9:25:0E:D6:3A:4F:92:25:8C:D4:3B:25:05:FA:17:50:55:13:6A\r\n"
    "a=setup:active\r\n"
    "a=mid:0\r\n"
    "a=sctp-port:5000\r\n"
    "a=max-message-size:262144\r\n"
)
"""To that."""

TRICKLING_OFFER: Final = (
    "v=0\r\n"
    "o=- 2659205603922960316 2 IN IP4 127.0.0.1\r\n"
    "s=-\r\n"
    "t=0 0\r\n"
    "a=group:BUNDLE 0\r\n"
    "a=extmap-allow-mixed\r\n"
    "a=msid-semantic: WMS\r\n"
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"
    "c=IN IP4 0.0.0.0\r\n"
    "a=ice-ufrag:/xvU\r\n"
    "a=ice-pwd:0GWsoPy0MStAaCDriP/RcReA\r\n"
    "a=ice-options:trickle\r\n"
    "a=fingerprint:sha-256 "
    "11:A2:FE:74:14:D9:E1:8C:29:BD:F3:53:4C:5E:EE:8A:CF:8D:08:C2:D4:EB:7F:4E:E0:4B:28:07:5E:3E:6C:3A\r\n"
    "a=setup:actpass\r\n"
    "a=mid:0\r\n"
    "a=sctp-port:5000\r\n"
    "a=max-message-size:262144\r\n"
)
"""Chromium 156 with simple-peer 9.11.1: its candidates follow."""

CHROMIUM_CANDIDATE: Final[dict[str, JSONValue]] = {
    "candidate": (
        "candidate:3582330683 1 udp 2113937151 01e74503-3511-4587-84cb-1a0eefeea701.local 43888 "
        "typ host generation 0 ufrag /xvU network-cost 999"
    ),
    "sdpMLineIndex": 0,
    "sdpMid": "0",
}
"""One of them, as JSON."""

FIREFOX_OFFER: Final = (
    "v=0\r\n"
    "o=mozilla...THIS_IS_SDPARTA-99.0 4262351013853262219 0 IN IP4 0.0.0.0\r\n"
    "s=-\r\n"
    "t=0 0\r\n"
    "a=sendrecv\r\n"
    "a=fingerprint:sha-256 "
    "1F:4E:0D:43:0A:F6:8C:2E:6D:BB:4C:0B:28:4E:9F:23:7D:5B:8E:0C:57:A1:F3:15:3C:61:D6:CB:0A:B8:2C:77\r\n"
    "a=group:BUNDLE 0\r\n"
    "a=ice-options:trickle\r\n"
    "a=msid-semantic:WMS *\r\n"
    "m=application 48022 UDP/DTLS/SCTP webrtc-datachannel\r\n"
    "c=IN IP4 192.0.2.7\r\n"
    "a=candidate:0 1 UDP 2122252543 192.0.2.7 48022 typ host\r\n"
    "a=candidate:3 1 TCP 2105524479 192.0.2.7 9 typ host tcptype active\r\n"
    "a=candidate:1 1 UDP 1686052863 198.51.100.7 48022 typ srflx raddr 192.0.2.7 rport 48022\r\n"
    "a=sendrecv\r\n"
    "a=end-of-candidates\r\n"
    "a=ice-pwd:3cb26d0a2ae37d2bdbc26ba9f3ba1bd6\r\n"
    "a=ice-ufrag:9ab1b7e6\r\n"
    "a=mid:0\r\n"
    "a=setup:actpass\r\n"
    "a=sctp-port:5000\r\n"
    "a=max-message-size:1073741823\r\n"
)
"""In the form of Firefox: the fingerprint is the session's."""

LEGACY_OFFER: Final = (
    "v=0\n"
    "o=- 5 2 IN IP4 127.0.0.1\n"
    "s=-\n"
    "t=0 0\n"
    "m=application 9 DTLS/SCTP 5000\n"
    "c=IN IP4 0.0.0.0\n"
    "b=AS:30\n"
    "a=ice-ufrag:abcd\n"
    "a=ice-pwd:0123456789abcdef012345\n"
    "a=fingerprint:SHA-256 "
    "1f:4e:0d:43:0a:f6:8c:2e:6d:bb:4c:0b:28:4e:9f:23:7d:5b:8e:0c:57:a1:f3:15:3c:61:d6:cb:0a:b8:2c:77\n"
    "a=setup:actpass\n"
    "a=mid:data\n"
    "a=sctpmap:5000 webrtc-datachannel 1024\n"
)
"""As Chromium wrote it until 2019."""

DESCRIPTIONS: Final = (CHROMIUM_OFFER, CHROMIUM_ANSWER, TRICKLING_OFFER, FIREFOX_OFFER, LEGACY_OFFER)
