"""Connections with many channels, over real sockets: their negotiation, again and again, and their end."""

from __future__ import annotations

import re
from functools import partial
from types import SimpleNamespace

import pytest
import trio

from trio_relay.exceptions import NegotiationFailed
from trio_relay.transports.aio import Bundle, bundle_internals, bundle_transport, internals
from trio_relay.transports.aio.fragments import SLACK
from trio_relay.transports.webrtc import WebRTCConfig
from trio_relay.wire.description import Candidate

from .bundles import connected_bundles, needs, negotiate_bundles, receive_all, streams, two_bundles
from .media import Tone
from .support import CONFIG, aiortc_of, fall_silent, without_candidates


async def test_channels_of_all_kinds() -> None:
    async with two_bundles() as (one, other, _):
        assert not needs(one)
        early = one.open_channel("früh", protocol="日本"), other.open_channel("other", ordered=False)
        controls = one.open_channel("", id=0), other.open_channel("", id=0)
        assert needs(one)
        assert one.state == "new"
        await negotiate_bundles(one, other)
        assert not needs(one)
        with trio.fail_after(5):
            assert await one.wait_state("connecting") == "connected"
            accepted = await other.accept_channel(), await one.accept_channel()
            for channel in (*early, *controls):
                await channel.wait_open()
        lossy = other.open_channel("lossy", max_retransmits=0)
        late = other.open_channel("late", max_packet_lifetime=0.5)
        with trio.fail_after(5):
            taken = await one.accept_channel(), await one.accept_channel()
        assert [(c.label, c.protocol, c.ordered, c.reliable) for c in (*accepted, *taken)] == [
            ("früh", "日本", True, True),
            ("other", "", False, True),
            ("lossy", "", True, False),
            ("late", "", True, False),
        ]
        ids = {channel._channel.id for channel in (*early, *controls, lossy, late)}
        assert len(ids) == 5  # id 0 is one channel at both ends
        for sender, receiver in zip((*early, controls[0], lossy, late), (*accepted, controls[1], *taken), strict=True):
            await sender.send(f"over {sender.label}")
            assert await receive_all(receiver, 1) == [f"over {sender.label}"]


async def test_channels_close_alone_and_their_ids_are_free_again() -> None:
    async with connected_bundles() as ends:
        for closing, staying in ((0, 1), (1, 0)) * 2:
            here = ends.one.open_channel("chat")
            there = await ends.other.accept_channel()
            pair = here, there
            await here.wait_open()
            await pair[closing].send(bytes(100_000))
            await pair[closing].aclose()
            assert await receive_all(pair[staying], 1) == [bytes(100_000)]
            with trio.fail_after(5):
                assert await pair[staying].receive() == []
            with pytest.raises(trio.BrokenResourceError, match="closed"):
                await pair[staying].send("x")
            with pytest.raises(trio.ClosedResourceError):
                await pair[closing].receive()
            assert here._channel.id == 1 or closing
        assert len(ends.one._channels) <= 2
        await ends.near.send("still here")
        assert await receive_all(ends.far, 1) == ["still here"]


async def test_what_cannot_be_opened() -> None:
    async with connected_bundles() as ends:
        open_channel = partial(ends.one.open_channel, "x")
        with pytest.raises(ValueError, match="not both"):
            open_channel(max_retransmits=1, max_packet_lifetime=1)
        with pytest.raises(ValueError, match="at most 65535 bytes"):
            ends.one.open_channel("ä" * 33000)
        with pytest.raises(ValueError, match="already registered"):
            open_channel(id=0)
        for _ in range(63):
            ends.one.open_channel("many")
        with pytest.raises(ValueError, match="at most 64 data channels"):
            open_channel()
        refused = ends.other.open_channel("beyond")
        with trio.fail_after(5):
            assert await refused.receive() == []
            while ends.counters["webrtc_channels_refused"] < 2:  # one of each side: both went beyond at once
                await trio.sleep(0.001)
        with pytest.raises(trio.BrokenResourceError, match="closed"):
            await refused.send("x")


async def test_glare_and_void_offers() -> None:
    async with connected_bundles() as ends:
        tracks = Tone(), Tone()
        ends.one.set_stream("of-one", [tracks[0]])
        ends.other.set_stream("of-other", [tracks[1]])
        theirs, ours = await ends.one.create_offer(), await ends.other.create_offer()
        assert not needs(ends.other)
        answer = await ends.other.accept_offer(theirs)
        assert needs(ends.other)
        with pytest.raises(NegotiationFailed, match="no offer that it answers"):
            await ends.other.accept_answer(answer)
        await ends.one.accept_answer(answer)
        await ends.other.create_offer()
        await negotiate_bundles(ends.other, ends.one)
        assert [*streams(ends.one), *streams(ends.other)] == ["of-other", "of-one"]
        with pytest.raises(NegotiationFailed, match="sections"):
            await ends.one.accept_offer(ours)
        assert [ends.one.state, ends.other.state] == ["connected", "connected"]
        assert not needs(ends.one)


async def test_descriptions_that_do_not_belong_here() -> None:
    async with connected_bundles() as ends, two_bundles() as (stranger, _, _):
        with pytest.raises(NegotiationFailed, match="another transport or certificate"):
            await ends.one.accept_offer(await stranger.create_offer())
        offer = await ends.one.create_offer()
        for bad in (
            "",
            offer.replace("m=application", "m=text"),
            offer.replace("a=mid:0", "a=mid:7").replace("BUNDLE 0", "BUNDLE 7"),
            re.sub("m=application [0-9]+", "m=application 0", offer),
        ):
            with pytest.raises(NegotiationFailed):
                await ends.other.accept_offer(bad)
        answer = await ends.other.accept_offer(offer)
        with pytest.raises(NegotiationFailed, match="who begins"):
            await ends.one.accept_answer(answer.replace("a=setup:active", "a=setup:actpass"))
        with pytest.raises(NegotiationFailed, match="no offer that it answers"):
            await ends.one.accept_answer(answer)
        await negotiate_bundles(ends.one, ends.other)
        await ends.near.send("still here")
        assert await receive_all(ends.far, 1) == ["still here"]


async def test_candidates_of_an_offer_that_was_given_up() -> None:
    async with two_bundles() as (one, other, counters):
        channel = one.open_channel("x")
        offer = await one.create_offer()
        await other.add_candidate(None)
        answer = await other.accept_offer(without_candidates(offer))
        for sdp, end in ((offer, other), (answer, one)):
            lines = re.findall("a=(candidate:.*)\r\n", sdp)
            [fragment] = set(re.findall("a=ice-ufrag:(.*)\r\n", sdp))
            await end.add_candidate(None)
            await end.add_candidate(Candidate(f"{lines[0]} ufrag another", "0", 0))
            for line in lines:
                await end.add_candidate(Candidate(f"{line} ufrag {fragment}", "0", 0))
        await one.accept_answer(without_candidates(answer))
        with trio.fail_after(5):
            await channel.wait_open()
            while counters["webrtc_candidates_ignored"] < 2:
                await trio.sleep(0.001)


async def test_goodbye() -> None:
    async with connected_bundles() as ends:
        channel = ends.one.open_channel("chat")
        taken = await ends.other.accept_channel()
        await taken.send("last words")
        await taken.drain()
        await ends.other.aclose(1)
        with trio.fail_after(5):
            assert await ends.one.wait_state("connected") == "closed"
        assert ends.one.failure == "the other side closed the connection"
        assert await channel.receive() == ["last words"]
        assert await channel.receive() == []
        with pytest.raises(trio.BrokenResourceError):
            ends.one.open_channel("more")
        with pytest.raises(trio.BrokenResourceError):
            await ends.one.accept_track()
        with pytest.raises(NegotiationFailed, match="closed"):
            await ends.one.create_offer()
        with pytest.raises(trio.ClosedResourceError):
            await ends.other.accept_channel()
        ends.one.set_stream("s", [Tone()])
        assert not needs(ends.one)


async def test_silence_is_no_goodbye(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aioice.ice.CONSENT_INTERVAL", 0.01)
    monkeypatch.setattr("aioice.ice.CONSENT_FAILURES", 2)
    monkeypatch.setattr("aioice.stun.RETRY_RTO", 0.01)
    async with connected_bundles() as ends:
        fall_silent(ends.other)
        with trio.fail_after(5):
            assert await ends.one.wait_state("connected") == "failed"
        assert ends.one.failure == "ICE: the other side no longer answers"
        with pytest.raises(trio.BrokenResourceError, match="no longer answers"):
            await ends.near.receive()


async def test_a_channel_that_nobody_reads_loses_nothing() -> None:
    async with connected_bundles(WebRTCConfig(negotiation_timeout=5, receive_window=256 * 1024)) as ends:
        unread = ends.one.open_channel("unread")
        taken = await ends.other.accept_channel()
        await ends.near.send("first")
        sent = 0
        with trio.move_on_after(0.2):
            while True:
                await unread.send(bytes(32768))
                sent += 1
        assert 8 <= sent < 40
        assert await receive_all(ends.far, 1) == ["first"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ends.near.send, "second")
            assert len(await receive_all(taken, sent)) == sent
        assert await receive_all(ends.far, 1) == ["second"]
        for _ in range(4):
            await unread.send(bytes(32768))
        await unread.drain()
        association = aiortc_of(ends.other).sctp
        assert internals.window(association) < 128 * 1024
        await taken.aclose()
        assert internals.window(association) == 256 * 1024  # what nobody will read takes no room


async def test_a_side_that_does_not_keep_to_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_transport, "SendWindow", lambda _: SimpleNamespace(stop=lambda: None))
    async with connected_bundles(WebRTCConfig(negotiation_timeout=5, receive_window=1)) as ends:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def flood() -> None:
                while True:
                    await ends.near.send(bytes(65536))

            association = aiortc_of(ends.other).sctp
            with trio.fail_after(5):
                while internals.window(association) >= -SLACK:
                    await trio.sleep(0.005)
            await trio.sleep(0.1)
            assert internals.window(association) > -SLACK - 65536
            nursery.cancel_scope.cancel()
        assert ends.other.state == "connected"


async def test_cancelled_negotiation_can_be_done_again() -> None:
    async with two_bundles(CONFIG) as (one, other, _):
        channel = one.open_channel("x")
        for negotiating in (one.create_offer, partial(other.accept_offer, await one.create_offer())):
            with trio.CancelScope() as scope:
                scope.cancel()
                await negotiating()
        await negotiate_bundles(one, other)
        with trio.fail_after(5):
            await channel.wait_open()


async def test_private_names_that_are_used() -> None:
    async with two_bundles() as (one, _, _):
        one.set_stream("s", [Tone()])
        transport = one._transport
        receiver = one._loop.call(one._owner, bundle_internals.make_receiver, "audio", None, transport.dtls, 1)
        assert isinstance(one, Bundle)
        sender = one._media.places[0].sender
        assert bundle_internals.missing(sender, receiver, transport.dtls, transport.sctp) == []
