"""An attacker who is the network, against honest ends of the handshake."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from tests.overlay.test_handshake import (
    ALICE,
    BOB,
    MALLORY,
    RECORDS,
    acceptor_of,
    dialler_of,
    signed_reply,
    transcript,
)
from trio_relay.exceptions import LocalProtocolError, RemoteProtocolError
from trio_relay.identity import Identity
from trio_relay.overlay.handshake import Acceptor, Dialler, Proven, Refused
from trio_relay.wire import hello
from trio_relay.wire.hello import Field, Hello, Proof
from trio_relay.wire.ids import NodeId


@dataclass(slots=True)
class Accepting:
    """A link that an honest node accepted, as the attacker sees it.

    Attributes:
        reply: the reply that it took for proof, None before that.
    """

    owner: Identity
    session: Acceptor
    hello: bytes
    authority: str
    reply: bytes | None = None
    proof: bytes = b""
    proven: Proven | None = None


@dataclass(slots=True)
class Dialling:
    """A link that an honest node dialled."""

    owner: Identity
    session: Dialler
    authority: str
    from_record: bool
    expected: NodeId | None
    hello: bytes | None = None
    reply: bytes = b""
    proof: bytes | None = None
    proven: Proven | None = None


@dataclass(slots=True)
class Counter:
    value: int = field(default=0)

    def next_nonce(self) -> bytes:
        self.value += 1
        return self.value.to_bytes(32, "big")


HONEST: Final = {identity.id: identity for identity in (ALICE, BOB)}
AUTHORITIES: Final = {ALICE.id: "alice.example:1", BOB.id: "bob.example:2", MALLORY.id: "mallory.example:3"}


class Attack(RuleBasedStateMachine):
    """Alice and Bob accept and dial whenever the attacker likes; every message passes through the attacker, who has
    a key of his own, and hears, keeps, drops, repeats, mixes and makes messages as he likes.

    Whoever is proven to be Alice or Bob sent exactly these messages, in the other role, to this very link.
    """

    accepted = Bundle("accepted")
    dialled = Bundle("dialled")
    messages = Bundle("messages")

    def __init__(self) -> None:
        super().__init__()
        self.nonces = Counter()
        self.accepting: list[Accepting] = []
        self.dialling: list[Dialling] = []

    @rule(target=accepted, owner=st.sampled_from(list(HONEST.values())))
    def accept(self, owner: Identity) -> Accepting:
        authority = AUTHORITIES[owner.id]
        session = acceptor_of(owner, self.nonces.next_nonce(), authority=authority)
        accepting = Accepting(owner, session, session.greet(), authority)
        self.accepting.append(accepting)
        return accepting

    @rule(
        target=dialled,
        owner=st.sampled_from(list(HONEST.values())),
        to=st.sampled_from([ALICE.id, BOB.id, MALLORY.id]),
        expects=st.booleans(),
        from_record=st.booleans(),
    )
    def dial(self, owner: Identity, to: NodeId, expects: bool, from_record: bool) -> Dialling:
        authority, expected = AUTHORITIES[to], to if expects else None
        session = dialler_of(
            owner, self.nonces.next_nonce(), authority=authority, expected=expected, from_record=from_record
        )
        dialling = Dialling(owner, session, authority, from_record, expected)
        self.dialling.append(dialling)
        return dialling

    @rule(target=messages, link=accepted)
    def hear_hello(self, link: Accepting) -> bytes:
        return link.hello

    @rule(target=messages, link=dialled, message=messages)
    def give_hello(self, link: Dialling, message: bytes) -> object:
        if link.hello is None:
            with contextlib.suppress(RemoteProtocolError, Refused):
                link.reply = link.session.receive_hello(message)
                link.hello = message
                return link.reply
        return multiple()

    @rule(target=messages, link=accepted, message=messages)
    def give_reply(self, link: Accepting, message: bytes) -> object:
        with contextlib.suppress(RemoteProtocolError, LocalProtocolError, Refused):
            link.proof, link.proven = link.session.receive(message)
            link.reply = message
            return link.proof
        return multiple()

    @rule(link=dialled, message=messages)
    def give_proof(self, link: Dialling, message: bytes) -> None:
        with contextlib.suppress(RemoteProtocolError, LocalProtocolError, Refused):
            link.proven = link.session.receive_proof(message)
            link.proof = message

    @rule(
        target=messages,
        link=dialled,
        other=accepted,
        tampered=st.sampled_from(["nothing", "hello", "reply", "proof"]),
        position=st.integers(-64, 63),
        change=st.integers(1, 255),
    )
    def pass_on(self, link: Dialling, other: Accepting, tampered: str, position: int, change: int) -> object:
        """Plays the cable between two links, whatever they are, and changes one byte on the way, or none."""

        def carry(name: str, message: bytes) -> bytes:
            return changed(message, position, change) if message and name == tampered else message

        replies = self.give_hello(link, carry("hello", other.hello))
        self.give_reply(other, carry("reply", link.reply))
        self.give_proof(link, carry("proof", other.proof))
        return replies

    @rule(link=accepted, other=accepted)
    def replay(self, link: Accepting, other: Accepting) -> None:
        """Repeats what proved somebody once, to the same link or to another."""
        if other.reply is not None:
            self.give_reply(link, other.reply)

    @rule(one=dialled, two=dialled, other=accepted)
    def fork(self, one: Dialling, two: Dialling, other: Accepting) -> None:
        """Lets two links dialled by honest nodes end in one that was accepted."""
        self.give_hello(one, other.hello)
        self.give_hello(two, other.hello)
        self.give_reply(other, one.reply)
        self.give_proof(one, other.proof)
        self.give_proof(two, other.proof)

    # What the attacker makes

    @rule(target=messages, key=st.sampled_from([ALICE, BOB, MALLORY]), message=messages)
    def make_hello(self, key: Identity, message: bytes) -> bytes:
        """Anybody can claim any key, with a nonce of his choice: here one that was heard."""
        nonce = message[7:39] if message[4:5] == b"\1" else message[6:38]
        return Hello(nonce.ljust(32, b"\0"), key.public_key).to_bytes()

    @rule(
        target=messages,
        heard=messages,
        greeting=messages,
        own_key=st.booleans(),
        role=st.sampled_from(["dialler", "acceptor"]),
    )
    def make_reply(self, heard: bytes, greeting: bytes, own_key: bool, role: str) -> object:
        """A reply that was heard, under the attacker's signature, and with his key or as it stands."""
        with contextlib.suppress(RemoteProtocolError):
            reply = hello.parse_reply_untrusted(heard)
            if own_key:
                reply = replace(reply, public_key=MALLORY.public_key, fields=without_record(reply.fields))
            return signed_reply(greeting, reply, MALLORY, role)
        return multiple()

    @rule(target=messages, greeting=messages, reply=messages)
    def make_proof(self, greeting: bytes, reply: bytes) -> bytes:
        unsigned = Proof({Field.RECORD: RECORDS[MALLORY.id].raw}).to_bytes()
        return unsigned + MALLORY.sign(transcript("acceptor", greeting, reply, unsigned))

    @rule(target=messages, body=messages, signature=messages)
    def mix(self, body: bytes, signature: bytes) -> bytes:
        """One message with the signature of another."""
        return body[:-64] + signature[-64:]

    @rule(target=messages, signature=messages)
    def reflect(self, signature: bytes) -> bytes:
        return Proof({}, signature[-64:]).to_bytes()

    @rule(target=messages, message=messages, position=st.integers(0, 400), change=st.integers(1, 255))
    def mutate(self, message: bytes, position: int, change: int) -> bytes:
        return changed(message, position, change)

    # What he must not reach

    @invariant()
    def an_acceptor_is_right_about_who_dialled(self) -> None:
        for link in self.accepting:
            if link.proven is None or link.proven.id not in HONEST:
                continue
            owner = HONEST[link.proven.id]
            partners = [d for d in self.dialling if (d.hello, d.reply) == (link.hello, link.reply)]
            assert [partner.owner for partner in partners] == [owner]
            assert owner is not link.owner
            assert partners[0].expected in (None, link.owner.id)
            if partners[0].from_record:
                assert partners[0].authority == link.authority

    @invariant()
    def a_dialler_is_right_about_who_accepted(self) -> None:
        for link in self.dialling:
            if link.proven is None:
                continue
            assert link.expected in (None, link.proven.id)
            if link.proven.id in HONEST:
                seen = (link.hello, link.reply, link.proof)
                partners = [a for a in self.accepting if (a.hello, a.reply, a.proof) == seen]
                assert [partner.owner for partner in partners] == [HONEST[link.proven.id]]

    @invariant()
    def nobody_is_proven_twice_by_one_message(self) -> None:
        replies = [link.reply for link in self.accepting if link.proven is not None and link.proven.id in HONEST]
        proofs = [link.proof for link in self.dialling if link.proven is not None and link.proven.id in HONEST]
        assert len(set(replies)) == len(replies)
        assert len(set(proofs)) == len(proofs)


def changed(message: bytes, position: int, change: int) -> bytes:
    mutated = bytearray(message)
    mutated[position % len(mutated)] ^= change
    return bytes(mutated)


def without_record(fields: Mapping[int, bytes]) -> dict[int, bytes]:
    return {tag: value for tag, value in fields.items() if tag != Field.RECORD}


TestAttack = Attack.TestCase
TestAttack.settings = settings(stateful_step_count=50)
