"""Signals of WebRTC travel in sessions, and only there."""

from __future__ import annotations

from typing import Final

from trio_relay.overlay.actions import Action, Answered, Negotiate
from trio_relay.wire.frame import Flag, Frame, Kind
from trio_relay.wire.signal import Offer, parse_signal_untrusted

from ..support import of
from ..webrtc_world import description
from .insider import Insider
from .sides import Side

OFFER: Final = Offer(5, description(1))


def begun(side: Side) -> Negotiate:
    [action] = of(side.actions, Negotiate)
    return action


def exchange(one: Side, two: Side, frames: list[Frame]) -> list[Frame]:
    """Everything goes to and fro until nothing is under way; returns what passed."""
    passed: list[Frame] = []
    while frames:
        frame, *frames = frames
        passed.append(frame)
        frames += (one if frame.to == one.id else two).receive(frame)
    return passed


def test_two_nodes_exchange_descriptions_that_no_relay_can_read() -> None:
    alice, bob = Side(1, webrtc=4), Side(2, webrtc=4)
    passed: list[Frame] = []
    alice.act(alice.router.connect(bob.id, alice.now, "webrtc")[1])
    offer = begun(alice)
    passed += exchange(alice, bob, alice.act(alice.router.described(offer.negotiation, description(1), alice.now)))
    answer = begun(bob)
    assert (answer.id, answer.offer) == (alice.id, description(1))
    passed += exchange(alice, bob, bob.act(bob.router.described(answer.negotiation, description(2), bob.now)))
    done: list[Action] = [action for action in alice.actions if isinstance(action, Answered)]
    assert done == [Answered(bob.id, offer.negotiation, description(2))]
    signals = [frame for frame in passed if frame.kind == Kind.SIGNAL]
    assert len(signals) == 2
    assert all(frame.flags & Flag.SEALED and b"fingerprint" not in frame.payload for frame in signals)
    assert {frame.message_id for frame in signals} == {offer.negotiation}


def test_a_sealed_signal_is_taken_once_and_a_plain_one_never() -> None:
    bob = Side(2, webrtc=4)
    alice = Insider.opened(1, bob)
    sealed = alice.frame(1, OFFER.to_bytes(), kind=Kind.SIGNAL)
    plain = Frame(kind=Kind.SIGNAL, to=bob.id, source=alice.id, message_id=b"negotia.", payload=OFFER.to_bytes())
    bob.receive(plain)
    assert not of(bob.actions, Negotiate)
    assert bob.router.counts()["unsealed"] == 1
    bob.receive(sealed, sealed)
    assert begun(bob).id == alice.id
    assert bob.router.counts()["seal_replayed"] == 1


def test_a_refusal_is_sealed_too() -> None:
    bob = Side(2)
    alice = Insider.opened(1, bob)
    [refusal] = bob.receive(alice.frame(1, OFFER.to_bytes(), kind=Kind.SIGNAL))
    assert refusal.flags & Flag.SEALED
    assert parse_signal_untrusted(alice.open(refusal)).reason == 15  # type: ignore[union-attr]
