"""Descriptions of what is negotiated again and again: what browsers make passes, and nothing in excess does."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.wire.descriptions import CHROMIUM_OFFER
from tests.wire.media_descriptions import bundle_only_offer, media_offer
from trio_relay.exceptions import RemoteProtocolError
from trio_relay.wire.bundle_description import MAX_BUNDLE_DESCRIPTION, check_bundle_description_untrusted

OFFER = media_offer()
KINDS = ("audio", "video", "application")


def ended(sdp: str, number: int) -> str:
    """As Chromium describes what has been stopped; its section is not in the BUNDLE group any more."""
    head, *sections = sdp.split("m=")
    sections[number] = sections[number].replace(" 9 ", " 0 ", 1)
    return "m=".join([re.sub(f"(BUNDLE.*?) {number}", r"\1", head), *sections])


@pytest.mark.parametrize(
    ("sdp", "refused", "tagged"),
    [
        (OFFER, (), 0),
        (bundle_only_offer(), (), 0),
        (OFFER.replace("BUNDLE 0 1 2", "BUNDLE 2 0 1"), (), 2),
        (ended(OFFER, 0), (0,), 1),
        (ended(OFFER, 2), (2,), 0),
        (ended(OFFER, 1).replace("a=mid:1\r\n", ""), (1,), 0),
        (ended(OFFER, 1).replace("BUNDLE 0 2", "BUNDLE 0 1 2"), (1,), 0),
        (ended(ended(OFFER, 0), 1).replace("a=group:BUNDLE 2\r\n", ""), (0, 1), 2),
    ],
)
def test_what_browsers_make_passes(sdp: str, refused: tuple[int, ...], tagged: int) -> None:
    outline = check_bundle_description_untrusted(sdp)
    assert outline.kinds == KINDS
    assert outline.refused == tuple(number in refused for number in range(3))
    assert outline.tagged == tagged
    assert outline.mids[tagged] == str(tagged)


def test_channels_alone() -> None:
    assert check_bundle_description_untrusted(CHROMIUM_OFFER).kinds == ("application",)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda sdp: sdp[: sdp.index("m=")], "expected 1 to 48 sections"),
        (lambda sdp: sdp + 46 * sdp[sdp.index("m=audio") : sdp.index("m=video")], "expected 1 to 48 sections"),
        (lambda sdp: sdp + sdp[sdp.index("m=application") :], "at most one data channel"),
        (lambda sdp: sdp.replace("m=audio", "m=text"), "expected audio, video"),
        (lambda sdp: sdp.replace("a=mid:1\r\n", ""), "expected a name as mid"),
        (lambda sdp: sdp.replace("a=mid:1\r\n", "a=mid:0\r\n"), "expected another name as mid"),
        (lambda sdp: sdp.replace("BUNDLE 0 1 2", "BUNDLE 0 1"), "one BUNDLE group"),
        (lambda sdp: sdp.replace("BUNDLE 0 1 2", "BUNDLE 0 1 2 3"), "one BUNDLE group"),
        (lambda sdp: sdp.replace("BUNDLE 0 1 2", "BUNDLE"), "one BUNDLE group"),
        (lambda sdp: ended(sdp, 0).replace("BUNDLE 1 2", "BUNDLE 0 1 2"), "one BUNDLE group"),
        (lambda sdp: ended(ended(ended(sdp, 0), 1), 2), "one BUNDLE group"),
        (lambda sdp: sdp.replace("a=rtcp-mux\r\n", "", 1), "expected rtcp-mux"),
        (lambda sdp: sdp.replace("a=sctp-port:5000\r\n", ""), "expected one SCTP port"),
        (lambda sdp: sdp.replace("a=ice-ufrag:F+BT\r\n", "", 1), "expected one ice-ufrag"),
        (lambda sdp: sdp.replace("a=fingerprint:", "a=print:", 1), "expected a fingerprint"),
        (lambda sdp: sdp.replace("a=candidate:1 ", "a=candidate: ", 1), "expected an ICE candidate"),
        (
            lambda sdp: sdp.replace("a=candidate:1 1 udp", 65 * "a=candidate:1 1 udp 1 h 9 typ host\r\n" + "a=x"),
            "candidates",
        ),
        (lambda sdp: sdp + f"a={1023 * 'x'}\r\n", "lines of at most 1024"),
        (lambda sdp: sdp + MAX_BUNDLE_DESCRIPTION * "x", "at most 262144 characters"),
        (lambda sdp: sdp + 8192 * "a=x\r\n", "at most 8192 lines"),
    ],
)
def test_what_is_refused(change: Callable[[str], str], reason: str) -> None:
    with pytest.raises(RemoteProtocolError, match=reason):
        check_bundle_description_untrusted(change(OFFER))
