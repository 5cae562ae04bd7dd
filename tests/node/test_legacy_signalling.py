"""How direct links with originals are negotiated, as a pure machine: handshakes, signals, and who begins."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_relay.exceptions import RemoteProtocolError
from trio_relay.limits import Limits
from trio_relay.node.legacy.actions import (
    AnsweredLegacy,
    CandidateLegacy,
    ConnectFailed,
    DialLegacy,
    EndLegacyNegotiation,
    GatewayAction,
    LegacyLinked,
    NegotiateLegacy,
    NegotiationAction,
    SendCarried,
    SendText,
)
from trio_relay.node.legacy.carriage import carry, parse_carried_untrusted
from trio_relay.node.legacy.gateway import Gateway
from trio_relay.node.legacy.simple_peer import Description, PeerSignal, parse_signal_untrusted
from trio_relay.overlay.actions import Preference
from trio_relay.wire.body import Body, FindPeers, HandshakeAnswer, HandshakeOffer, Signal
from trio_relay.wire.description import Candidate
from trio_relay.wire.envelope import build_envelope, make_envelope, parse_body_untrusted, parse_envelope_untrusted
from trio_relay.wire.hello import Reason
from trio_relay.wire.ids import NodeId
from trio_relay.wire.json import JSONValue, encode

from .legacy_world import ANSWER, OFFER, new_gateway, node_id

OWN = node_id(50)
RELAY = node_id(60)
"""An original that is linked with us, and by which all others are reached."""
PEER = node_id(70)
N = node_id(2)
"""One of ours."""

LINE = "candidate:1 1 udp 2113937151 192.0.2.1 5000 typ host"
CANDIDATE: dict[str, JSONValue] = {"candidate": LINE, "sdpMLineIndex": 0, "sdpMid": "0"}
PARSED = Candidate(LINE, "0", 0)
URL = "ws://127.0.0.1:9"

_nonces = itertools.count()


def gateway_with(
    *, url: str | None = None, reachable: bool = False, webrtc: bool = True, limits: Limits | None = None
) -> Gateway:
    gateway, _ = new_gateway(OWN, url=url, reachable=reachable, webrtc=webrtc, limits=limits)
    gateway.link_up(RELAY, RELAY, 0.0, dialled=False, scope=2)
    for peer in (PEER, RELAY):
        gateway.looked_up(peer, 0.0)
    return gateway


def hear(gateway: Gateway, body: Body, now: float, *, source: NodeId = PEER) -> list[GatewayAction]:
    """An envelope comes through the relay."""
    envelope = make_envelope(body, to=OWN, source=source, nonce=f"n{next(_nonces)}", path=(source, RELAY))
    return gateway.receive(RELAY, build_envelope(envelope), now)


def signal(gateway: Gateway, value: JSONValue, now: float, *, source: NodeId = PEER) -> list[GatewayAction]:
    """The same for a signal, of any form."""
    envelope: dict[str, JSONValue] = {
        "to": OWN.hex(),
        "from": source.hex(),
        "path": [source.hex(), RELAY.hex()],
        "nonce": f"s{next(_nonces)}",
        "data": {"type": "signal", "data": value},
    }
    return gateway.receive(RELAY, encode(envelope), now)


def said(actions: Sequence[GatewayAction], to: NodeId = PEER) -> list[Body]:
    """What was said to an id."""
    envelopes = [parse_envelope_untrusted(action.text) for action in actions if isinstance(action, SendText)]
    envelopes += [parse_carried_untrusted(action.payload) for action in actions if isinstance(action, SendCarried)]
    return [parse_body_untrusted(envelope) for envelope in envelopes if envelope.to == to]


def negotiations(actions: Sequence[GatewayAction]) -> list[NegotiationAction]:
    kinds = (NegotiateLegacy, AnsweredLegacy, CandidateLegacy, EndLegacyNegotiation)
    return [action for action in actions if isinstance(action, kinds)]


def offered(gateway: Gateway, now: float = 0.0, *, source: NodeId = PEER) -> None:
    """An original was told that it may offer."""
    assert said(hear(gateway, HandshakeOffer(), now, source=source), source) == [HandshakeAnswer(None, wrtc=True)]


def offering(gateway: Gateway, now: float = 0.0) -> int:
    """We began to offer; the attempt."""
    gateway.connect(PEER, now)
    [action] = hear(gateway, HandshakeAnswer(None, wrtc=True), now)
    assert isinstance(action, NegotiateLegacy)
    return action.number


def failures(actions: Sequence[GatewayAction]) -> list[str]:
    return [action.reason for action in actions if isinstance(action, ConnectFailed)]


class TestSignals:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ({"type": "offer", "sdp": OFFER}, PeerSignal((), Description("offer", OFFER))),
            ({"type": "answer", "sdp": ANSWER}, PeerSignal((), Description("answer", ANSWER))),
            ({"candidate": CANDIDATE}, PeerSignal((PARSED,))),
            ({"type": "candidate", "candidate": CANDIDATE}, PeerSignal((PARSED,))),
            ({"candidate": {"candidate": ""}}, PeerSignal((None,))),
            (
                {"type": "offer", "sdp": OFFER, "candidate": CANDIDATE},
                PeerSignal((PARSED,), Description("offer", OFFER)),
            ),
            (encode({"type": "answer", "sdp": ANSWER}).decode(), PeerSignal((), Description("answer", ANSWER))),
            ({"type": "renegotiate", "renegotiate": True}, PeerSignal()),
            ({"type": "transceiverRequest", "transceiverRequest": {"kind": "audio"}}, PeerSignal()),
        ],
    )
    def test_what_simple_peer_sends(self, value: JSONValue, expected: PeerSignal) -> None:
        assert parse_signal_untrusted(value) == expected

    @pytest.mark.parametrize(
        "value",
        [
            None,
            7,
            [],
            {},
            "",
            "no json",
            "[]",
            '"a string in a string"',
            '{"sdp":"' + "x" * 70_000 + '"}',
            {"sdp": OFFER},
            {"type": "rollback", "sdp": OFFER},
            {"type": ["offer"], "sdp": OFFER},
            {"type": "offer", "sdp": {"v": 0}},
            {"type": "offer", "sdp": "v=0"},
            {"candidate": "candidate:1"},
            {"candidate": {"candidate": "nonsense"}},
            {"candidate": {"sdpMid": "0"}},
            {"candidate": None},
        ],
    )
    def test_what_it_does_not(self, value: JSONValue) -> None:
        with pytest.raises(RemoteProtocolError):
            parse_signal_untrusted(value)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=30),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["type", "sdp", "candidate", "sdpMid", "x"]), inner, max_size=4)
            ),
            max_leaves=8,
        )
    )
    def test_garbage_is_counted_and_leaves_the_handshake_as_it_was(self, value: Any) -> None:
        gateway = gateway_with()
        offered(gateway)
        before = gateway.counts.total()
        assert not negotiations(signal(gateway, value, 1.0)) or gateway.counts["legacy_signals_invalid"] == 0
        assert gateway.counts.total() >= before
        [action] = signal(gateway, {"type": "offer", "sdp": OFFER}, 2.0)
        assert isinstance(action, NegotiateLegacy)


class TestAnswers:
    def test_without_a_proven_address_webrtc_is_told_of_at_once(self) -> None:
        for url in (None, URL):
            gateway = gateway_with(url=url)
            assert said(hear(gateway, HandshakeOffer(), 0.0)) == [HandshakeAnswer(url, wrtc=True)]
            assert said(gateway.handle_timeout(4.0)) == []

    def test_with_one_the_other_side_is_to_dial_and_told_of_webrtc_later(self) -> None:
        gateway = gateway_with(url=URL, reachable=True)
        assert said(hear(gateway, HandshakeOffer(), 0.0)) == [HandshakeAnswer(URL, wrtc=False)]
        assert signal(gateway, {"type": "offer", "sdp": OFFER}, 1.0) == []
        assert gateway.counts["legacy_signals_unasked"] == 1
        assert gateway.next_deadline() <= 3.0
        assert said(gateway.handle_timeout(2.9)) == []
        assert said(gateway.handle_timeout(3.0)) == [HandshakeAnswer(None, wrtc=True)]
        assert said(gateway.handle_timeout(10.0)) == []
        assert isinstance(signal(gateway, {"type": "offer", "sdp": OFFER}, 11.0)[0], NegotiateLegacy)

    def test_who_came_by_websocket_is_not_told_of_webrtc(self) -> None:
        gateway = gateway_with(url=URL, reachable=True)
        hear(gateway, HandshakeOffer(), 0.0)
        gateway.link_up("link", PEER, 1.0, dialled=False)
        assert said(gateway.handle_timeout(3.0)) == []
        assert gateway.sizes()["legacy_handshakes"] == 0

    def test_who_is_refused_meanwhile_is_not_told_of_it_either(self) -> None:
        gateway = gateway_with(url=URL, reachable=True)
        hear(gateway, HandshakeOffer(), 0.0)
        gateway.disconnect(PEER, 1.0)
        assert said(gateway.handle_timeout(3.0)) == []

    def test_many_who_ask_are_told_of_both_ways_at_once(self) -> None:
        gateway = gateway_with(url=URL, reachable=True)
        told = [
            said(hear(gateway, HandshakeOffer(), 0.0, source=peer), peer) == [HandshakeAnswer(URL, wrtc=False)]
            for peer in map(node_id, range(100, 200))
        ]
        assert told == [True] * 64 + [False] * 36

    def test_without_webrtc_all_is_as_before(self) -> None:
        gateway = gateway_with(url=URL, reachable=True, webrtc=False)
        assert said(hear(gateway, HandshakeOffer(), 0.0)) == [HandshakeAnswer(URL, wrtc=False)]
        assert said(gateway.handle_timeout(3.0)) == []
        assert signal(gateway, {"type": "offer", "sdp": OFFER}, 3.0) == []
        assert gateway.counts["legacy_signals"] == 1
        gateway.connect(PEER, 4.0)
        actions = hear(gateway, HandshakeAnswer(None, wrtc=True), 5.0)
        assert failures(actions) == ["the peer has no websocket address, and WebRTC is off here"]

    def test_who_may_not_link_is_told_of_no_way(self) -> None:
        gateway = gateway_with(url=URL, limits=Limits(legacy_links=1))
        assert said(hear(gateway, HandshakeOffer(), 0.0)) == [HandshakeAnswer(None, wrtc=False)]
        assert signal(gateway, {"type": "offer", "sdp": OFFER}, 1.0) == []
        assert gateway.counts["legacy_signals_unasked"] == 1


class TestAnswering:
    def test_an_offer_is_answered_and_becomes_a_link(self) -> None:
        gateway = gateway_with()
        offered(gateway)
        [begin] = signal(gateway, {"type": "offer", "sdp": OFFER}, 1.0)
        assert isinstance(begin, NegotiateLegacy)
        assert (begin.peer, begin.offer, begin.candidates) == (PEER, OFFER, ())
        assert signal(gateway, {"candidate": CANDIDATE}, 1.1) == [CandidateLegacy(begin.number, PARSED)]
        assert signal(gateway, {"candidate": {"candidate": ""}}, 1.1) == [CandidateLegacy(begin.number, None)]
        answer = said(gateway.handshakes.described(begin.number, ANSWER, 1.2))
        assert answer == [Signal({"type": "answer", "sdp": ANSWER})]
        actions = gateway.link_up("link", PEER, 2.0, dialled=False, negotiation=begin.number)
        assert LegacyLinked(PEER, "link") in actions
        assert negotiations(actions) == []
        # A candidate that comes late makes nothing, now and when the link is gone again.
        assert signal(gateway, {"candidate": CANDIDATE}, 2.1) == []
        assert gateway.counts["legacy_signals_late"] == 1
        gateway.link_down("link", "gone", 3.0)
        assert signal(gateway, {"candidate": CANDIDATE}, 3.1) == []
        assert gateway.counts["legacy_signals_unasked"] == 1

    def test_candidates_before_the_offer_are_kept_but_not_too_many(self) -> None:
        gateway = gateway_with()
        offered(gateway)
        for _ in range(40):
            assert signal(gateway, {"candidate": CANDIDATE}, 0.5) == []
        [begin] = signal(gateway, {"type": "offer", "sdp": OFFER, "candidate": CANDIDATE}, 1.0)
        assert isinstance(begin, NegotiateLegacy)
        assert begin.candidates == (PARSED,) * 32
        assert gateway.counts["legacy_signals_dropped"] == 9

    @pytest.mark.parametrize("role", ["offer", "answer"])
    def test_one_offer_counts(self, role: str) -> None:
        """The second may be a copy, a renegotiation, or the word of somebody else with that name."""
        gateway = gateway_with()
        offered(gateway)
        assert len(signal(gateway, {"type": "offer", "sdp": OFFER}, 1.0)) == 1
        assert signal(gateway, {"type": role, "sdp": ANSWER}, 2.0) == []
        assert signal(gateway, {"type": "renegotiate", "renegotiate": True}, 2.0) == []
        assert gateway.counts["legacy_signals_ignored"] == 2

    @pytest.mark.parametrize("value", [{"type": "offer", "sdp": OFFER}, {"candidate": CANDIDATE}])
    def test_nobody_begins_unasked(self, value: dict[str, JSONValue]) -> None:
        gateway = gateway_with()
        assert signal(gateway, value, 0.0) == []
        offered(gateway)
        assert signal(gateway, value, 30.0) == []
        assert gateway.counts["legacy_signals_unasked"] == 2
        gateway.handle_timeout(40.0)
        assert gateway.sizes()["legacy_handshakes"] == 0

    def test_an_answer_to_no_offer_begins_nothing(self) -> None:
        gateway = gateway_with()
        offered(gateway)
        assert signal(gateway, {"type": "answer", "sdp": ANSWER}, 1.0) == []
        assert gateway.counts["legacy_signals_ignored"] == 1

    def test_the_refusal_is_asked_again(self) -> None:
        gateway, overlay = new_gateway(OWN, url=None, webrtc=True, limits=Limits(legacy_links=2))
        gateway.link_up(RELAY, RELAY, 0.0, dialled=False)
        offered(gateway)
        gateway.link_up("other", node_id(99), 0.5, dialled=False)
        assert signal(gateway, {"type": "offer", "sdp": OFFER}, 1.0) == []
        assert gateway.counts["legacy_refused_full"] == 1
        gateway.link_down("other", "gone", 1.5)
        [begin] = signal(gateway, {"type": "offer", "sdp": OFFER}, 2.0)
        assert isinstance(begin, NegotiateLegacy)
        overlay.ours = {PEER}
        actions = gateway.link_up("link", PEER, 3.0, dialled=False, negotiation=begin.number)
        assert [type(action).__name__ for action in actions] == ["CloseLegacy"]

    def test_channels_that_are_refused_take_no_place_from_later_attempts(self) -> None:
        """Whoever owns a key can let it be known while it negotiates as an original."""
        gateway, overlay = new_gateway(OWN, url=None, webrtc=True)
        gateway.link_up(RELAY, RELAY, 0.0, dialled=False)
        peers = [node_id(number) for number in range(100, 109)]
        for peer in peers:
            offered(gateway, source=peer)
            [begin] = signal(gateway, {"type": "offer", "sdp": OFFER}, 1.0, source=peer)
            assert isinstance(begin, NegotiateLegacy)
            overlay.ours = {peer}
            gateway.link_up(peer, peer, 1.0, dialled=False, negotiation=begin.number)
        assert gateway.sizes()["legacy_handshakes"] == 0

    def test_the_application_learns_that_the_channel_was_refused(self) -> None:
        gateway = gateway_with(limits=Limits(legacy_links=2))
        number = offering(gateway)
        gateway.link_up("other", node_id(99), 0.5, dialled=False)
        actions = gateway.link_up("link", PEER, 1.0, dialled=True, negotiation=number)
        assert failures(actions) == ["WebRTC: full"]

    def test_attempts_of_others_are_bounded_at_once_and_over_time(self) -> None:
        gateway = gateway_with()
        peers = [node_id(number) for number in range(100, 140)]
        for peer in peers:
            offered(gateway, source=peer)
        begun = [signal(gateway, {"type": "offer", "sdp": OFFER}, 1.0, source=peer) for peer in peers[:10]]
        assert [len(actions) for actions in begun] == [1] * 8 + [0] * 2
        assert gateway.counts["legacy_negotiations_deferred"] == 2
        total = 8
        for peer in peers[10:]:
            for actions in begun:
                for action in actions:
                    assert isinstance(action, NegotiateLegacy)
                    gateway.handshakes.negotiation_failed(action.number, "test", 1.0)
            begun = [signal(gateway, {"type": "offer", "sdp": OFFER}, 1.0, source=peer)]
            total += len(begun[0])
        assert total == 16
        assert gateway.counts["legacy_negotiations_failed"] == 16

    def test_offers_beyond_the_rate_have_their_turn_later(self) -> None:
        gateway = gateway_with()
        peers = [node_id(number) for number in range(100, 120)]
        for peer in peers:
            offered(gateway, source=peer)
        for peer in peers:
            for action in signal(gateway, {"type": "offer", "sdp": OFFER}, 1.0, source=peer):
                assert isinstance(action, NegotiateLegacy)
                gateway.handshakes.negotiation_failed(action.number, "test", 1.0)
        assert gateway.counts["legacy_negotiations_deferred"] == 4
        # What belongs to an offer that waits is kept with it.
        signal(gateway, {"candidate": CANDIDATE}, 1.0, source=peers[16])
        begun = [gateway.handle_timeout(at) for at in (1.1, 1.5, 2.0)]
        assert [[a.peer for a in actions if isinstance(a, NegotiateLegacy)] for actions in begun] == [
            [],
            [peers[16]],
            [peers[17]],
        ]
        [first] = [a for a in begun[1] if isinstance(a, NegotiateLegacy)]
        assert (first.offer, len(first.candidates)) == (OFFER, 1)
        gateway.handle_timeout(100.0)
        assert gateway.counts["legacy_handshakes_forgotten"] == 2

    def test_handshakes_are_bounded(self) -> None:
        gateway = gateway_with()
        for number in range(100, 300):
            offered(gateway, source=node_id(number))
        assert gateway.sizes()["legacy_handshakes"] == 128
        assert gateway.counts["legacy_handshakes_forgotten"] == 72

    def test_an_attempt_whose_answer_has_no_way_ends(self) -> None:
        gateway = gateway_with()
        offered(gateway)
        [begin] = signal(gateway, {"type": "offer", "sdp": OFFER}, 1.0)
        assert isinstance(begin, NegotiateLegacy)
        gateway.link_down(RELAY, "gone", 1.5)
        actions = gateway.handshakes.described(begin.number, ANSWER, 2.0)
        assert actions == [EndLegacyNegotiation(begin.number, "there was no way to tell the other side of it")]

    def test_signals_travel_through_our_own_nodes(self) -> None:
        gateway, overlay = new_gateway(OWN, url=None, webrtc=True)
        overlay.ours = {N}
        answers: list[Body] = []
        number = 0
        for body in (HandshakeOffer(), Signal({"type": "offer", "sdp": OFFER})):
            envelope = make_envelope(body, to=OWN, source=PEER, nonce=f"c{next(_nonces)}", path=(PEER, N))
            actions = gateway.receive_carried(carry(envelope), N, 0.0)
            answers += said(actions)
            number = next((a.number for a in actions if isinstance(a, NegotiateLegacy)), number)
        [sent] = gateway.handshakes.described(number, ANSWER, 1.0)
        assert isinstance(sent, SendCarried)
        assert sent.to == N
        assert [*answers, *said([sent])] == [
            HandshakeAnswer(None, wrtc=True),
            Signal({"type": "answer", "sdp": ANSWER}),
        ]

    def test_a_gateway_passes_signals_on_to_our_own_nodes(self) -> None:
        """Those know what to do with them."""
        gateway, overlay = new_gateway(OWN)
        gateway.link_up(RELAY, RELAY, 0.0, dialled=False)
        overlay.ours = {N}
        body = Signal({"candidate": CANDIDATE})
        envelope = make_envelope(body, to=N, source=PEER, nonce="c", path=(PEER, RELAY))
        [sent] = gateway.receive(RELAY, build_envelope(envelope), 0.0)
        assert isinstance(sent, SendCarried)
        assert said([sent], N) == [body]


class TestOffering:
    def test_our_offer_and_its_answer(self) -> None:
        gateway = gateway_with()
        assert said(gateway.connect(PEER, 0.0)) == [HandshakeOffer()]
        [begin] = hear(gateway, HandshakeAnswer(None, wrtc=True), 0.5)
        assert begin == NegotiateLegacy(1, PEER, None)
        assert said(gateway.handshakes.described(1, OFFER, 1.0)) == [Signal({"type": "offer", "sdp": OFFER})]
        assert signal(gateway, {"candidate": CANDIDATE}, 1.1) == [CandidateLegacy(1, PARSED)]
        assert signal(gateway, {"type": "answer", "sdp": ANSWER}, 1.2) == [AnsweredLegacy(1, ANSWER)]
        assert signal(gateway, {"type": "answer", "sdp": ANSWER}, 1.3) == []
        assert signal(gateway, {"type": "offer", "sdp": OFFER}, 1.3) == []
        assert gateway.counts["legacy_signals_ignored"] == 2
        assert LegacyLinked(PEER, "link") in gateway.link_up("link", PEER, 2.0, dialled=True, negotiation=1)
        assert gateway.sizes()["legacy_wishes"] == gateway.sizes()["legacy_handshakes"] == 0

    @pytest.mark.parametrize(("prefer", "steps"), [("websocket", ["dial", "webrtc"]), ("webrtc", ["webrtc", "dial"])])
    def test_both_ways_are_tried_in_the_order_of_preference(self, prefer: Preference, steps: list[str]) -> None:
        gateway = gateway_with()
        gateway.connect(PEER, 0.0, prefer)
        actions = hear(gateway, HandshakeAnswer(URL, wrtc=True), 0.5)
        done = []
        while not failures(actions):
            [action] = actions
            if isinstance(action, DialLegacy):
                done.append("dial")
                assert action == DialLegacy(URL, PEER, 2, patience=3.0 if prefer == "websocket" else None)
                actions = gateway.handshakes.dial_failed(PEER, "nobody there", 1.0)
            else:
                assert isinstance(action, NegotiateLegacy)
                done.append("webrtc")
                actions = gateway.handshakes.negotiation_failed(action.number, "no way", 1.0)
        assert done == steps
        assert sorted(failures(actions)[0].split("; ")) == ["WebRTC: no way", "nobody there"]
        assert gateway.sizes()["legacy_wishes"] == 0
        assert gateway.handshakes.dial_failed(PEER, "again", 2.0) == []

    def test_where_there_is_one_way_a_dial_has_the_time_of_any_handshake(self) -> None:
        gateway = gateway_with()
        gateway.connect(PEER, 0.0)
        assert hear(gateway, HandshakeAnswer(URL, wrtc=False), 0.5) == [DialLegacy(URL, PEER, 2, patience=None)]

    def test_a_websocket_that_is_being_greeted_ends_the_attempt(self) -> None:
        gateway = gateway_with()
        number = offering(gateway)
        assert gateway.begin_greeting(PEER) == [EndLegacyNegotiation(number, "a WebSocket came first")]
        assert gateway.refusal(PEER) is Reason.DUPLICATE
        refused = gateway.link_up("late", PEER, 1.0, dialled=True, negotiation=number)
        assert [type(action).__name__ for action in refused] == ["CloseLegacy"]
        assert gateway.handshakes.negotiation_failed(number, "a WebSocket came first", 1.0) == []
        gateway.end_greeting(PEER)
        assert LegacyLinked(PEER, "link") in gateway.link_up("link", PEER, 1.0, dialled=False)

    def test_a_link_that_comes_otherwise_ends_the_attempt(self) -> None:
        gateway = gateway_with()
        number = offering(gateway)
        actions = gateway.link_up("link", PEER, 1.0, dialled=False)
        assert negotiations(actions) == [EndLegacyNegotiation(number, "another link came first")]

    def test_who_gives_up_or_disconnects_ends_the_attempt(self) -> None:
        for end in ("unwish", "disconnect", "time"):
            gateway = gateway_with()
            number = offering(gateway)
            if end == "unwish":
                actions = gateway.handshakes.unwish(PEER)
            elif end == "disconnect":
                actions = gateway.disconnect(PEER, 1.0)
            else:
                assert gateway.next_deadline() <= 14.95
                actions = gateway.handle_timeout(14.95)
                assert failures(actions) == ["there was no link in time"]
            assert [a.number for a in negotiations(actions)] == [number]
            assert gateway.sizes()["legacy_handshakes"] == gateway.sizes()["legacy_wishes"] == 0
            assert gateway.handshakes.described(number, OFFER, 20.0) == []

    def test_giving_up_leaves_the_attempt_of_the_other_side_alone(self) -> None:
        gateway = gateway_with()
        offered(gateway)
        [begin] = signal(gateway, {"type": "offer", "sdp": OFFER}, 0.5)
        gateway.connect(PEER, 1.0)
        assert hear(gateway, HandshakeAnswer(None, wrtc=True), 1.5) == []
        assert gateway.handshakes.unwish(PEER) == []
        assert isinstance(begin, NegotiateLegacy)
        assert len(said(gateway.handshakes.described(begin.number, ANSWER, 2.0))) == 1

    def test_one_that_does_not_answer_is_told_how_to_begin(self) -> None:
        """It may count us as pending since an attempt that failed, and then answers no offer."""
        gateway = gateway_with()
        gateway.connect(PEER, 0.0)
        assert gateway.next_deadline() <= 5.0
        assert said(gateway.handle_timeout(5.0)) == [HandshakeAnswer(None, wrtc=True)]
        # From now on it is theirs to begin, even if the answer comes after all.
        assert hear(gateway, HandshakeAnswer(None, wrtc=True), 6.0) == []
        [begin] = signal(gateway, {"type": "offer", "sdp": OFFER}, 7.0)
        assert isinstance(begin, NegotiateLegacy)
        assert begin.offer == OFFER
        assert failures(gateway.handshakes.negotiation_failed(begin.number, "no way", 8.0))[0].endswith(
            "WebRTC: no way"
        )

    def test_of_one_that_is_known_the_application_learns_it_before_it_gives_up(self) -> None:
        gateway = gateway_with()
        hear(gateway, FindPeers(PEER), 0.0)
        gateway.connect(PEER, 0.0)
        gateway.handle_timeout(5.0)
        assert failures(gateway.handle_timeout(14.95)) == ["the peer did not answer"]

    def test_one_that_never_says_anything(self) -> None:
        gateway = gateway_with()
        gateway.connect(PEER, 0.0)
        gateway.handle_timeout(5.0)
        assert failures(gateway.handle_timeout(14.0)) == []
        assert failures(gateway.handle_timeout(15.0)) == ["the peer did not answer"]


class Browser:
    """What npm peer-relay 0.0.2 does in a browser (lib/client.js, lib/wrtc.js), as far as one other id goes."""

    def __init__(self, own: NodeId, other: NodeId) -> None:
        self.own, self.other = own, other
        self.pending = False
        self.role = ""
        self.sessions = 0

    def connect(self) -> list[Body]:
        self.pending = True
        return [HandshakeOffer()]

    def receive(self, body: Body) -> list[Body]:
        match body:
            case HandshakeOffer() if not self.pending or self.other < self.own:
                self.pending = True
                return [HandshakeAnswer(None, wrtc=True)]
            case HandshakeAnswer(wrtc=True):
                self.role, self.sessions = "initiator", self.sessions + 1
                return [Signal({"type": "offer", "sdp": OFFER}), Signal({"candidate": CANDIDATE})]
            case Signal(value) if isinstance(value, dict) and value.get("type") == "offer":
                assert self.role != "initiator", "both offer"
                self.role, self.sessions = "answerer", self.sessions + 1
                return [Signal({"candidate": CANDIDATE}), Signal({"type": "answer", "sdp": ANSWER})]
            case Signal():
                assert self.role == "initiator", "a signal for nothing would make a session"
        return []


class TestGlare:
    @pytest.mark.parametrize("peer", [node_id(10), node_id(90)])
    @pytest.mark.parametrize("url", [None, URL])
    @given(order=st.lists(st.booleans(), max_size=12), ours_first=st.booleans())
    def test_offers_that_cross_end_in_one_attempt(
        self, peer: NodeId, url: str | None, order: list[bool], ours_first: bool
    ) -> None:
        """Whatever arrives first: one attempt, one session there, and its two ends have different parts."""
        gateway, _ = new_gateway(OWN, url=url, webrtc=True)
        gateway.link_up(RELAY, RELAY, 0.0, dialled=False)
        gateway.looked_up(peer, 0.0)
        browser = Browser(peer, OWN)
        to_us: deque[Body] = deque()
        to_them: deque[Body] = deque()
        begun: list[NegotiateLegacy] = []
        answered = 0

        def act(actions: Sequence[GatewayAction]) -> None:
            nonlocal answered
            to_them.extend(said(actions, peer))
            for action in negotiations(actions):
                if isinstance(action, NegotiateLegacy):
                    begun.append(action)
                    sdp = OFFER if action.offer is None else ANSWER
                    to_them.extend(said(gateway.handshakes.described(action.number, sdp, 1.0), peer))
                answered += isinstance(action, AnsweredLegacy)

        if ours_first:
            act(gateway.connect(peer, 0.0))
        to_us.extend(browser.connect())
        if not ours_first:
            act(gateway.connect(peer, 0.0))
        turns = iter([*order, *itertools.repeat(True, 100)])
        while to_us or to_them:
            ours = next(turns)
            if to_us and (ours or not to_them):
                act(hear(gateway, to_us.popleft(), 1.0, source=peer))
            else:
                to_us.extend(browser.receive(to_them.popleft()))
        assert browser.sessions == 1
        [attempt] = begun
        assert (attempt.offer is None) == (browser.role == "answerer")
        assert answered == (attempt.offer is None)
        assert len(failures(gateway.handle_timeout(20.0))) == 1  # nobody reported the link

    def test_one_whose_offer_was_answered_is_not_told_again(self) -> None:
        """It would begin a second session."""
        gateway, _ = new_gateway(OWN, url=None, webrtc=True)
        gateway.link_up(RELAY, RELAY, 0.0, dialled=False)
        small = node_id(10)
        gateway.connect(small, 0.0)
        offered(gateway, 0.1, source=small)
        assert said(gateway.handle_timeout(5.0), small) == []
        assert failures(gateway.handle_timeout(14.95)) == ["there was no link in time"]

    def test_an_offer_that_was_passed_over_is_answered_when_ours_got_lost(self) -> None:
        gateway = gateway_with()
        assert OWN < PEER
        gateway.connect(PEER, 0.0)
        assert hear(gateway, HandshakeOffer(), 0.1) == []
        assert gateway.counts["legacy_handshakes_crossed"] == 1
        assert said(gateway.handle_timeout(5.0)) == [HandshakeAnswer(None, wrtc=True)]
