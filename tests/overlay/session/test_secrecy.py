"""Keys stay where they are used: no object, error or log line of the package holds one in any spelling."""

from __future__ import annotations

import base64
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import pytest
import trio.testing

from tests.node.support import identity, until, url
from trio_relay import open_node
from trio_relay.exceptions import RemoteProtocolError
from trio_relay.overlay.session import agreement, proof, secrets
from trio_relay.overlay.session.agreement import HalfOpen, Opening
from trio_relay.overlay.session.copies import Copy
from trio_relay.overlay.session.relations import Attempt, Relation
from trio_relay.overlay.session.secrets import Ephemeral, Keys, has_kem
from trio_relay.overlay.session.session import Session
from trio_relay.overlay.session.sessions import Sealing, Sessions
from trio_relay.testing import MemoryNetwork

from . import product
from .attacker import ALICE, KEM_SEED, alice_opens, bob_answers, pose_as_accepter, pose_as_opener, proven_with
from .leaks import Leaks, reachable, said_by, said_by_error
from .sides import Side, exchange, open_session
from .vectors import small_order


@contextmanager
def recording() -> Iterator[list[bytes]]:
    """Every secret that the package derives meanwhile: shared secrets, what follows from them, ML-KEM's."""
    found: list[bytes] = []

    def keeping(function: Callable[..., bytes]) -> Callable[..., bytes]:
        def call(*args: object, **kwargs: object) -> bytes:
            found.append(function(*args, **kwargs))
            return found[-1]

        return call

    def agreeing(cipher: int, transcript: bytes, secret: bytes) -> Keys:
        keys = secrets.agree(cipher, transcript, secret)
        found.extend([secret, keys._prk])
        return keys

    derive = keeping(Keys.derive)
    with (
        mock.patch.object(Keys, "derive", lambda *args: derive(*args)),
        mock.patch.object(agreement, "agree", agreeing),
        mock.patch.object(proof, "_mac", keeping(proof._mac)),
    ):
        yield found


def everything(found: list[bytes], *entropy: bytes) -> Leaks:
    """Secrets that were derived, with their halves where two were joined, and the randomness behind them."""
    joined = [half for secret in found if len(secret) in (44, 64) for half in (secret[:32], secret[32:])]
    return Leaks([*found, *joined, *entropy, *(half for each in entropy for half in (each[:32], each[32:]) if half)])


def test_a_leak_would_be_found() -> None:
    """In every spelling that is looked for, whole or in part."""
    secret = bytes(range(100, 132))
    leaks = Leaks([secret])
    for text in (
        repr(secret),
        secret.hex(),
        secret.hex().upper(),
        f"key={secret[:12].hex(' ')}",
        str(bytearray(secret[-9:])),
        base64.b64encode(secret).decode(),
        base64.urlsafe_b64encode(b"x" + secret).decode(),
        base64.b64encode(b"xy" + secret).decode(),
        str(int.from_bytes(secret, "big")),
        secret.decode("latin-1"),
        repr(list(secret)),
    ):
        assert leaks.in_text(f"before {text} after"), text
    assert not leaks.in_text("before and after")
    assert not leaks.in_text(bytes(range(32)).hex())


@pytest.mark.parametrize("kem", [False, pytest.param(True, marks=pytest.mark.skipif(not has_kem(), reason="no KEM"))])
def test_no_object_shows_a_key(kem: bool) -> None:
    """Two nodes in every state: sessions open and half open, openings under way, messages under way and waiting."""
    with recording() as found:
        alice, bob, carol = Side(1, kem=kem), Side(2, kem=kem), Side(3, kem=kem)
        open_session(alice, bob)
        exchange(bob, alice, bob.deliver(alice.id)[1])
        alice.deliver(bob.id, b"not acknowledged yet")
        [opened] = carol.send(alice.id, b"waiting")
        [accept] = alice.receive(opened)
        alice.send(carol.id, b"another waiting")
        unproven = carol.receive(accept)
    assert unproven
    leaks = everything(found, *(taken for side in (alice, bob, carol) for taken in side.entropy))
    kinds: set[type] = set()
    for side in (alice, bob, carol):
        for one in reachable(side.router, "trio_relay"):
            kinds.add(type(one))
            assert not leaks.in_text(said_by(one)), type(one)
    assert kinds >= {Sessions, Session, HalfOpen, Opening, Attempt, Relation, Keys, Ephemeral, agreement.Self, Copy}


def test_what_sessions_are_made_with_shows_no_key() -> None:
    """Values that are not kept: how a node seals, its own side, an answer, keys, while they are in somebody's hands."""
    with recording() as found:
        opening = alice_opens(kem=has_kem())
        half = bob_answers(opening.payload, kem=has_kem())
        session = product.accepted(opening, half.payload)
        keys = secrets.agree(2, bytes(32), bytes(range(32)))
        derived = keys.derive(b"label", 44)
    seed = bytes(range(50, 82))
    leaks = everything([*found, derived, bytes(range(32)), keys._prk], seed, KEM_SEED)
    own = product.make_self(seed, 3)
    for one in (
        opening,
        opening.message,
        half,
        session,
        Copy(session, 3, 2),
        keys,
        own,
        Sealing(os.urandom, 3, True),
    ):
        assert not leaks.in_text(said_by(one)), type(one)


def refusals() -> Iterator[Callable[[], object]]:
    """Everything that a handshake refuses, from a bad key to a proof of somebody else."""
    opening = alice_opens(kem=has_kem())
    half = bob_answers(opening.payload, kem=has_kem())
    session = product.accepted(opening, half.payload)
    forged = pose_as_accepter(opening, proven_with(ALICE.public_key, bytes(64)))
    unsigned = pose_as_accepter(opening, proven_with(product.make_self(b"\2" * 32, 2).public_key, bytes(64)))
    posing, box, _ = pose_as_opener(ALICE.id, proven_with(ALICE.public_key, bytes(64)))
    for position in (1, 5, 20, 60, len(half.payload) - 60, len(half.payload) - 1):
        changed = half.payload[:position] + bytes([half.payload[position] ^ 1]) + half.payload[position + 1 :]
        yield lambda changed=changed: product.accepted(opening, changed)  # type: ignore[misc]
    yield lambda: product.accepted(opening, forged)
    yield lambda: product.accepted(opening, unsigned)
    yield lambda: posing.confirmed(box, 0.0)
    yield lambda: half.confirmed(session.proof[:-1] + bytes([session.proof[-1] ^ 1]), 0.0)
    yield lambda: bob_answers(opening.payload[:2] + small_order()[0][1] + opening.payload[34:])
    if has_kem():
        yield lambda: bob_answers(opening.payload[:50] + b"\xff" * 1184, kem=True)


def test_no_error_shows_a_key() -> None:
    """Nor do those in its chain."""
    with recording() as found:
        errors: list[BaseException] = []
        for refuse in refusals():
            with pytest.raises(RemoteProtocolError) as caught:
                refuse()
            errors.append(caught.value)
        leaks = everything(found, *(bytes([number]) * 16 + bytes(range(16)) for number in (11, 12, 13)))
    for error in errors:
        assert not leaks.in_text(said_by_error(error)), error


async def test_no_log_shows_a_key(
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Two nodes behind a relay, everything logged: messages, one restart, one peer that can not be reached."""
    taken: list[bytes] = []
    real = os.urandom

    def urandom(length: int) -> bytes:
        taken.append(real(length))
        return taken[-1]

    monkeypatch.setattr(os, "urandom", urandom)
    caplog.set_level(logging.DEBUG)
    network = MemoryNetwork()
    with recording() as found:
        async with (
            open_node("relay", network=network, identity=identity("relay")),
            open_node(None, [url("relay")], network=network, identity=identity("alice")) as alice,
        ):
            for _ in range(2):
                async with open_node(None, [url("relay")], network=network, identity=identity("bob")) as bob:
                    await until(lambda: alice.links and bob.links)
                    await alice.deliver(bob.id, b"hello", timeout=10)
                    assert (await bob.receive()).proven
            logging.getLogger("trio_relay").debug("%r %s", alice, alice.statistics())
    leaks = everything(found, *(each for each in taken if len(each) in (32, 96)))
    assert len(found) > 10
    assert len([each for each in taken if len(each) == 96]) >= 2
    written = capfd.readouterr()
    assert caplog.text
    assert not leaks.in_text(caplog.text + written.out + written.err)
