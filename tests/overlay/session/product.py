"""The package, as an `Implementation` of test_vectors.py, and with the words of the reference for tests against it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from trio_relay import Identity
from trio_relay.exceptions import RemoteProtocolError
from trio_relay.identity import verify
from trio_relay.overlay.session import agreement
from trio_relay.overlay.session.agreement import HalfOpen, Opening, Self
from trio_relay.overlay.session.secrets import encapsulate as real_encapsulate
from trio_relay.overlay.session.session import Arrival, Session
from trio_relay.wire.frame import FIRST_LINK_LOCAL, Flag, build_frame, parse_frames_untrusted
from trio_relay.wire.ids import NodeId
from trio_relay.wire.session import BOX_LENGTH, SEALED_HEAD, TAG_LENGTH, Accept, Open, parse_session_message_untrusted

Vector = dict[str, Any]


def make_self(seed: bytes, ciphers: int, *, kem: bool = False) -> Self:
    """A node with real signatures."""
    identity = Identity.from_seed(seed)
    return Self(identity.id, identity.public_key, identity.sign, verify, ciphers, kem)


def make_opening(own: Self, peer: bytes, index: bytes, ephemeral: bytes, kem_seed: bytes | None = None) -> Opening:
    return Opening(own, NodeId(peer), index, ephemeral + (kem_seed or bytes(64)))


def answer(own: Self, opener: bytes, index: bytes, opened: bytes, own_index: bytes, ephemeral: bytes) -> HalfOpen:
    """The accepter, up to its ACCEPT, for the bytes of an OPEN."""
    message = parse_session_message_untrusted(opened)
    if not isinstance(message, Open):
        raise RemoteProtocolError("no OPEN")
    return HalfOpen.answer(own, NodeId(opener), index, message, own_index, ephemeral + bytes(64), 0.0)


def accepted(opening: Opening, accept: bytes) -> Session:
    """The opener's session, for the bytes of an ACCEPT."""
    message = parse_session_message_untrusted(accept)
    if not isinstance(message, Accept):
        raise RemoteProtocolError("no ACCEPT")
    return opening.accepted(message, 0.0)


def unseal(session: Session, own: bytes, frame: bytes) -> tuple[int, bytes, bytes]:
    """Counter, box and payload of a whole frame, as the receiver with that session takes it."""
    [parsed] = parse_frames_untrusted(frame)
    if parsed.kind >= FIRST_LINK_LOCAL or not parsed.flags & Flag.SEALED or parsed.to != own:
        raise RemoteProtocolError("not sealed, or not for us")
    start = SEALED_HEAD.size + (BOX_LENGTH if parsed.flags & Flag.OPENING else 0)
    if len(parsed.payload) < SEALED_HEAD.size + TAG_LENGTH:
        raise RemoteProtocolError("too short")
    index, counter = SEALED_HEAD.unpack_from(parsed.payload)
    if index != session.index or parsed.source != session.peer:
        raise RemoteProtocolError("not of this session")
    plain, arrival = session.unseal(parsed.kind, parsed.flags, own, parsed.source, parsed.message_id, parsed.payload)
    if plain is None or arrival is not Arrival.NEW:
        raise RemoteProtocolError("not genuine, or a copy")
    return counter, parsed.payload[SEALED_HEAD.size : start], plain


@contextmanager
def kem_of(secret: bytes, ciphertext: bytes) -> Iterator[None]:
    """Replaces the only randomness that the package lets a library take itself; keys are still checked."""

    def encapsulate(key: bytes) -> tuple[bytes, bytes]:
        real_encapsulate(key)
        return secret, ciphertext

    with mock.patch.object(agreement, "encapsulate", encapsulate):
        yield


def unhex(text: str | None) -> bytes:
    return bytes.fromhex(text or "")


class Package:
    refuses: type[Exception] = RemoteProtocolError

    def opening(self, session: Vector) -> Opening:
        side = session["opener"]
        own = make_self(unhex(side["seed"]), side["ciphers"], kem=side["kem_seed"] is not None)
        seeds = unhex(side["ephemeral_seed"]), unhex(side["kem_seed"]) or None
        return make_opening(own, unhex(session["accepter"]["id"]), unhex(side["index"]), *seeds)

    def half_open(self, session: Vector, opened: bytes) -> HalfOpen:
        side, opener = session["accepter"], session["opener"]
        own = make_self(unhex(side["seed"]), side["ciphers"], kem=session["kem_secret"] is not None)
        with kem_of(unhex(session["kem_secret"]), unhex(side["kem_ciphertext"])):
            return answer(
                own,
                unhex(opener["id"]),
                unhex(opener["index"]),
                opened,
                unhex(side["index"]),
                unhex(side["ephemeral_seed"]),
            )

    def session(self, vector: Vector, side: str) -> Session:
        """The session as one side has it."""
        if side == "opener":
            return accepted(self.opening(vector), unhex(vector["accept"]))
        return self.half_open(vector, unhex(vector["open"])).confirmed(unhex(vector["opener_box"]), 0.0)

    def open(self, session: Vector) -> bytes:
        opening = self.opening(session)
        opening.show(unhex(session["cookie"]))
        return opening.payload

    def accept(self, session: Vector, opened: bytes) -> bytes:
        return self.half_open(session, opened).payload

    def prove(self, session: Vector, accept: bytes) -> bytes:
        return accepted(self.opening(session), accept).proof

    def check(self, session: Vector, proof: bytes) -> None:
        self.half_open(session, unhex(session["open"])).confirmed(proof, 0.0)

    def seal(self, session: Vector, frame: Vector) -> bytes:
        side = frame["side"]
        other = "accepter" if side == "opener" else "opener"
        source, to = unhex(session[side]["id"]), unhex(session[other]["id"])
        kind, flags, message_id = frame["kind"], frame["flags"], unhex(frame["message_id"])
        sealing = self.session(session, side)
        sealed = sealing.seal_again(frame["counter"], kind, flags, to, source, message_id, unhex(frame["payload"]))
        relayed = {name: frame[name] for name in ("hop_limit", "attempt", "detours")}
        return build_frame(kind, to, source, message_id, sealed, flags=flags, **relayed)

    def unseal(self, session: Vector, side: str, frame: bytes) -> tuple[int, bytes, bytes]:
        other = "accepter" if side == "opener" else "opener"
        return unseal(self.session(session, other), unhex(session[other]["id"]), frame)
