"""The gateway as a pure machine: single inputs, small networks of models, and strangers who send anything."""

from __future__ import annotations

import base64
import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_relay.exceptions import LocalProtocolError, RemoteProtocolError
from trio_relay.limits import Limits
from trio_relay.node.legacy.actions import (
    CloseLegacy,
    ConnectFailed,
    DialLegacy,
    GatewayAction,
    Introduce,
    LegacyLinked,
    LegacyUnlinked,
    Lookup,
    Publish,
    Received,
    SendCarried,
    SendOverlay,
    SendText,
    TunnelFrame,
)
from trio_relay.node.legacy.carriage import MAX_CARRIED, carry, parse_carried_untrusted
from trio_relay.node.legacy.gateway import Gateway
from trio_relay.overlay.admission import Admission
from trio_relay.wire.body import (
    Body,
    FindPeers,
    FoundPeers,
    HandshakeAnswer,
    HandshakeOffer,
    Signal,
    Tunnel,
    Unknown,
    User,
)
from trio_relay.wire.envelope import (
    MAX_PATH,
    Envelope,
    build_envelope,
    build_id_frame,
    make_envelope,
    parse_body_untrusted,
    parse_envelope_untrusted,
)
from trio_relay.wire.frame import Kind, build_frame
from trio_relay.wire.hello import Reason
from trio_relay.wire.ids import NodeId
from trio_relay.wire.json import JSONValue, encode

from .legacy_world import OFFER, FakeOverlay, World, new_gateway, node_id

OWN = node_id(1)
A, B, C, D, E, F = (node_id(number) for number in range(16, 22))
"""Originals, unless a test says otherwise."""
N, M = node_id(2), node_id(3)
"""Ours."""

_nonces = itertools.count()


def text(
    body: Body,
    *,
    source: NodeId = A,
    to: NodeId = OWN,
    nonce: str | None = None,
    path: tuple[NodeId, ...] | None = None,
) -> bytes:
    nonce = f"n{next(_nonces)}" if nonce is None else nonce
    return build_envelope(make_envelope(body, to=to, source=source, nonce=nonce, path=path))


def linked(
    *peers: NodeId, url: str | None = "ws://127.0.0.1:9", limits: Limits | None = None, webrtc: bool = False
) -> tuple[Gateway, FakeOverlay]:
    """A gateway with links that are named like their peers."""
    gateway, overlay = new_gateway(OWN, url=url, limits=limits, webrtc=webrtc)
    for peer in peers:
        gateway.link_up(peer, peer, 0.0, dialled=False, scope=2)
    return gateway, overlay


def sent(actions: Sequence[GatewayAction]) -> list[tuple[object, Envelope]]:
    """Where which envelope went, over links and carried."""
    result: list[tuple[object, Envelope]] = []
    for action in actions:
        if isinstance(action, SendText):
            result.append((action.link, parse_envelope_untrusted(action.text)))
        elif isinstance(action, SendCarried):
            result.append((action.to, parse_carried_untrusted(action.payload)))
    return result


def only(actions: Sequence[GatewayAction], target: object) -> Envelope:
    """The one envelope that left, which went to `target`."""
    [(where, envelope)] = sent(actions)
    assert where == target
    return envelope


def keyless(gateway: Gateway, *ids: NodeId) -> None:
    """Lookups have found no keys of these ids."""
    for peer in ids:
        assert gateway.looked_up(peer, 0.0) == []


class TestLinks:
    def test_a_new_link_is_published_and_asked_for_peers(self) -> None:
        gateway, _ = new_gateway(OWN)
        actions = gateway.link_up("link", A, 0.0, dialled=True)
        assert actions[:2] == [LegacyLinked(A, "link"), Publish(A)]
        envelope = only(actions, "link")
        assert (envelope.to, envelope.source, envelope.path) == (A, OWN, (OWN,))
        assert parse_body_untrusted(envelope) == FindPeers(OWN)
        assert gateway.id_frame() == build_id_frame(OWN)
        assert gateway.link_of(A) == "link"

    @pytest.mark.parametrize(
        ("peer", "reason"), [(OWN, Reason.SELF), (N, Reason.BAD_PROOF), (A, Reason.DUPLICATE), (B, Reason.FULL)]
    )
    def test_a_link_that_may_not_be_is_refused_and_leaves_the_others_alone(self, peer: NodeId, reason: Reason) -> None:
        gateway, overlay = linked(A, limits=Limits(legacy_links=1))
        overlay.ours = {N}
        assert gateway.refusal(peer) is reason
        assert gateway.link_up("second", peer, 0.0, dialled=False) == [CloseLegacy("second", reason)]
        assert gateway.counts[f"legacy_refused_{reason.name.lower()}"] == 1
        assert gateway.link_of(A) == A
        assert gateway.link_down("second", "closed", 1.0) == []

    def test_a_link_that_ended_is_forgotten(self) -> None:
        gateway, _ = linked(A)
        assert gateway.link_down(A, "gone", 1.0) == [LegacyUnlinked(A, A, "gone")]
        assert gateway.link_of(A) is None
        assert gateway.receive(A, text(User("late")), 1.0) == []
        assert gateway.counts["legacy_link_gone"] == 1

    def test_records_are_renewed_while_the_link_lives(self) -> None:
        gateway, _ = linked(A)
        gateway.receive(A, text(User("spoken")), 0.0)
        times = []
        now = 0.0
        while now < 3700:
            now = gateway.next_deadline()
            times += [now for action in gateway.handle_timeout(now) if action == Publish(A)]
        assert times == [1200, 2400, 3600, 4800][: len(times)]
        assert len(times) >= 3

    def test_records_are_renewed_soon_when_the_overlay_changed(self) -> None:
        gateway, _ = linked(A, B)
        gateway.overlay_changed(5.0)
        assert gateway.next_deadline() <= 6.0
        assert set(gateway.handle_timeout(6.0)) == {Publish(A), Publish(B)}
        assert gateway.handle_timeout(7.0) == []

    def test_one_that_never_says_anything_is_closed(self) -> None:
        gateway, _ = linked(A, B)
        gateway.receive(B, text(User("here"), source=B), 1.0)
        assert gateway.handle_timeout(29.0) == []
        actions = gateway.handle_timeout(30.0)
        assert actions == [LegacyUnlinked(A, A, "unwanted"), CloseLegacy(A, Reason.UNWANTED)]
        assert gateway.link_of(B) is not None

    def test_one_whose_id_turns_out_to_have_a_key_is_closed(self) -> None:
        gateway, overlay = linked(A)
        gateway.receive(A, text(User("here")), 0.0)
        overlay.ours = {A}
        assert CloseLegacy(A, Reason.BAD_PROOF) in gateway.handle_timeout(30.0)

    def test_disconnect_closes_the_link(self) -> None:
        gateway, _ = linked(A)
        assert CloseLegacy(A, Reason.DISCONNECTED) in gateway.disconnect(A, 0.0)
        assert gateway.disconnect(A, 1.0) == []
        assert gateway.refusal(A) is Reason.DISCONNECTED
        assert gateway.next_deadline() <= 61.0
        gateway.handle_timeout(61.0)
        assert gateway.refusal(A) is None

    def test_whom_the_application_wants_again_is_no_longer_refused(self) -> None:
        gateway, _ = linked(A, B)
        gateway.disconnect(B, 0.0)
        gateway.connect(B, 1.0)
        assert gateway.refusal(B) is None

    def test_what_is_known_to_be_an_original(self) -> None:
        gateway, overlay = linked(A)
        overlay.gateways[B] = [N]
        overlay.ours = {N}
        gateway.receive(A, text(User("through A"), source=C, path=(C, A)), 0.0)
        assert [gateway.is_original(i, 1.0) for i in (A, B, C, D, N, OWN)] == [True, True, True, False, False, False]


class TestMessages:
    @pytest.mark.parametrize(
        ("value", "data"),
        [
            ({"type": "Buffer", "data": [0, 255]}, b"\x00\xff"),
            ({"type": "Buffer", "data": [256]}, {"type": "Buffer", "data": [256]}),
            (None, None),
            ("\ud800é\U0001f600", "\ud800é\U0001f600"),
            (
                {"a": [1, 2.5, True, {"type": "Buffer", "data": []}]},
                {"a": [1, 2.5, True, {"type": "Buffer", "data": []}]},
            ),
        ],
    )
    def test_values_arrive_and_leave_as_the_original_has_them(self, value: JSONValue, data: Any) -> None:
        gateway, _ = linked(A)
        assert gateway.receive(A, text(User(value)), 0.0) == [Received(A, data)]
        keyless(gateway, A)
        envelope = only(gateway.send(A, data, 0.0), A)
        assert (envelope.data, envelope.has_data, envelope.body_type) == (value, True, "user")

    def test_an_absent_value_is_none(self) -> None:
        gateway, _ = linked(A)
        assert gateway.receive(A, text(User(None, present=False)), 0.0) == [Received(A, None)]

    def test_what_has_no_json_form_is_the_callers_error(self) -> None:
        gateway, _ = linked(A)
        with pytest.raises(LocalProtocolError):
            gateway.send(A, {"x": object()}, 0.0)  # type: ignore[dict-item]
        assert gateway.sizes()["legacy_seen"] == 1  # of the question for peers

    def test_a_message_arrives_once_whichever_way_it_comes(self) -> None:
        gateway, overlay = linked(A, B)
        overlay.ours = {N}
        message = make_envelope(User("hi"), to=OWN, source=C, nonce="7", path=(C, A))
        assert gateway.receive(A, build_envelope(message), 0.0) == [Received(C, "hi")]
        assert gateway.receive(B, build_envelope(message), 0.0) == []
        assert gateway.receive_carried(carry(message), N, 0.0) == []
        assert gateway.counts["legacy_duplicates"] == 2

    def test_an_original_does_not_speak_for_an_id_with_a_key(self) -> None:
        gateway, overlay = linked(A)
        overlay.ours = {N, M}
        for forged in (N, OWN):
            assert gateway.receive(A, text(User("I am N"), source=forged, path=(forged, A)), 0.0) == []
            carried = carry(make_envelope(User("I am N"), to=OWN, source=N, nonce=f"c{forged[1]}"))
            assert gateway.receive_carried(carried, M, 0.0) == []
        assert gateway.receive(A, text(User("to M"), source=N, to=M), 0.0) == []
        assert gateway.counts["legacy_spoofed"] == 5
        # The forger cannot make the true one's envelopes look like copies.
        assert len(sent(gateway.receive(A, text(User("x"), source=B, to=M, nonce="s"), 0.0))) == 1

    def test_who_is_not_admitted_is_counted(self) -> None:
        overlay = FakeOverlay(OWN)
        gateway = Gateway(
            OWN,
            limits=Limits(),
            rng=random.Random(1),
            now=0.0,
            overlay=overlay,
            url=lambda: None,
            admission=Admission(lambda peer: peer == A, lambda peer: peer == A),
        )
        gateway.link_up("A", A, 0.0, dialled=False)
        assert gateway.refusal(B) is Reason.NOT_ADMITTED
        assert gateway.receive("A", text(User(1), source=B, path=(B, A)), 0.0) == []
        assert gateway.counts["legacy_not_admitted"] == 1
        assert gateway.receive("A", text(User(2)), 0.0) == [Received(A, 2)]


class TestWays:
    def test_to_a_link_of_ours_directly(self) -> None:
        gateway, _ = linked(A, B, C)
        envelope = only(gateway.receive(A, text(User(1), to=B), 0.0), B)
        assert envelope.path == (A, OWN)

    def test_to_an_id_of_ours_over_the_overlay(self) -> None:
        gateway, overlay = linked(A, B)
        overlay.ours = {N}
        envelope = only(gateway.receive(A, text(User(b"\x00" * 40), to=N), 0.0), N)
        assert envelope.path == (A, OWN)
        assert parse_body_untrusted(envelope) == User(b"\x00" * 40)

    def test_to_an_id_of_ours_without_overlay_as_originals_do(self) -> None:
        gateway, overlay = linked(A, B)
        overlay.ours = overlay.unreached = {N}
        assert only(gateway.receive(A, text(User(1), to=N), 0.0), B).to == N

    def test_to_the_gateway_of_an_original(self) -> None:
        gateway, overlay = linked(A, B)
        overlay.ours = {N, M}
        overlay.gateways[C] = [N]
        assert only(gateway.receive(A, text(User(1), to=C), 0.0), N).to == C
        keyless(gateway, C)
        assert only(gateway.send(C, "own", 0.0), N).path == (OWN,)

    def test_who_claims_an_id_gets_nothing_for_it_before_a_lookup_found_no_key(self) -> None:
        """A stranger can sign that it is the gateway of anybody, and call itself anything on a link."""
        gateway, overlay = linked(A)
        overlay.gateways[C] = [N]
        assert gateway.send(A, "secret", 0.0) == [Lookup(A)]
        assert gateway.send(C, "secret", 0.0) == [Lookup(C)]
        overlay.ours = {A, C}
        assert gateway.looked_up(A, 0.1) == [SendOverlay(A, "secret")]
        assert gateway.looked_up(C, 0.1) == [SendOverlay(C, "secret")]

    def test_that_an_id_has_no_key_is_believed_for_a_minute(self) -> None:
        gateway, _ = linked(A)
        keyless(gateway, A)
        assert only(gateway.send(A, 1, 59.9), A).to == A
        assert gateway.send(A, 2, 60.0) == [Lookup(A)]

    def test_of_several_gateways_the_one_that_is_linked_or_was_heard_or_two(self) -> None:
        gateway, overlay = linked(A)
        overlay.gateways[C] = [N, M, D]
        keyless(gateway, C)
        assert [where for where, _ in sent(gateway.send(C, 1, 0.0))] == [N, M]
        overlay.neighbours = {M}
        assert [where for where, _ in sent(gateway.send(C, 2, 0.0))] == [M]
        gateway.receive_carried(carry(make_envelope(User(1), to=OWN, source=C, nonce="x", path=(C, D))), D, 0.0)
        assert [where for where, _ in sent(gateway.send(C, 3, 0.0))] == [D]

    def test_a_gateway_that_did_not_confirm_is_avoided_and_another_tried(self) -> None:
        gateway, overlay = linked(A)
        overlay.gateways[C] = [N, M]
        overlay.neighbours = {N}
        keyless(gateway, C)
        [carried] = gateway.send(C, "hi", 0.0)
        assert isinstance(carried, SendCarried)
        assert carried.to == N
        again = gateway.carry_failed(N, carried.payload, 1.0)
        assert only(again, M) == parse_carried_untrusted(carried.payload)
        assert [where for where, _ in sent(gateway.send(C, 2, 2.0))] == [M]
        assert gateway.carry_failed(N, b"nonsense", 3.0) == []
        assert gateway.counts["legacy_carry_failed"] == 2

    def test_carriers_that_are_all_dead_do_not_multiply_a_message(self) -> None:
        gateway, overlay = linked()
        overlay.nodes = [NodeId(bytes([100 + n]) * 20) for n in range(50)]
        assert gateway.send(E, "hi", 0.0) == [Lookup(E)]
        under_way = [action for action in gateway.looked_up(E, 0.0) if isinstance(action, SendCarried)]
        sizes, total, now = [len(under_way)], len(under_way), 0.0
        while under_way:
            now += 5.0
            under_way = [
                again
                for action in under_way
                for again in gateway.carry_failed(action.to, action.payload, now)
                if isinstance(again, SendCarried)
            ]
            sizes.append(len(under_way))
            total += len(under_way)
            assert total < 20
        assert max(sizes) == sizes[0] == 2
        assert total == 6
        assert gateway.counts["legacy_carry_given_up"] == 2

    def test_a_strangers_message_for_nobody_known_is_flooded_and_looked_up(self) -> None:
        gateway, overlay = linked(A, B, C, D)
        actions = gateway.receive(A, text(User(1), to=E), 0.0)
        assert [where for where, _ in sent(actions)] == [B, C]  # closest to 20 of 17, 18, 19
        assert actions[-1] == Lookup(E)
        overlay.gateways[E] = [N, M]
        assert only(gateway.looked_up(E, 1.0), N).path == (A, OWN)

    def test_a_strangers_message_whose_lookup_led_nowhere_is_counted(self) -> None:
        gateway, _ = linked(A)
        assert gateway.receive(A, text(User(1), to=E), 0.0) == [Lookup(E)]
        assert gateway.looked_up(E, 1.0) == []
        assert gateway.counts["legacy_not_found"] == 1

    def test_an_own_message_for_nobody_known_waits_for_the_lookup(self) -> None:
        """It is plain text: who has a key must not get it through originals."""
        gateway, overlay = linked(A, B)
        assert gateway.send(N, "secret", 0.0) == [Lookup(N)]
        assert gateway.send(N, "secret 2", 0.0) == []
        overlay.ours = {N}
        assert gateway.looked_up(N, 1.0) == [SendOverlay(N, "secret"), SendOverlay(N, "secret 2")]
        assert gateway.sizes()["legacy_waiting"] == gateway.sizes()["legacy_waiting_bytes"] == 0

    def test_after_a_vain_lookup_originals_are_asked_and_the_closest_of_ours(self) -> None:
        gateway, overlay = linked(A, B, C)
        overlay.nodes = [N, M]
        gateway.send(E, "x", 0.0)
        assert [where for where, _ in sent(gateway.looked_up(E, 1.0))] == [A, B, N]
        again = gateway.send(E, "y", 2.0)
        assert not any(isinstance(action, Lookup) for action in again)
        assert len(sent(again)) == 3
        assert Lookup(E) in gateway.send(E, "z", 60.0)

    def test_a_lookup_that_was_not_made_proves_nothing(self) -> None:
        gateway, _ = linked(A)
        gateway.send(E, "x", 0.0)
        assert len(sent(gateway.looked_up(E, 0.0, asked=False))) == 1
        assert gateway.send(E, "y", 0.0) == [Lookup(E)]

    def test_without_any_way_it_goes_over_the_overlay_after_all(self) -> None:
        gateway, _ = linked()
        assert gateway.send(E, "x", 0.0) == [Lookup(E)]
        assert gateway.looked_up(E, 0.1) == [SendOverlay(E, "x")]

    def test_an_unknown_id_without_any_way_goes_over_the_overlay_too(self) -> None:
        gateway, overlay = linked()
        gateway.send(E, "x", 0.0)
        gateway.looked_up(E, 0.1)
        assert gateway.send(E, "y", 0.2) == [SendOverlay(E, "y")]
        overlay.ours = overlay.unreached = {N}
        assert gateway.send(N, "z", 0.3) == [SendOverlay(N, "z")]

    def test_what_has_no_way_and_no_meaning_in_the_overlay_is_counted(self) -> None:
        gateway, _ = linked()
        assert gateway.connect(E, 0.0) == [Lookup(E)]
        assert gateway.looked_up(E, 0.1) == []
        assert gateway.counts["legacy_no_way"] == 1

    def test_there_is_room_until_too_much_waits_for_lookups(self) -> None:
        gateway, overlay = linked(A, limits=Limits(unlinked_messages=2))
        overlay.gateways[B] = overlay.gateways[C] = [N]
        keyless(gateway, A, B)
        for number in range(2):
            assert gateway.has_room(E, 0.0)
            gateway.send(E, number, 0.0)
        assert [gateway.has_room(to, 0.0) for to in (A, B, C, D, E)] == [True, True, False, False, False]
        assert gateway.carrier_of(B, 0.0) == N
        gateway.looked_up(E, 1.0)
        assert gateway.has_room(D, 1.0)

    def test_a_lookup_that_nobody_reports_is_given_up(self) -> None:
        gateway, _ = linked(A)
        gateway.receive(A, text(User(0)), 0.0)
        gateway.send(E, "x", 0.0)
        assert gateway.next_deadline() == 6.0
        assert only(gateway.handle_timeout(6.0), A).to == E
        assert gateway.counts["legacy_lookups_lost"] == 1

    def test_an_id_is_answered_through_the_link_where_it_was_heard(self) -> None:
        gateway, _ = linked(A, B, C, D)
        gateway.looked_up(E, 0.0)
        gateway.receive(A, text(User(1), source=E, path=(E, A)), 0.0)
        assert A in [where for where, _ in sent(gateway.send(E, "back", 1.0))]

    def test_the_original_s_hop_limit(self) -> None:
        gateway, _ = linked(A, B)
        path = tuple(node_id(100 + i) for i in range(MAX_PATH - 1))
        assert len(only(gateway.receive(A, text(User(1), to=B, path=path), 0.0), B).path) == MAX_PATH
        assert gateway.receive(A, text(User(1), to=B, path=(*path, A)), 0.0) == []
        assert gateway.counts["legacy_hop_limit"] == 1

    def test_nothing_goes_back_or_where_it_was(self) -> None:
        gateway, overlay = linked(A, B)
        overlay.gateways[E] = [N, M]
        overlay.nodes = [N, M]
        assert sent(gateway.receive(A, text(User(1), to=A, source=B), 0.0)) == []
        assert [w for w, _ in sent(gateway.receive(A, text(User(1), to=E, path=(A, N)), 0.0))] == [M]
        envelope = make_envelope(User(1), to=E, source=A, nonce="q", path=(A, M))
        assert only(gateway.receive_carried(carry(envelope), N, 0.0), B).path == (A, M, OWN)

    def test_unknown_targets_are_bounded(self) -> None:
        limits = Limits(unlinked_messages=4, lookups=8)
        gateway, _ = linked(A, B, limits=limits)
        lookups = 0
        for number in range(100):
            actions = gateway.receive(A, text(User(1), to=node_id(1000 + number)), 0.0)
            lookups += sum(isinstance(action, Lookup) for action in actions)
            assert len(sent(actions)) == 1
        assert lookups == 4
        assert gateway.sizes()["legacy_waiting"] == 4
        assert gateway.counts["legacy_waiting_full"] == 96
        assert gateway.send(E, "own", 0.0) == []
        assert gateway.counts["legacy_dropped"] == 1

    def test_large_messages_go_to_links_but_are_not_carried(self) -> None:
        gateway, overlay = linked(A, B)
        overlay.ours = {N}
        large = "x" * MAX_CARRIED
        assert len(sent(gateway.receive(A, text(User(large), to=B), 0.0))) == 1
        assert gateway.receive(A, text(User(large), to=N), 0.0) == []
        assert gateway.counts["legacy_not_carried"] == 1


class TestQuestions:
    def test_peers_are_listed_nearest_first_and_only_those_that_answer(self) -> None:
        gateway, overlay = linked(A, B, C, D)
        for peer in (A, B, C):
            gateway.receive(peer, text(User(0), source=peer), 0.0)
        ours = [node_id(number) for number in range(200, 210)]
        overlay.ours, overlay.nodes, overlay.neighbours = set(ours), ours, set(ours[2:])
        envelope = only(gateway.receive(A, text(FindPeers(A)), 0.0), A)
        answer = parse_body_untrusted(envelope)
        assert isinstance(answer, FoundPeers)
        assert [peer for peer in answer.ids if peer not in ours] == [B, C]  # D has not spoken
        mine = [peer for peer in answer.ids if peer in ours]
        assert len(mine) == 3
        assert not set(mine) & set(ours[:2])  # nobody knows whether those live

    def test_an_original_is_told_of_those_that_came_after_it_asked(self) -> None:
        """It asks once; it is told again twice, if there is anybody new."""
        gateway, overlay = linked(A, B)
        for peer in (A, B):
            gateway.receive(peer, text(FindPeers(peer), source=peer), 0.0)
        assert gateway.next_deadline() <= 2.0
        news = {where: parse_body_untrusted(envelope) for where, envelope in sent(gateway.handle_timeout(2.0))}
        assert news == {A: FoundPeers((B,))}
        overlay.nodes, overlay.neighbours = [N], {N}
        news = {where: parse_body_untrusted(envelope) for where, envelope in sent(gateway.handle_timeout(10.0))}
        assert news == {A: FoundPeers((B, N)), B: FoundPeers((A, N))}
        assert sent(gateway.handle_timeout(100.0)) == []

    def test_an_offer_is_answered_with_our_address(self) -> None:
        gateway, _ = linked(A, url="ws://relay.example:1")
        offer = text(HandshakeOffer(), source=B, path=(B, A))
        envelope = only(gateway.receive(A, offer, 0.0), A)
        assert envelope.to == B
        assert parse_body_untrusted(envelope) == HandshakeAnswer(ws="ws://relay.example:1", wrtc=False)

    def test_an_offer_is_answered_through_the_gateway_that_carried_it(self) -> None:
        gateway, overlay = linked(url=None)
        overlay.ours = {N}
        offer = make_envelope(HandshakeOffer(), to=OWN, source=B, nonce="1", path=(B, N))
        envelope = only(gateway.receive_carried(carry(offer), N, 0.0), N)
        assert parse_body_untrusted(envelope) == HandshakeAnswer(ws=None, wrtc=False)

    def test_a_full_gateway_does_not_invite(self) -> None:
        gateway, _ = linked(A, limits=Limits(legacy_links=1))
        envelope = only(gateway.receive(A, text(HandshakeOffer(), source=B, path=(B, A)), 0.0), A)
        assert parse_body_untrusted(envelope) == HandshakeAnswer(ws=None, wrtc=False)

    def test_who_is_linked_already_is_not_answered(self) -> None:
        gateway, _ = linked(A, B)
        assert gateway.receive(A, text(HandshakeOffer(), source=B, path=(B, A)), 0.0) == []

    def test_an_address_is_dialled_only_if_we_asked(self) -> None:
        gateway, overlay = linked(A)
        answer = HandshakeAnswer(ws="ws://10.0.0.1:80", wrtc=False)
        assert gateway.receive(A, text(answer, source=B, path=(B, A)), 0.0) == []
        assert gateway.counts["legacy_unasked"] == 1
        overlay.gateways[B] = [N]
        assert parse_body_untrusted(only(gateway.connect(B, 0.0), N)) == HandshakeOffer()
        assert gateway.connect(B, 0.0) == []
        assert gateway.receive(A, text(answer, source=B, path=(B, A)), 1.0) == [DialLegacy("ws://10.0.0.1:80", B, 2)]
        assert gateway.receive(A, text(answer, source=B, path=(B, A)), 1.0) == []
        gateway.connect(C, 2.0)
        carried = carry(make_envelope(answer, to=OWN, source=C, nonce="c", path=(C, N)))
        assert gateway.receive_carried(carried, N, 3.0, scope=1) == [DialLegacy("ws://10.0.0.1:80", C, 1)]

    def test_a_link_that_does_not_come_about_is_reported(self) -> None:
        gateway, _ = linked(A, limits=Limits(lookups=2))
        gateway.connect(B, 0.0)
        gateway.connect(C, 1.0)
        assert gateway.connect(D, 1.0) == [ConnectFailed(D, "too many links are being made")]
        nothing = text(HandshakeAnswer(ws=None, wrtc=False), source=B, path=(B, A))
        assert gateway.receive(A, nothing, 2.0) == [ConnectFailed(B, "the peer has no websocket address")]
        assert ConnectFailed(C, "the peer did not answer") in gateway.handle_timeout(16.0)
        assert gateway.sizes()["legacy_wishes"] == 0
        assert gateway.connect(A, 20.0) == []
        gateway.connect(E, 20.0)
        gateway.handshakes.unwish(E)
        assert gateway.sizes()["legacy_wishes"] == 0

    def test_a_link_that_came_about_is_no_wish_any_more(self) -> None:
        gateway, _ = linked(A)
        gateway.connect(B, 0.0)
        gateway.link_up("B", B, 1.0, dialled=True)
        assert gateway.sizes()["legacy_wishes"] == 0

    def test_signals_reach_only_who_does_webrtc(self) -> None:
        """Any other original would end."""
        gateway, _ = linked(A, B)
        signal = Signal({"type": "offer", "sdp": "v=0"})
        assert gateway.receive(A, text(signal, to=B), 0.0) == []
        assert gateway.counts["legacy_unsafe"] == 1
        gateway.receive(B, text(HandshakeAnswer(ws=None, wrtc=True), source=B, to=A), 0.0)
        assert parse_body_untrusted(only(gateway.receive(A, text(signal, to=B), 0.0), B)) == signal
        assert gateway.receive(A, text(signal), 0.0) == []
        assert gateway.counts["legacy_signals"] == 1

    def test_other_types_pass_and_mean_nothing_to_us(self) -> None:
        gateway, _ = linked(A, B)
        assert only(gateway.receive(A, text(Unknown("future"), to=B), 0.0), B).body_type == "future"
        assert gateway.receive(A, text(Unknown("future")), 0.0) == []
        assert gateway.counts["legacy_unknown_type"] == 1


class TestTunnels:
    def test_a_message_for_ours_beyond_the_overlay_is_the_overlays(self) -> None:
        """Which seals it, and has the frame tunnelled if there is no other way."""
        gateway, overlay = linked(A)
        overlay.ours = overlay.unreached = {N}
        assert gateway.send(N, b"data", 0.0) == [SendOverlay(N, b"data")]

    def test_any_frame_of_ours_can_be_tunnelled(self) -> None:
        gateway, _ = linked(A)
        frame = build_frame(Kind.ACK, N, OWN, bytes(8), b"\x01")
        assert parse_body_untrusted(only(gateway.tunnel(frame, N, 0.0), A)) == Tunnel(frame)
        gateway.link_down(A, "gone", 0.0)
        assert gateway.tunnel(frame, N, 0.0) == []
        assert gateway.counts["legacy_no_tunnel"] == gateway.counts["legacy_tunnelled"] == 1

    def test_a_frame_comes_out_even_if_its_sender_has_a_key(self) -> None:
        gateway, overlay = linked(A)
        overlay.ours = {N}
        frame = build_frame(Kind.DATA, OWN, N, bytes(8), b"\x00x")
        actions = gateway.receive(A, text(Tunnel(frame), source=N, path=(N, A)), 0.0)
        assert actions == [TunnelFrame(frame, N, 2)]

    @pytest.mark.parametrize(
        "frame",
        [
            b"",
            b"short",
            build_frame(Kind.DATA, OWN, M, bytes(8), b""),
            build_frame(Kind.DATA, M, N, bytes(8), b""),
            build_frame(Kind.DATA, OWN, N, bytes(8), b"") * 2,
        ],
    )
    def test_a_frame_between_others_is_refused(self, frame: bytes) -> None:
        gateway, _ = linked(A)
        assert gateway.receive(A, text(Tunnel(frame), source=N, path=(N, A)), 0.0) == []
        assert gateway.counts["legacy_invalid"] == 1

    def test_ids_that_an_original_names_are_told_who_we_are(self) -> None:
        gateway, overlay = linked(A, B)
        overlay.ours, overlay.unreached = {N}, {C}
        answer = text(FoundPeers((OWN, A, B, N, C, D)))
        assert gateway.receive(A, answer, 0.0) == []
        told = []
        now = 0.0
        while (deadline := gateway.next_deadline()) < 5:
            now = max(now, deadline)
            told += [action for action in gateway.handle_timeout(now) if isinstance(action, Introduce)]
        assert told == [Introduce(C, dial=True), Introduce(D, dial=False)]
        # Only the first answer counts, and only that of the neighbour that was asked.
        gateway.receive(A, text(FoundPeers((E,))), 1.0)
        gateway.receive(B, text(FoundPeers((F,)), source=E, path=(E, B)), 1.0)
        assert not [a for a in gateway.handle_timeout(10.0) if isinstance(a, Introduce)]
        assert gateway.counts["legacy_unasked"] == 2

    def test_who_sends_us_a_frame_is_told_who_we_are(self) -> None:
        gateway, _ = linked(A)
        frame = build_frame(Kind.STORE, OWN, N, bytes(8), b"")
        gateway.receive(A, text(Tunnel(frame), source=N, path=(N, A)), 0.0)
        assert Introduce(N, dial=False) in gateway.handle_timeout(0.0)
        gateway.receive(A, text(Tunnel(frame), source=N, path=(N, A)), 1.0)
        assert not [a for a in gateway.handle_timeout(10.0) if isinstance(a, Introduce)]


class TestNetworks:
    def test_old_new_old(self) -> None:
        world = World()
        a, b = world.add_original(20), world.add_original(21)
        world.add_gateway(1)
        world.link(20, 1)
        world.link(21, 1)
        a.send(b.id, {"type": "user", "data": "hi"})
        world.run()
        assert b.received == [(a.id, "hi")]

    def test_old_new_new_old(self) -> None:
        world = World()
        a, b = world.add_original(20), world.add_original(21)
        world.add_gateway(1)
        world.add_gateway(2)
        world.link(20, 1)
        world.link(21, 2)
        a.send(b.id, {"type": "user", "data": "hi"})
        b.send(a.id, {"type": "user"})
        world.run()
        assert b.received == [(a.id, "hi")]
        assert a.received == [(b.id, None)]

    def test_an_original_behind_an_original_behind_another_gateway(self) -> None:
        """Nobody publishes it; the closest gateway is asked."""
        world = World()
        a, c, b = world.add_original(20), world.add_original(30), world.add_original(31)
        world.add_gateway(1)
        world.add_gateway(2)
        world.link(20, 1)
        world.link(30, 2)
        world.link(30, 31)
        a.send(b.id, {"type": "user", "data": 1})
        world.send(1, 31, b"bytes")
        world.run()
        assert sorted(map(str, b.received)) == sorted(
            map(str, [(a.id, 1), (node_id(1), {"type": "Buffer", "data": list(b"bytes")})])
        )
        b.send(node_id(1), {"type": "user", "data": "answer"})
        world.run()
        assert world.received[node_id(1)] == [(b.id, "answer")]
        assert c.received == []

    def test_gateways_that_are_linked_with_the_same_originals_deliver_once(self) -> None:
        world = World()
        originals = [world.add_original(20 + i) for i in range(5)]
        for i in range(1, 6):
            world.add_gateway(i)
        for original, gateway in itertools.product(range(5), range(1, 6)):
            world.link(20 + original, gateway)
        world.run()
        for sender, receiver in itertools.permutations(originals, 2):
            sender.send(receiver.id, {"type": "user", "data": sender.id.hex()})
        for number, each in itertools.product(range(1, 6), originals):
            world.send(number, int.from_bytes(each.id[:2], "big"), f"from {number}")
            each.send(node_id(number), {"type": "user", "data": "to ours"})
        world.run()
        for receiver in originals:
            expected = [(o.id, o.id.hex()) for o in originals if o is not receiver]
            assert sorted(receiver.received) == sorted(expected + [(node_id(g), f"from {g}") for g in range(1, 6)])
        assert all(sorted(got) == sorted((o.id, "to ours") for o in originals) for got in world.received.values())

    @given(
        st.lists(st.tuples(st.integers(0, 5), st.integers(6, 9)), max_size=14, unique=True),
        st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=8, unique_by=frozenset),
        st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10)), max_size=12),
    )
    def test_in_any_network_nothing_circles_and_nothing_arrives_twice(
        self,
        mixed: list[tuple[int, int]],
        old: list[tuple[int, int]],
        messages: list[tuple[int, int]],
    ) -> None:
        world = World()
        for number in range(6):
            world.add_original(number)
        for number in range(6, 10):
            world.add_gateway(number)
        for a, b in [*mixed, *((a, b) for a, b in old if a != b)]:
            world.link(a, b)
        for index, (sender, receiver) in enumerate(messages):
            if sender < 6:
                world.originals[node_id(sender)].send(node_id(receiver), {"type": "user", "data": index})
            elif sender < 10 and receiver != sender:
                world.send(sender, receiver, index)
        world.run()
        arrived = [data for original in world.originals.values() for _, data in original.received]
        arrived += [data for got in world.received.values() for _, data in got]  # type: ignore[misc]
        arrived += [data for _, _, data in world.over_overlay]  # type: ignore[misc]
        assert len(arrived) == len(set(arrived))
        # An original that is linked with any gateway is reached from every gateway.
        reachable = {a for a, _ in mixed}
        for index, (sender, receiver) in enumerate(messages):
            if 6 <= sender < 10 and receiver in reachable:
                assert index in [data for _, data in world.originals[node_id(receiver)].received]


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=12,
)
pool = st.sampled_from([OWN, A, B, C, D, E, F, N, M])
types = st.sampled_from(
    ["user", "findPeers", "foundPeers", "handshake-offer", "handshake-answer", "signal", "trio-relay", "else"]
)
tunnels = st.builds(
    lambda to, source, kind: base64.b64encode(build_frame(kind, to, source, bytes(8), b"\x00x")).decode(),
    pool,
    pool,
    st.integers(0, 80),
)
fitting: dict[str, st.SearchStrategy[Any]] = {
    "user": json_values,
    "findPeers": pool.map(bytes.hex),
    "foundPeers": st.lists(pool.map(bytes.hex), max_size=30),
    "handshake-offer": st.none(),
    "handshake-answer": st.sampled_from([{"ws": "ws://localhost:1", "wrtc": True}, {"ws": None, "wrtc": False}, None]),
    "signal": st.sampled_from(
        [{"sdp": OFFER, "type": "offer"}, {"sdp": "x", "type": "offer"}, {"sdp": 1}, {"candidate": {"candidate": ""}}]
    ),
    "trio-relay": tunnels,
    "else": json_values,
}
good_bodies = types.flatmap(lambda name: st.fixed_dictionaries({"type": st.just(name), "data": fitting[name]}))
any_bodies = st.fixed_dictionaries({"type": types}, optional={"data": json_values})


def envelopes_of(
    ids: st.SearchStrategy[Any],
    path: st.SearchStrategy[Any],
    nonce: st.SearchStrategy[Any],
    body: st.SearchStrategy[Any],
) -> st.SearchStrategy[dict[str, Any]]:
    members = {"to": ids, "from": ids, "path": path, "nonce": nonce, "data": body}
    return st.fixed_dictionaries(members, optional={"more": json_values})


good_paths = st.lists(pool.map(bytes.hex), min_size=1, max_size=21)
good_nonces = st.integers(0, 50).map(str)
good_ids = pool.map(bytes.hex) | pool.map(lambda i: {"type": "Buffer", "data": list(i)})
inputs = st.tuples(
    st.sampled_from([A, B, C, D]),
    envelopes_of(good_ids, good_paths, good_nonces, good_bodies)
    | envelopes_of(good_ids, good_paths, good_nonces, any_bodies)
    | envelopes_of(
        good_ids | json_values, good_paths | json_values, good_nonces | json_values, good_bodies | json_values
    )
    | json_values,
)

SMALL = Limits(
    seen_messages=16, seen_messages_per_sender=8, unlinked_messages=4, backlog_bytes=4096, lookups=4, legacy_links=8
)


class TestStrangers:
    @given(
        st.lists(inputs, min_size=5, max_size=40),
        st.sets(st.sampled_from([N, M, E, A])),
        st.booleans(),
        st.booleans(),
    )
    def test_whatever_they_send_nothing_is_raised_amplified_or_kept(
        self, messages: list[tuple[NodeId, Any]], ours: set[NodeId], reached: bool, webrtc: bool
    ) -> None:
        gateway, overlay = linked(A, B, C, D, limits=SMALL, webrtc=webrtc)
        overlay.ours, overlay.nodes, overlay.neighbours = ours, [N, M], {N}
        overlay.unreached = set() if reached else set(ours)
        overlay.gateways = {F: [N, M]}
        now = 0.0
        for link, value in messages:
            now += 0.3
            actions = gateway.receive(link, encode(value), now)
            assert len(sent(actions)) <= 3
            assert not any(isinstance(action, DialLegacy) for action in actions)
            for action in actions:
                if isinstance(action, Lookup):
                    later = gateway.looked_up(action.target, now)
                    assert len(sent([*actions, *later])) <= 3
            for where, envelope in sent(actions):
                assert where != link or envelope.source == OWN
            gateway.handle_timeout(now)
        sizes = gateway.sizes()
        assert sizes["legacy_seen"] <= 16
        assert sizes["legacy_waiting"] <= 4
        assert sizes["legacy_waiting_bytes"] <= 4096
        assert sizes["legacy_links"] <= 4
        assert sizes["legacy_handshakes"] <= (len(messages) if webrtc else 0)
        assert gateway.counts["legacy_negotiations"] <= 8

    @given(st.binary(max_size=60) | st.text(max_size=60))
    def test_what_is_no_json_is_counted(self, data: bytes | str) -> None:
        gateway, _ = linked(A)
        assert gateway.receive(A, data, 0.0) == []
        assert gateway.counts["legacy_invalid"] == 1

    @given(st.binary(max_size=80))
    def test_what_our_own_nodes_carry_is_no_more_trusted(self, payload: bytes) -> None:
        gateway, _ = linked(A)
        assert gateway.receive_carried(payload, N, 0.0) == []
        assert gateway.counts["legacy_invalid"] == 1

    def test_forged_ids_and_addresses_take_bounded_memory(self) -> None:
        gateway, _ = linked(A, limits=Limits(seen_messages=500, seen_messages_per_sender=50))
        for number in range(6000):
            source = node_id(1000 + number)
            gateway.receive(A, text(User(0), source=source, path=(source, A)), number / 1000)
        sizes = gateway.sizes()
        assert sizes["legacy_seen"] == 500
        assert sizes["legacy_remembered"] <= 2048
        now = 6.0
        for _ in range(100):
            now = gateway.next_deadline()
            gateway.handle_timeout(now)
            if now > 1000:
                break
        assert gateway.sizes()["legacy_seen"] == gateway.sizes()["legacy_remembered"] == 0


class TestCarriage:
    @given(
        json_values | st.binary(max_size=100).map(lambda b: {"type": "Buffer", "data": list(b)}),
        st.booleans(),
        st.lists(pool, min_size=1, max_size=20),
    )
    def test_round_trip(self, value: JSONValue, present: bool, path: list[NodeId]) -> None:
        body = User(value if present else None, present=present)
        envelope = make_envelope(body, to=B, source=A, nonce="1", path=tuple(path))
        assert parse_carried_untrusted(carry(envelope)) == envelope

    @pytest.mark.parametrize(
        "body",
        [
            FindPeers(A),
            FoundPeers((A, B)),
            HandshakeOffer(),
            HandshakeAnswer("ws://h:1", True),
            Tunnel(b"frame"),
            Unknown("x"),
        ],
    )
    def test_bodies_of_every_type_travel(self, body: Body) -> None:
        envelope = make_envelope(body, to=B, source=A, nonce="1")
        assert parse_body_untrusted(parse_carried_untrusted(carry(envelope))) == body

    def test_the_largest_payload_fits_as_bytes(self) -> None:
        payload = bytes(Limits().payload)
        carried = carry(make_envelope(User(payload), to=B, source=A, nonce="9" * 15, path=(A,) * MAX_PATH))
        assert len(carried) <= Limits().payload + 1400
        assert parse_body_untrusted(parse_carried_untrusted(carried)) == User(payload)

    def test_what_does_not_fit_is_refused(self) -> None:
        with pytest.raises(LocalProtocolError, match="at most 65391 bytes"):
            carry(make_envelope(User("x" * 65500), to=B, source=A, nonce="1"))

    @given(st.binary(max_size=200))
    def test_arbitrary_bytes_raise_only_the_documented_error(self, payload: bytes) -> None:
        with pytest.raises(RemoteProtocolError):
            parse_carried_untrusted(payload)

    def test_data_in_two_places_are_refused(self) -> None:
        head = build_envelope(make_envelope(User(1), to=B, source=A, nonce="1"))
        with pytest.raises(RemoteProtocolError):
            parse_carried_untrusted(len(head).to_bytes(2, "big") + head + b"\x012")
