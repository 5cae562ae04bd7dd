"""From nothing to an open channel, and every way in which that fails: always with a reason, and for itself alone."""

from __future__ import annotations

import socket
from collections import Counter
from dataclasses import replace
from functools import partial

import aioice.ice
import pytest
import trio

from trio_relay.exceptions import NegotiationFailed
from trio_relay.transports.aio import PeerConnection, internals, open_factory
from trio_relay.transports.aio.data_channel import Channel
from trio_relay.transports.webrtc import CandidatePair, Factory, IceServer, WebRTCConfig
from trio_relay.wire.description import Candidate

from .support import CONFIG, aiortc_of, connected, loop_of, negotiate, two_connections, without_candidates

HASTY = replace(CONFIG, negotiation_timeout=1.0)


def candidates_of(sdp: str) -> list[Candidate]:
    return [Candidate(line[2:], "0", 0) for line in sdp.splitlines() if line.startswith("a=candidate:")]


async def fails(function: object, *args: object, match: str, within: float = 3) -> None:
    assert callable(function)
    with trio.fail_after(within), pytest.raises(NegotiationFailed, match=match):
        await function(*args)


async def test_everything_private_that_is_used_is_there() -> None:
    async with open_factory(close_timeout=1) as factory, two_connections(factory) as (left, _):
        await left.create_offer("x")
        assert internals.missing(loop_of(left), aiortc_of(left).sctp) == []


async def test_no_server_is_asked_unless_it_is_configured() -> None:
    async with open_factory(close_timeout=1) as factory, two_connections(factory) as (left, _):
        await left.create_offer("x")
        agent = internals.ice_connection(aiortc_of(left).sctp.transport)
        assert (agent.stun_server, agent.turn_server) == (None, None)


async def test_servers_and_the_policy_reach_ice() -> None:
    servers = (IceServer(urls="stun:127.0.0.1:9"), IceServer(urls="turn:127.0.0.1:9", username="me", credential="key"))
    config = WebRTCConfig(ice_servers=servers, ice_transport_policy="relay", negotiation_timeout=0.3)
    async with open_factory(close_timeout=1) as factory, factory(config) as left:
        await fails(left.create_offer, "x", match="ICE: no address of ours: the TURN server gave none")
        assert isinstance(left, PeerConnection)
        agent = internals.ice_connection(aiortc_of(left).sctp.transport)
        assert (agent.stun_server, agent.turn_server) == (("127.0.0.1", 9), ("127.0.0.1", 9))
        assert (agent.turn_username, agent.turn_password) == ("me", "key")
        assert agent._transport_policy is aioice.ice.TransportPolicy.RELAY


@pytest.mark.parametrize("url", ["stun:h", "turn:h:1?transport=udp", "turn:h?transport=tcp", "turns:h?transport=tcp"])
async def test_aiortc_takes_the_urls_that_a_server_may_have(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(agent: aioice.ice.Connection) -> None:
        """Nobody is asked: neither who h is, nor it."""

    monkeypatch.setattr(aioice.ice.Connection, "gather_candidates", nothing)
    config = WebRTCConfig(ice_servers=(IceServer(urls=url, username="me", credential="key"),))
    async with open_factory(close_timeout=1) as factory, factory(config) as left:
        await fails(left.create_offer, "x", match="ICE: no address of ours")
        assert isinstance(left, PeerConnection)
        agent = internals.ice_connection(aiortc_of(left).sctp.transport)
        assert [server[0] for server in (agent.stun_server, agent.turn_server) if server is not None] == ["h"]


async def test_time_without_end() -> None:
    config = WebRTCConfig(negotiation_timeout=float("inf"))
    async with connected(config, config) as pair:
        await pair.from_left.send("x")
        assert await pair.from_right.receive() == ["x"]


async def test_a_server_that_does_not_answer_does_not_take_all_the_time() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        config = replace(CONFIG, ice_servers=(IceServer(urls=f"stun:127.0.0.1:{deaf.getsockname()[1]}"),))
        config = replace(config, negotiation_timeout=0.6)
        async with open_factory(close_timeout=1) as factory, factory(config) as left:
            with trio.fail_after(1):
                assert candidates_of(await left.create_offer("x"))


async def test_a_machine_without_an_interface_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: [])
    async with open_factory(close_timeout=1) as factory, two_connections(factory) as (left, _):
        await fails(left.create_offer, "x", match="ICE: no address of ours: no interface has one")


GARBAGE = {
    "nothing": ("", "got 0 media sections"),
    "noise": ("\x00\xff" * 50, "expected printable ASCII"),
    "audio": ("v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n", "expected a data channel"),
    "no transport": ("v=0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n", "expected one ice-ufrag"),
}


@pytest.mark.parametrize(("sdp", "reason"), GARBAGE.values(), ids=GARBAGE)
async def test_garbage_instead_of_a_description_ends_that_negotiation(sdp: str, reason: str) -> None:
    async with connected() as pair, open_factory(close_timeout=1) as factory:
        async with two_connections(factory) as (left, right):
            await fails(right.create_answer, sdp, match=f"the offer: .*{reason}")
            await left.create_offer("x")
            await fails(left.accept_answer, sdp, match=f"the answer: .*{reason}")
        await pair.from_left.send("not concerned")
        assert await pair.from_right.receive() == ["not concerned"]


async def test_what_only_aiortc_finds_wrong_ends_that_negotiation() -> None:
    async with open_factory(close_timeout=1) as factory, two_connections(factory) as (left, right):
        offer = await left.create_offer("x")
        wrong = offer.replace("s=-", "s=-\r\nc=nonsense")
        await fails(right.create_answer, wrong, match="taking the offer: AssertionError")
        await fails(left.accept_answer, offer, match="taking the answer: ValueError: DTLS setup")


async def test_a_group_that_names_something_else_is_of_no_account() -> None:
    async with open_factory(close_timeout=1) as factory, two_connections(factory) as (left, right):
        offer = (await left.create_offer("x")).replace("a=group:BUNDLE 0", "a=group:BUNDLE 7 0")
        await left.accept_answer(await right.create_answer(offer))
        with trio.fail_after(2):
            await right.channel()


async def test_another_certificate_than_announced_fails_in_dtls() -> None:
    async with open_factory(close_timeout=1) as factory, two_connections(factory) as (left, right):
        offer = await left.create_offer("x")
        answer = await right.create_answer(offer)
        lines = [line for line in answer.split("\r\n") if not line.startswith("a=fingerprint")]
        lines.insert(-1, "a=fingerprint:sha-256 " + ":".join(["00"] * 32))
        await left.accept_answer("\r\n".join(lines))
        await fails(left.channel, match="DTLS: the handshake failed")


async def unreachable(factory: Factory, *candidates: str) -> None:
    async with factory(HASTY) as left, factory(HASTY) as right:
        offer = await left.create_offer("x")
        answer = without_candidates(await right.create_answer(without_candidates(offer)))
        lines = [*(f"a={candidate}" for candidate in candidates), "a=end-of-candidates", ""]
        await left.accept_answer(answer + "\r\n".join(lines))
        await fails(left.channel, match="ICE: no pair of addresses works", within=2)


async def test_ice_fails_when_no_address_answers() -> None:
    async with open_factory(close_timeout=1) as factory:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
            deaf.bind(("127.0.0.1", 0))
            port = deaf.getsockname()[1]
            await unreachable(factory, f"candidate:1 1 udp 2130706431 127.0.0.1 {port} typ host")


async def test_ice_fails_at_once_without_addresses() -> None:
    async with open_factory(close_timeout=1) as factory:
        with trio.fail_after(0.5):
            await unreachable(factory)


@pytest.mark.parametrize("when", ["early", "late", "twice"])
async def test_candidates_one_by_one(when: str) -> None:
    counters = Counter[str]()
    async with open_factory(close_timeout=1, counters=counters) as factory, two_connections(factory) as (left, right):
        offer = await left.create_offer("x")
        candidates = candidates_of(offer)
        if when == "early":
            for candidate in [*candidates, None]:
                await right.add_candidate(candidate)
        answer = await right.create_answer(without_candidates(offer).replace("s=-", "s=-\r\na=ice-options:trickle"))
        await left.accept_answer(without_candidates(answer))  # it learns the address from the packets
        if when != "early":
            await trio.sleep(0.05)
            for candidate in [*candidates, *candidates] if when == "twice" else candidates:
                await right.add_candidate(candidate)
            await right.add_candidate(Candidate("", "0", 0))
            await right.add_candidate(candidates[0])  # after the end
        with trio.fail_after(2):
            assert isinstance(await right.channel(), Channel)
            assert isinstance(await left.channel(), Channel)
        assert counters == ({} if when == "early" else {"webrtc_candidates_ignored": 1})


BAD_CANDIDATES = [
    "candidate:",
    "candidate:garbage",
    "candidate:1 1 udp x 127.0.0.1 5 typ host",
    "candidate:1 1 udp 1 127.0.0.1 70000 typ host",
    "candidate:1 1 udp 1 127.0.0.1 0 typ host",
    "candidate:1 1 udp 1 224.0.0.1 9999 typ host",
    "candidate:1 1 udp 1 0.0.0.0 9999 typ host",
    "candidate:1 1 udp 1 example.org 9999 typ host",
    "candidate:1 1 udp 1 localhost 9999 typ host",
]


async def test_a_bad_candidate_is_ignored_and_counted() -> None:
    counters = Counter[str]()
    async with open_factory(close_timeout=1, counters=counters) as factory, two_connections(factory) as (left, right):
        offer = await left.create_offer("x")
        for text in BAD_CANDIDATES[1:]:
            await right.add_candidate(Candidate(text, None, 0))
        await right.add_candidate(Candidate(candidates_of(offer)[0].candidate, None, 7))
        await left.accept_answer(await right.create_answer(offer))
        with trio.fail_after(2):
            await left.channel()
        assert counters["webrtc_candidates_ignored"] == len(BAD_CANDIDATES)


async def test_more_candidates_than_anybody_has_are_dropped() -> None:
    counters = Counter[str]()
    async with open_factory(close_timeout=1, counters=counters) as factory, two_connections(factory) as (_, right):
        for number in range(70):
            await right.add_candidate(Candidate(f"candidate:1 1 udp 1 127.0.0.1 {1000 + number} typ host", "0", 0))
        assert counters["webrtc_candidates_ignored"] == 6


HIDDEN = Candidate("candidate:1 1 udp 2130706431 0b1a4b6e-0000-4000-8000-000000000000.local 4000 typ host", "0", 0)


async def test_a_name_that_nobody_knows_blocks_nothing() -> None:
    async with open_factory(close_timeout=1) as factory:
        async with two_connections(factory) as (left, right):
            offer = await left.create_offer("x")
            hidden = without_candidates(offer) + f"a={HIDDEN.candidate}\r\na=end-of-candidates\r\n"
            with trio.fail_after(0.5):
                await left.accept_answer(await right.create_answer(hidden))
                await right.channel()
            started = trio.current_time()
        assert trio.current_time() - started < 0.5


async def test_who_hides_behind_a_name_that_is_not_found_may_still_come_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Nobody:
        async def resolve(self, name: str) -> None:
            return None

    async def resolver(subscriber: object) -> Nobody:
        return Nobody()

    monkeypatch.setattr(aioice.ice, "get_or_create_mdns_protocol", resolver)
    async with open_factory(close_timeout=1) as factory, two_connections(factory) as (left, right):
        offer = without_candidates(await left.create_offer("x"))
        answer = await right.create_answer(f"{offer}a={HIDDEN.candidate}\r\na=end-of-candidates\r\n")
        await trio.sleep(0.05)  # time enough for ICE to give up, if it took the end for one
        await left.accept_answer(answer)
        with trio.fail_after(2):
            await right.channel()


@pytest.mark.parametrize("limits", [{}, {"maxRetransmits": 0}, {"maxPacketLifeTime": 100}])
@pytest.mark.parametrize("ordered", [True, False])
async def test_both_sides_know_of_what_kind_the_channel_is(ordered: bool, limits: dict[str, int]) -> None:
    async with open_factory(close_timeout=1) as factory, two_connections(factory) as (left, right):
        pc = aiortc_of(left)
        pc.createDataChannel = partial(pc.createDataChannel, **limits)
        offer = await left.create_offer("x", ordered=ordered)
        await left.accept_answer(await right.create_answer(offer))
        with trio.fail_after(2):
            for channel in (await left.channel(), await right.channel()):
                assert (channel.ordered, channel.reliable) == (ordered, not limits)


async def test_further_channels_of_the_other_side_are_refused() -> None:
    async with connected() as pair:
        for number in range(20):
            pair.left._loop.call(pair.left._owner, aiortc_of(pair.left).createDataChannel, f"{number}")
        with trio.fail_after(2), pytest.raises(trio.BrokenResourceError, match="opened more than 16 data channels"):
            await pair.from_right.receive()
        assert pair.counters["webrtc_channels_refused"] == 17


async def test_the_other_side_leaves_before_the_channel_is_open() -> None:
    async with open_factory(close_timeout=1) as factory, two_connections(factory) as (left, right):
        offer = await left.create_offer("x")
        answer = await right.create_answer(offer)
        aiortc_of(right).sctp.start = trio.lowlevel.checkpoint  # it never gets that far
        await left.accept_answer(answer)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(fails, left.channel, match="the other side (refused|closed)"))
            # In the middle of its handshake aiortc would leave without a word.
            while {aiortc_of(side).connectionState for side in (left, right)} != {"connected"}:
                await trio.sleep(0.005)
            await right.aclose(1)


async def test_malformed_packets_end_their_connection_only() -> None:
    async with connected() as pair, connected() as other:
        sctp = aiortc_of(pair.left).sctp
        # An acknowledgement of a data channel that does not exist trips an assertion in aiortc.
        pair.left._loop.spawn(pair.left._owner, sctp._send, 77, 50, b"\x02")
        with trio.fail_after(2), pytest.raises(trio.BrokenResourceError, match="SCTP: AssertionError"):
            await pair.from_right.receive()
        assert pair.counters["webrtc_faults"] == 1
        await other.from_left.send("not concerned")
        assert await other.from_right.receive() == ["not concerned"]


async def test_a_failure_in_a_task_of_aiortc_ends_its_connection_only() -> None:
    async def fail() -> None:
        raise KeyError("orphan")

    async with connected() as pair:
        pair.left._loop.spawn(pair.left._owner, fail)
        with trio.fail_after(2), pytest.raises(trio.BrokenResourceError, match="aiortc failed: KeyError: 'orphan'"):
            await pair.from_left.receive()
        assert pair.counters["webrtc_faults"] == 1
        assert not loop_of(pair.left).is_closed()
        await pair.from_right.send("the other end goes on")


async def test_a_flood_of_datagrams_before_the_answer_is_bounded() -> None:
    counters = Counter[str]()
    async with open_factory(close_timeout=1, counters=counters) as factory, two_connections(factory) as (left, right):
        offer = await left.create_offer("x")
        agent = internals.ice_connection(aiortc_of(left).sctp.transport)
        for _ in range(2050):
            agent.data_received(b"\x16noise", 1)
        assert agent._queue.qsize() == 2048
        assert counters["webrtc_datagrams_dropped"] == 2
        await left.accept_answer(await right.create_answer(offer))
        with trio.fail_after(3):
            await left.channel()


async def test_datagrams_of_strangers_end_nothing() -> None:
    async with connected() as pair:
        address = pair.left.selected_pair()
        assert address is not None
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            noise = [b"", b"\x00", b"\x16", b"\x16\xfe\xfd" + bytes(40), b"\x80" * 20, b"\xff" * 1400]
            for datagram in noise:
                stranger.sendto(datagram, ("127.0.0.1", int(address.local_address.rpartition(":")[2])))
        await pair.from_right.send("not concerned")
        with trio.fail_after(2):
            assert await pair.from_left.receive() == ["not concerned"]
        assert pair.counters == {"webrtc_datagrams_dropped": 4}


async def test_closing_during_a_negotiation_wakes_who_waits() -> None:
    async with open_factory(close_timeout=1) as factory, two_connections(factory) as (left, _):
        await left.create_offer("x")
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def wait() -> None:
                await fails(left.channel, match="the connection was closed")

            await trio.sleep(0.01)
            await left.aclose(1)
        await fails(left.create_offer, "y", match="the connection was closed")


async def test_who_is_in_use() -> None:
    async with open_factory(close_timeout=1) as factory, two_connections(factory) as (left, right):
        assert left.selected_pair() is None
        await negotiate(left, right)
        assert isinstance(left.selected_pair(), CandidatePair)
