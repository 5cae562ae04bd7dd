"""Descriptions of audio and video: what browsers make passes, and nothing in excess does."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.descriptions import CHROMIUM_OFFER
from tests.wire.media_descriptions import FINGERPRINT, bundle_only_offer, media_offer
from trio_relay.exceptions import RemoteProtocolError
from trio_relay.wire.description import (
    MAX_MEDIA_DESCRIPTION,
    check_media_description_untrusted,
    count_places,
    find_tagged,
)

OFFER = media_offer()
AUDIO_ONLY = OFFER[: OFFER.index("m=video")].replace("BUNDLE 0 1 2", "BUNDLE 0")


def test_what_browsers_make_passes() -> None:
    for sdp in (OFFER, bundle_only_offer(), AUDIO_ONLY, AUDIO_ONLY.replace("a=group:BUNDLE 0\r\n", "")):
        check_media_description_untrusted(sdp)
    own = re.sub("a=(ice-ufrag|ice-pwd|setup|fingerprint):.*\r\n", "", AUDIO_ONLY)
    before = (
        "t=0 0\r\na=ice-ufrag:abcd\r\na=ice-pwd:" + 22 * "x" + f"\r\na=setup:active\r\na=fingerprint:{FINGERPRINT}\r\n"
    )
    check_media_description_untrusted(own.replace("t=0 0\r\n", before))


def without_bundle(mid: str) -> Callable[[str], str]:
    return lambda sdp: sdp.replace("BUNDLE 0 1 2", "BUNDLE " + " ".join(m for m in "012" if m != mid))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda sdp: CHROMIUM_OFFER, "expected audio or video"),
        (lambda sdp: sdp + 6 * sdp[sdp.index("m=video") : sdp.index("m=application")], "at most 8 sections"),
        (lambda sdp: sdp + sdp[sdp.index("m=application") :], "one data channel"),
        (lambda sdp: sdp.replace("m=audio", "m=text"), "expected audio or video over RTP"),
        (lambda sdp: sdp.replace("m=audio 9 UDP", "m=audio 65536 UDP"), "expected audio or video over RTP"),
        (lambda sdp: sdp.replace("SAVPF 111", "SAVPF 111x"), "expected audio or video over RTP"),
        (lambda sdp: sdp.replace("m=audio 9 ", "m=audio 0 "), "port 0"),
        (lambda sdp: sdp.replace("m=application 9 ", "m=application 0 "), "expected a data channel with a port"),
        (lambda sdp: sdp.replace("a=mid:1\r\n", ""), "expected a name as mid"),
        (lambda sdp: sdp.replace("a=mid:1\r\n", "a=mid:0\r\n"), "expected a name as mid"),
        (lambda sdp: sdp.replace("a=mid:1\r\n", "a=mid:1\r\na=mid:4\r\n"), "expected a name as mid"),
        (without_bundle("1"), "one BUNDLE group"),
        (lambda sdp: sdp.replace("BUNDLE 0 1 2", "BUNDLE 0 1 2 3"), "one BUNDLE group"),
        (lambda sdp: sdp.replace("a=group:BUNDLE 0 1 2\r\n", ""), "one BUNDLE group"),
        (lambda sdp: sdp.replace("a=group:", "a=group:BUNDLE 0 1 2\r\na=group:"), "one BUNDLE group"),
        (lambda sdp: sdp.replace("a=rtcp-mux\r\n", "", 1), "expected rtcp-mux"),
        (lambda sdp: sdp.replace("a=ice-ufrag:F+BT\r\n", "", 1), "expected one ice-ufrag"),
        (lambda sdp: sdp.replace("a=setup:actpass", "a=setup:holdconn", 1), "as setup"),
        (lambda sdp: sdp.replace(f"a=fingerprint:{FINGERPRINT}\r\n", "", 1), "expected a fingerprint"),
        (lambda sdp: sdp.replace("typ host", "typ", 1), "expected an ICE candidate"),
        (
            lambda sdp: sdp.replace("a=mid:0\r\n", "a=mid:0\r\n" + 64 * "a=candidate:1 1 udp 1 ::1 9 typ host\r\n"),
            "at most 64",
        ),
        (lambda sdp: sdp.replace("a=sctp-port:5000\r\n", ""), "expected one SCTP port"),
        (lambda sdp: sdp + "a=x:" + "y" * 1024, "at most 1024 characters"),
        (lambda sdp: sdp.replace("a=rtcp-rsize\r\n", 257 * "a=ssrc:1 cname:c\r\n"), "at most 256 lines of ssrc"),
        (lambda sdp: sdp.replace("a=rtcp-rsize\r\n", 257 * "a=rtcp-fb:* nack\r\n"), "at most 256 lines of rtcp-fb"),
        (lambda sdp: sdp + 2048 * "a=x\r\n", "at most 2048 lines"),
        (lambda sdp: sdp + "a=" + "x" * MAX_MEDIA_DESCRIPTION, "at most 65536 characters"),
        (lambda sdp: sdp + "a=\u00e4\r\n", "printable ASCII"),
        (lambda sdp: "", "expected audio or video"),
    ],
)
def test_what_is_refused(change: Callable[[str], str], reason: str) -> None:
    with pytest.raises(RemoteProtocolError, match=reason):
        check_media_description_untrusted(change(OFFER))


def test_sections_that_were_refused_need_not_be_in_the_bundle() -> None:
    sdp = without_bundle("1")(OFFER).replace("m=video 9 ", "m=video 0 ")
    check_media_description_untrusted(sdp)
    assert count_places(sdp) == {"audio": 1, "application": 1}


def test_the_tagged_section_is_the_first_of_the_group() -> None:
    assert find_tagged(OFFER) == 0
    assert find_tagged(OFFER.replace("BUNDLE 0 1 2", "BUNDLE 2 0 1")) == 2


@pytest.mark.parametrize(
    ("audio", "video", "places"),
    [("sendrecv", "recvonly", (1, 1)), ("sendonly", "inactive", (0, 0)), ("mid:x", "sendonly", (1, 0))],
)
def test_places_for_tracks(audio: str, video: str, places: tuple[int, int]) -> None:
    counted = count_places(media_offer(audio, video))
    assert (counted["audio"], counted["video"]) == places
    everything = media_offer("x", "x").replace("t=0 0\r\n", "t=0 0\r\na=sendonly\r\n")
    assert count_places(everything)["audio"] == 0


@settings(max_examples=20)
@given(st.integers(0, 40), st.text("amc=:01 BUNDLE\r\n", max_size=30))
def test_whatever_comes_is_refused_with_the_one_error(line: int, text: str) -> None:
    lines = OFFER.split("\r\n")
    lines[line] = text
    try:
        check_media_description_untrusted("\r\n".join(lines))
    except RemoteProtocolError as error:
        assert str(error)
    else:
        assert find_tagged("\r\n".join(lines)) in (0, 1, 2)
