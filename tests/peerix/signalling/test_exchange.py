"""Packets between members: sealed for one, refused when forged, heard once, and bounded whatever strangers send."""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import Final

import pytest

from trio_relay.exceptions import LocalProtocolError, RemoteProtocolError
from trio_relay.peerix.packets.sealing import Keys
from trio_relay.peerix.packets.signalling import Announce, Answer, Invoke, Offer, Signal
from trio_relay.peerix.signalling import exchange as exchange_module
from trio_relay.peerix.signalling.exchange import Exchange

KEYS: Final = [Keys.from_secret(number) for number in (7, 255, 65537)]
NONCES: Final = count()


class End:
    """One member's exchange, with a nonce for each packet."""

    def __init__(self, number: int, *, sealed: bool = True, strangers: float = 64.0) -> None:
        keys = KEYS[number]
        self.counts: Final[Counter[str]] = Counter()
        self.exchange: Final = Exchange(
            keys.public,
            keys if sealed else None,
            compression=True,
            strangers=strangers,
            counts=self.counts,
            now=0.0,
        )

    def say(self, signal: Signal, to: End | None, now: float = 0.0) -> bytes:
        nonce = next(NONCES).to_bytes(12, "big")
        return self.exchange.encode(signal, to.exchange.id if to is not None else None, nonce, now)

    def hear(self, packet: bytes, now: float = 0.0) -> tuple[str, Signal] | None:
        return self.exchange.receive_untrusted(packet, now)


@pytest.mark.parametrize("sealed", [True, False])
def test_what_one_says_the_other_hears(sealed: bool) -> None:
    alice, bob = End(0, sealed=sealed), End(1, sealed=sealed)
    for signal in (Announce(), Invoke({"name": "Alice"}), Invoke(), Offer("v=0", None), Answer("v=0")):
        assert bob.hear(alice.say(signal, bob)) == (alice.exchange.id, signal)
    assert bob.counts == {"signals_received": 5}


def test_our_own_packets_come_back_from_some_brokers() -> None:
    alice = End(0)
    assert alice.hear(alice.say(Announce(), None)) is None
    assert not alice.counts


def test_a_packet_that_is_not_for_us_does_not_open() -> None:
    alice, bob, carol = End(0), End(1), End(2)
    with pytest.raises(RemoteProtocolError, match="sealed"):
        carol.hear(alice.say(Offer("v=0", None), bob))
    assert carol.counts == {"signals_malformed": 1}


def test_a_repeated_packet_is_left() -> None:
    alice, bob = End(0), End(1)
    packet = alice.say(Offer("v=0", None), bob)
    assert bob.hear(packet) is not None
    assert bob.hear(packet) is None
    assert bob.counts == {"signals_received": 1, "signals_replayed": 1}


def test_a_member_can_not_say_more_than_is_sensible_and_others_are_still_heard() -> None:
    alice, bob, carol = End(0), End(1), End(2)
    heard = sum(bob.hear(alice.say(Answer("v=0"), bob)) is not None for _ in range(300))
    assert heard == 200
    assert bob.counts["signals_limited"] == 100
    assert bob.hear(carol.say(Answer("v=0"), bob)) is not None
    assert bob.hear(alice.say(Answer("v=0"), bob), 1.0) is not None


def test_forgeries_in_a_members_name_cost_it_nothing() -> None:
    alice, bob, carol = End(0), End(1), End(2)
    for _ in range(300):
        forged = bytearray(carol.say(Answer("v=0"), bob))
        forged[6:39] = alice.exchange.own
        with pytest.raises(RemoteProtocolError):
            bob.hear(bytes(forged))
    assert bob.hear(alice.say(Answer("v=0"), bob)) is not None


def test_strangers_are_heard_at_a_bounded_rate_and_known_ones_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_module, "_MAX_PAIRS", 8)
    alice, bob = End(0), End(1, strangers=4.0)
    bob.exchange.pin(alice.exchange.id, 0.0)
    strangers = [Keys.from_secret(number).public for number in range(1000, 1040)]
    heard = [bob.hear(b"\x08\x01\x10\x00\x1a\x21" + public + b"\x22\x00") is not None for public in strangers]
    assert heard == [True] * 16 + [False] * 24
    assert bob.counts["signals_strangers_limited"] == 24
    assert bob.counts["signals_keys_forgotten"] == 8
    assert bob.hear(alice.say(Invoke(), bob)) == (alice.exchange.id, Invoke())


def test_replays_stay_known_when_a_member_has_gone() -> None:
    alice, bob = End(0), End(1)
    packet = alice.say(Offer("v=0", None), bob)
    bob.exchange.pin(alice.exchange.id, 0.0)
    assert bob.hear(packet) is not None
    bob.exchange.unpin(alice.exchange.id)
    assert bob.hear(packet) is None


def test_an_id_that_is_no_key_can_not_be_written_to() -> None:
    with pytest.raises(LocalProtocolError):
        End(0).exchange.encode(Invoke(), "nobody", b"\x00" * 12, 0.0)


def test_a_sender_that_is_no_point_of_the_curve_is_refused() -> None:
    bob = End(1)
    with pytest.raises(RemoteProtocolError, match="point"):
        bob.hear(b"\x08\x01\x10\x00\x1a\x21" + b"\x05" + b"\xff" * 32 + b"\x22\x00")
    assert bob.counts == {"signals_malformed": 1}
