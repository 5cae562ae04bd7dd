"""Descriptions of audio and video, as aiortc gets them."""

from __future__ import annotations

import re

from tests.wire.media_descriptions import bundle_only_offer, media_offer
from trio_relay.transports.aio.sections import split_media_description
from trio_relay.wire.description import Candidate

from .media import Tone, two_peers


def values(sdp: str, name: str) -> list[str]:
    return re.findall(f"^a={name}:(.*)\r$", sdp, re.MULTILINE)


def test_every_section_gets_the_transport_that_counts() -> None:
    offer = media_offer("sendrecv", "recvonly", ufrags=("aaaa", "bbbb", "cccc"))
    for tagged, name in enumerate(("aaaa", "bbbb", "cccc")):
        order = " ".join([str(tagged), *(mid for mid in "012" if mid != str(tagged))])
        sdp, signalled = split_media_description(offer.replace("BUNDLE 0 1 2", f"BUNDLE {order}"))
        assert values(sdp, "ice-ufrag") == [name] * 3
        assert len(values(sdp, "setup")) == len(values(sdp, "fingerprint")) == 3
        assert values(sdp, "candidate") == values(sdp, "group") == []
        assert values(sdp, "mid") == ["0", "1", "2"]
        assert re.findall("^a=(sendrecv|recvonly)\r$", sdp, re.MULTILINE) == ["sendrecv", "recvonly", "sendrecv"]
        (candidate,) = signalled.candidates
        assert candidate.candidate.startswith(f"candidate:1 1 udp 2113937151 192.0.2.{tagged} ")
        assert not signalled.complete
        assert signalled.concerns(candidate)
        assert signalled.concerns(Candidate("x", str(tagged), None))
        assert not signalled.concerns(Candidate("x", str((tagged + 1) % 3), (tagged + 1) % 3))


def test_what_is_refused_or_has_no_direction() -> None:
    offer = media_offer("mid:a", "sendrecv").replace("m=video 9 ", "m=video 0 ")
    sdp, _ = split_media_description(offer.replace("a=mid:a\r\n", ""))
    assert re.findall("^a=(sendrecv|inactive)\r$", sdp, re.MULTILINE) == ["sendrecv", "inactive", "sendrecv"]


async def test_sections_without_a_transport_of_their_own_are_answered() -> None:
    async with two_peers() as call:
        answer = await call.callee.create_answer(bundle_only_offer(), [Tone()])
        assert values(answer, "group") == ["BUNDLE 0 1 2"]
        assert re.findall("^m=([a-z]+) ", answer, re.MULTILINE) == ["audio", "video", "application"]
        assert [track.kind for track in call.callee.remote_tracks] == ["audio", "video"]
        assert all(track.id for track in call.callee.remote_tracks)


async def test_an_offer_whose_data_channel_is_first() -> None:
    async with two_peers() as call:
        offer = media_offer(ufrags=("aaaa", "bbbb", "cccc")).replace("BUNDLE 0 1 2", "BUNDLE 2 0 1")
        head, audio, video, application = re.split("(?=m=)", offer)
        answer = await call.callee.create_answer(head + application + audio + video)
        assert re.findall("^m=([a-z]+) ", answer, re.MULTILINE) == ["application", "audio", "video"]
        ice = call.callee._ice()
        assert len({id(t.receiver.transport) for t in call.callee._aio.getTransceivers()}) == 1
        assert call.callee._aio.sctp is not None
        assert call.callee._aio.sctp.transport.transport is ice
        assert len(ice.getRemoteCandidates()) == 1
