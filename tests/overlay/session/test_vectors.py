"""session.json is what the reference makes, and every implementation in `IMPLEMENTATIONS` does what it says.

To test another one, write its `Implementation` and add it there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Protocol

import pytest

from . import reference, vectors
from .primitives import AES, Broken, encapsulate, has_kem, hkdf_expand, hkdf_extract, kem_public, kem_secret, sha256
from .product import Package

FILE: Final = Path(__file__).parents[2] / "vectors" / "session.json"
Vector = dict[str, Any]
VECTORS: Final[Vector] = json.loads(FILE.read_text("utf-8"))
SESSIONS: Final[dict[str, Vector]] = {vector["name"]: vector for vector in VECTORS["sessions"]}
FRAMES: Final = [(session, frame) for session in SESSIONS.values() for frame in session["frames"]]
NEEDS_KEM: Final = pytest.mark.skipif(not has_kem(), reason="cryptography has no ML-KEM here")


def unhex(text: str | None) -> bytes:
    return bytes.fromhex(text or "")


class Implementation(Protocol):
    """What is tested. A session is a vector of "sessions"; what must be refused raises `refuses`."""

    refuses: type[Exception]

    def open(self, session: Vector) -> bytes:
        """The payload of OPEN, with the cookie."""

    def accept(self, session: Vector, opened: bytes) -> bytes:
        """The payload of ACCEPT; a KEM key in OPEN is answered with the vector's ciphertext and secret."""

    def prove(self, session: Vector, accept: bytes) -> bytes:
        """The opener's proof, if that of the accepter holds."""

    def check(self, session: Vector, proof: bytes) -> None:
        """The accepter's check of the opener's proof."""

    def seal(self, session: Vector, frame: Vector) -> bytes:
        """A whole frame."""

    def unseal(self, session: Vector, side: str, frame: bytes) -> tuple[int, bytes, bytes]:
        """Counter, proof and payload of a frame that `side` sealed."""


class Reference:
    refuses: type[Exception] = Broken

    def opener(self, session: Vector) -> reference.Opener:
        side = session["opener"]
        seeds = (unhex(side["seed"]), unhex(session["accepter"]["id"]), unhex(side["index"]))
        return reference.Opener(*seeds, unhex(side["ephemeral_seed"]), side["ciphers"], unhex(side["kem_seed"]) or None)

    def half_open(self, session: Vector, opened: bytes) -> tuple[bytes, reference.Session]:
        side, opener = session["accepter"], session["opener"]
        accepter = reference.Accepter(
            unhex(side["seed"]), unhex(side["index"]), unhex(side["ephemeral_seed"]), side["ciphers"]
        )
        kem = (unhex(session["kem_secret"]), unhex(side["kem_ciphertext"]))
        return accepter.accept(unhex(opener["id"]), unhex(opener["index"]), opened, kem)

    def open(self, session: Vector) -> bytes:
        return self.opener(session).open(unhex(session["cookie"])).build()

    def accept(self, session: Vector, opened: bytes) -> bytes:
        return self.half_open(session, opened)[0]

    def prove(self, session: Vector, accept: bytes) -> bytes:
        opener = self.opener(session)
        return opener.read(accept).opener_box(opener.seed)

    def check(self, session: Vector, proof: bytes) -> None:
        self.half_open(session, unhex(session["open"]))[1].check_opener(proof)

    def seal(self, session: Vector, frame: Vector) -> bytes:
        sealing = self.opener(session).read(unhex(session["accept"]))
        proof = unhex(session["opener_box"]) if frame["flags"] & reference.OPENING else b""
        header = vectors.header_of(sealing, frame["side"], frame)
        return sealing.seal(frame["side"], header, frame["counter"], unhex(frame["payload"]), proof)

    def unseal(self, session: Vector, side: str, frame: bytes) -> tuple[int, bytes, bytes]:
        return self.half_open(session, unhex(session["open"]))[1].open(side, frame)


IMPLEMENTATIONS: Final[list[Implementation]] = [Reference(), Package()]


@pytest.fixture(params=IMPLEMENTATIONS, ids=lambda one: type(one).__name__)
def implementation(request: pytest.FixtureRequest) -> Implementation:
    one: Implementation = request.param
    return one


def needs_kem(session: Vector) -> list[pytest.MarkDecorator]:
    return [NEEDS_KEM] if session["kem_secret"] else []


def each_session() -> pytest.MarkDecorator:
    every = [pytest.param(session, id=name, marks=needs_kem(session)) for name, session in SESSIONS.items()]
    return pytest.mark.parametrize("session", every)


def each_frame() -> pytest.MarkDecorator:
    every = [
        pytest.param(session, frame, id=f"{session['name']}: {frame['name']}", marks=needs_kem(session))
        for session, frame in FRAMES
    ]
    return pytest.mark.parametrize(("session", "frame"), every)


def each_refused(kind: str) -> pytest.MarkDecorator:
    every = [
        pytest.param(SESSIONS[row["session"]], row, id=row["name"], marks=needs_kem(SESSIONS[row["session"]]))
        for row in VECTORS[kind]
    ]
    return pytest.mark.parametrize(("session", "vector"), every)


# Every implementation


@each_session()
def test_open(implementation: Implementation, session: Vector) -> None:
    assert implementation.open(session).hex() == session["open"]


@each_session()
def test_accept(implementation: Implementation, session: Vector) -> None:
    assert implementation.accept(session, unhex(session["open"])).hex() == session["accept"]


@each_session()
def test_accept_does_not_depend_on_the_cookie(implementation: Implementation, session: Vector) -> None:
    opened = unhex(session["open"])
    assert implementation.accept(session, opened[:34] + b"\xff" * 16 + opened[50:]).hex() == session["accept"]


@each_session()
def test_proof_of_opener(implementation: Implementation, session: Vector) -> None:
    proof = implementation.prove(session, unhex(session["accept"]))
    assert proof.hex() == session["opener_box"]
    implementation.check(session, proof)


@each_frame()
def test_sealed_frame(implementation: Implementation, session: Vector, frame: Vector) -> None:
    assert implementation.seal(session, frame).hex() == frame["bytes"]
    proof = unhex(session["opener_box"]) if frame["flags"] & reference.OPENING else b""
    opened = implementation.unseal(session, frame["side"], unhex(frame["bytes"]))
    assert opened == (frame["counter"], proof, unhex(frame["payload"]))


@each_frame()
def test_what_relays_change_is_not_authenticated(
    implementation: Implementation, session: Vector, frame: Vector
) -> None:
    relayed = b"\x03\xff\x00" + unhex(frame["bytes"])[3:]
    assert implementation.unseal(session, frame["side"], relayed)[2] == unhex(frame["payload"])


@each_refused("refused_opens")
def test_refused_opens(implementation: Implementation, session: Vector, vector: Vector) -> None:
    with pytest.raises(implementation.refuses):
        implementation.accept(session, unhex(vector["open"]))


@each_refused("refused_accepts")
def test_refused_accepts(implementation: Implementation, session: Vector, vector: Vector) -> None:
    with pytest.raises(implementation.refuses):
        implementation.prove(session, unhex(vector["accept"]))


@each_refused("refused_proofs")
def test_refused_proofs(implementation: Implementation, session: Vector, vector: Vector) -> None:
    with pytest.raises(implementation.refuses):
        implementation.check(session, unhex(vector["box"]))


@each_refused("refused_frames")
def test_refused_frames(implementation: Implementation, session: Vector, vector: Vector) -> None:
    with pytest.raises(implementation.refuses):
        implementation.unseal(session, vector["side"], unhex(vector["bytes"]))


# The reference, and the file


@NEEDS_KEM
def test_file_is_what_the_reference_makes() -> None:
    ciphertext = unhex(SESSIONS[vectors.HYBRID]["accepter"]["kem_ciphertext"])
    assert FILE.read_text("utf-8") == vectors.text(vectors.make(ciphertext))


@each_session()
def test_values_between(session: Vector) -> None:
    """What only writers of an implementation look at, put together here once more and by hand."""
    opener, accepter = session["opener"], session["accepter"]
    opened, accept = unhex(session["open"]), unhex(session["accept"])
    blank = opened[:34] + bytes(16) + opened[50:]
    t = b"trio-relay session 1" + unhex(opener["id"]) + unhex(accepter["id"]) + unhex(opener["index"])
    assert sha256(t + blank + accept[:-112]).hex() == session["t"]
    secret = unhex(session["x25519"]) + unhex(session["kem_secret"])
    assert hkdf_extract(unhex(session["t"]), secret).hex() == session["prk"]
    assert sha256(unhex(session["t"]) + accept[-112:]).hex() == session["t2"]
    for side in ("opener", "accepter"):
        expanded = hkdf_expand(unhex(session["prk"]), side.encode() + b" data" + unhex(session["t2"]), 44)
        assert expanded.hex() == session[f"{side}_key"] + session[f"{side}_iv"]


@each_session()
def test_cipher_is_the_best_that_both_like(session: Vector) -> None:
    both = session["opener"]["ciphers"] & session["accepter"]["ciphers"]
    assert session["cipher"] == unhex(session["accept"])[1] == (AES if both & AES else 2)


def test_no_nonce_is_used_twice() -> None:
    for session in SESSIONS.values():
        used = [(frame["side"], frame["counter"]) for frame in session["frames"]]
        assert len(set(used)) == len(used)


def test_hkdf_is_that_of_rfc_5869() -> None:
    prk = hkdf_extract(bytes(range(13)), b"\x0b" * 22)
    assert prk.hex() == "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5"
    expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    assert hkdf_expand(prk, bytes(range(0xF0, 0xFA)), 42).hex() == expected


@NEEDS_KEM
def test_encapsulated_secret_is_the_decapsulated_one() -> None:
    secret, ciphertext = encapsulate(kem_public(vectors.KEM_SEED))
    assert kem_secret(vectors.KEM_SEED, ciphertext) == secret
    with pytest.raises(Broken):
        encapsulate(b"\xff" * 1184)


@pytest.mark.parametrize(
    ("build", "parse", "value"),
    [
        (reference.build_cookie, reference.parse_cookie, bytes(range(16))),
        (reference.build_unknown, reference.parse_unknown, bytes(range(8))),
    ],
)
def test_short_messages(build: Any, parse: Any, value: bytes) -> None:
    payload = build(value)
    assert parse(payload) == value
    for wrong in (b"", payload[:-1], payload + b"\0", b"\xff" + payload[1:]):
        with pytest.raises(Broken):
            parse(wrong)
