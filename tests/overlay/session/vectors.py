"""Makes tests/vectors/session.json. Only the ML-KEM ciphertext can't be made again, and is taken from the old file.

To write the file anew: ``Path("tests/vectors/session.json").write_text(text(make(ciphertext)))``.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final

from .primitives import (
    AES,
    CHACHA,
    aead,
    hkdf_expand,
    id_of,
    kem_secret,
    public_ephemeral,
    public_identity,
    sha256,
    sign,
    x25519,
)
from .reference import (
    HEADER,
    NO_COOKIE,
    OPENING,
    SEALED,
    SESSION,
    Accept,
    Accepter,
    Agreed,
    Opener,
    Session,
    agree,
    parse_accept,
    parse_open,
)

Vector = dict[str, Any]

A_SEED, B_SEED, C_SEED = (bytes([number]) * 32 for number in (1, 2, 3))
A, B, C = (id_of(public_identity(seed)) for seed in (A_SEED, B_SEED, C_SEED))
OPENER_EPHEMERAL: Final = bytes(range(0x40, 0x60))
ACCEPTER_EPHEMERAL: Final = bytes(range(0x60, 0x80))
KEM_SEED: Final = bytes(range(0x80, 0xC0))
OPENER_INDEX: Final = bytes.fromhex("b0b1b2b3b4b5b6b7")
ACCEPTER_INDEX: Final = bytes.fromhex("c0c1c2c3c4c5c6c7")
A_COOKIE: Final = bytes.fromhex("d0d1d2d3d4d5d6d7d8d9dadbdcdddedf")
DATA, ACK, BUSY = 1, 2, 3
LAST_COUNTER: Final = 2**22 - 1
COMMENT: Final = (
    "Whole sessions. Ephemeral seeds are X25519 private keys, `kem_seed` is d and z of FIPS 203; `ciphers` are those "
    "that a side likes. `accepter_signed` and `opener_signed` are what the signatures in the boxes cover. A frame's "
    "`payload` is what is sealed in it. In the refused ones `session` is the name of the session that they were made "
    "for: an OPEN for its accepter, an ACCEPT for its opener, a proof (the box of a frame) for its accepter, a frame "
    "for the other one than `side`. Those that name somebody who made them are sealed or signed with the right keys."
)

FRAMES: Final = [
    # Name, side, kind, flags, hop limit, attempt, detours, message id, counter, payload
    ("DATA, confirmed, with the proof", "opener", DATA, 0x0B, 16, 0, 2, "a0a1a2a3a4a5a6a7", 0, "006869"),
    ("SESSION with the proof", "opener", SESSION, 0x0A, 15, 0, 2, "a8a9aaabacadaeaf", 1, ""),
    ("SESSION", "accepter", SESSION, 0x02, 16, 0, 2, "b8b9babbbcbdbebf", 0, ""),
    ("ACK of DATA's second attempt", "accepter", ACK, 0x02, 16, 1, 2, "a0a1a2a3a4a5a6a7", 1, "0c01"),
    ("BUSY", "accepter", BUSY, 0x02, 16, 0, 2, "a0a1a2a3a4a5a6a7", 2, "00"),
    ("DATA, fourth attempt, detoured", "opener", DATA, 0x03, 12, 3, 0, "0001020304050607", 8191, "017b2261223a317d"),
    ("DATA, the last frame", "opener", DATA, 0x02, 16, 0, 2, "08090a0b0c0d0e0f", LAST_COUNTER, "00"),
    ("DATA of the accepter, the same", "accepter", DATA, 0x02, 16, 0, 2, "08090a0b0c0d0e0f", LAST_COUNTER, "00"),
]
SMALL_ORDER: Final = [
    # X25519 keys that give zeros with every other: of order 1, 2, 4 and 8, and more than one name for some of them.
    (0, "0"),
    (1, "1"),
    (0xB8495F16056286FDB1329CEB8D09DA6AC49FF1FAE35616AEB8413B7C7AEBE0, "of order 8"),
    (0x57119FD0DD4E22D8868E1C58C45C44045BEF839C55B1D0B1248C50A3BC959C5F, "the other one of order 8"),
    (2**255 - 20, "p - 1"),
    (2**255 - 19, "p"),
    (2**255 - 18, "p + 1"),
    (2**255, "0 and the highest bit"),
]


def header_of(session: Session, side: str, frame: Vector) -> bytes:
    """56 bytes, the length 0."""
    source, to, _ = session.ends(side)
    start = [frame["hop_limit"], frame["attempt"], frame["detours"], 1, frame["kind"], frame["flags"], 0, 0]
    return bytes(start) + to + source + bytes.fromhex(frame["message_id"])


def frame_vector(session: Session, proof: bytes, row: tuple[Any, ...]) -> Vector:
    fields = "name side kind flags hop_limit attempt detours message_id counter payload"
    frame: Vector = dict(zip(fields.split(), row, strict=True))
    box = proof if frame["flags"] & OPENING else b""
    header = header_of(session, frame["side"], frame)
    sealed = session.seal(frame["side"], header, frame["counter"], bytes.fromhex(frame["payload"]), box)
    return frame | {"bytes": sealed.hex()}


def session_vector(name: str, opener: Opener, accepter: Accepter, cookie: bytes, ciphertext: bytes) -> Vector:
    """One session from OPEN to frames in both directions."""
    opened = opener.open(cookie)
    shared_kem = b"" if opener.kem_seed is None else kem_secret(opener.kem_seed, ciphertext)
    accept, session = accepter.accept(A, opener.index, opened.build(), (shared_kem, ciphertext))
    agreed, proof = session.agreed, session.opener_box(opener.seed)
    values = {
        "open": opened.build(),
        "accept": accept,
        "x25519": x25519(opener.ephemeral, public_ephemeral(accepter.ephemeral)),
        "kem_secret": shared_kem or None,
        "t": agreed.t,
        "prk": agreed.prk,
        "accepter_mac": agreed.mac("accepter", agreed.t, public_identity(accepter.seed)),
        "accepter_signed": agreed.signed("accepter", agreed.t, public_identity(accepter.seed)),
        "accepter_box": session.accepter_box,
        "t2": session.t2,
        "opener_mac": agreed.mac("opener", session.t2, public_identity(opener.seed)),
        "opener_signed": agreed.signed("opener", session.t2, public_identity(opener.seed)),
        "opener_box": proof,
        "opener_key": session.data_key("opener")[0],
        "opener_iv": session.data_key("opener")[1],
        "accepter_key": session.data_key("accepter")[0],
        "accepter_iv": session.data_key("accepter")[1],
    }
    return {
        "name": name,
        "opener": side_vector(opener) | {"kem_seed": opener.kem_seed.hex() if opener.kem_seed else None},
        "accepter": side_vector(accepter) | {"kem_ciphertext": ciphertext.hex() or None},
        "cookie": cookie.hex(),
        "cipher": agreed.cipher,
        **{key: value.hex() if value is not None else None for key, value in values.items()},
        "frames": [frame_vector(session, proof, row) for row in FRAMES],
    }


def side_vector(side: Opener | Accepter) -> Vector:
    return {
        "seed": side.seed.hex(),
        "id": id_of(public_identity(side.seed)).hex(),
        "ephemeral_seed": side.ephemeral.hex(),
        "ephemeral": public_ephemeral(side.ephemeral).hex(),
        "index": side.index.hex(),
        "ciphers": side.ciphers,
    }


OPENER: Final = Opener(A_SEED, B, OPENER_INDEX, OPENER_EPHEMERAL, AES | CHACHA)
WITHOUT_AES: Final = replace(OPENER, ciphers=CHACHA | 0x80)
WITH_KEM: Final = replace(OPENER, kem_seed=KEM_SEED)
ACCEPTER: Final = Accepter(B_SEED, ACCEPTER_INDEX, ACCEPTER_EPHEMERAL, AES | CHACHA)
CLASSICAL, CHACHA_ONLY, HYBRID = "AES-256-GCM", "ChaCha20-Poly1305", "AES-256-GCM, ML-KEM-768, with a cookie"


def make(ciphertext: bytes) -> Vector:
    """All vectors; the ciphertext is one for the public key of `KEM_SEED`."""
    _, session = ACCEPTER.accept(A, OPENER_INDEX, OPENER.open().build())
    return {
        "comment": COMMENT,
        "sessions": [
            session_vector(CLASSICAL, OPENER, ACCEPTER, NO_COOKIE, b""),
            session_vector(CHACHA_ONLY, WITHOUT_AES, ACCEPTER, NO_COOKIE, b""),
            session_vector(HYBRID, WITH_KEM, ACCEPTER, A_COOKIE, ciphertext),
        ],
        "refused_opens": [row("open", *each) for each in refused_opens(OPENER.open().build(), WITH_KEM.open().build())],
        "refused_accepts": [row("accept", *each) for each in refused_accepts(session, ciphertext)],
        "refused_proofs": [row("box", *each) for each in refused_proofs(session)],
        "refused_frames": [row("bytes", *each) | {"side": "opener"} for each in refused_frames(session, FRAMES[5])]
        + [row("bytes", *each) | {"side": "opener"} for each in refused_first_frames(session)],
    }


def row(what: str, name: str, data: bytes, session: str = CLASSICAL) -> Vector:
    return {"name": name, "session": session, what: data.hex()}


def refused_opens(classical: bytes, hybrid: bytes) -> list[tuple[Any, ...]]:
    return [
        ("empty", b""),
        ("too short", classical[:-1]),
        ("too long", classical + b"\0"),
        ("a KEM key that is too short", hybrid[:-1]),
        ("a KEM key that is too long", hybrid + b"\0"),
        ("another type", b"\5" + classical[1:]),
        ("without ChaCha20-Poly1305", classical[:1] + bytes([AES]) + classical[2:]),
        ("without a cipher", classical[:1] + b"\0" + classical[2:]),
        *(
            (f"an ephemeral key that gives zeros: {name}", replace(parse_open(classical), ephemeral=key).build())
            for name, key in small_order()
        ),
        ("a KEM key with a coefficient of 3329", hybrid[:50] + b"\1\x0d\0" + hybrid[53:], HYBRID),
        ("a KEM key with another", hybrid[:1199] + b"\0\x10\xd0" + hybrid[1202:], HYBRID),
    ]


def small_order() -> list[tuple[str, bytes]]:
    return [(name, number.to_bytes(32, "little")) for number, name in SMALL_ORDER]


def refused_accepts(session: Session, ciphertext: bytes) -> list[tuple[Any, ...]]:
    """For openers; most of them by somebody on the way, some by the accepter itself."""
    accept, _ = ACCEPTER.accept(A, OPENER_INDEX, OPENER.open().build())
    said, t = parse_accept(accept), session.agreed.t
    stripped, _ = ACCEPTER.accept(A, OPENER_INDEX, replace(OPENER, ciphers=CHACHA).open().build())
    another_index, _ = ACCEPTER.accept(A, bytes(8), OPENER.open().build())
    another_opener, _ = ACCEPTER.accept(C, OPENER_INDEX, OPENER.open().build())
    return [
        ("too short", accept[:-1]),
        ("too long", accept + b"\0"),
        ("without a box", said.without_box()),
        ("no cipher", uninvited(OPENER, 0)),
        ("two ciphers", uninvited(OPENER, AES | CHACHA)),
        ("a cipher that was not offered", uninvited(WITHOUT_AES, AES), CHACHA_ONLY),
        ("a ciphertext without a KEM key", uninvited(OPENER, AES, ciphertext)),
        *(
            (f"an ephemeral key that gives zeros: {name}", uninvited(OPENER, AES, ephemeral=key))
            for name, key in small_order()
        ),
        ("its cipher changed on the way", replace(said, cipher=CHACHA).build()),
        ("its index changed on the way", replace(said, index=bytes(8)).build()),
        ("its box changed on the way", accept[:-1] + bytes([accept[-1] ^ 1])),
        ("to an OPEN whose ciphers were changed on the way", stripped),
        ("to an OPEN with another message id", another_index),
        ("to an OPEN from somebody else", another_opener),
        ("proven by somebody else", said.without_box() + session.agreed.prove("accepter", t, C_SEED)),
        ("with an opener's proof", said.without_box() + session.agreed.prove("opener", t, B_SEED)),
        *((name, said.without_box() + box) for name, box in forged_boxes(session.agreed, "accepter", t, B_SEED)),
        ("without ML-KEM, its key taken out of OPEN", accept, HYBRID),
        ("its ciphertext taken out", without_ciphertext(ciphertext), HYBRID),
    ]


def without_ciphertext(ciphertext: bytes) -> bytes:
    kem = (kem_secret(KEM_SEED, ciphertext), ciphertext)
    accept, _ = ACCEPTER.accept(A, OPENER_INDEX, WITH_KEM.open().build(), kem)
    return replace(parse_accept(accept), ciphertext=b"").build()


def uninvited(opener: Opener, cipher: int, ciphertext: bytes = b"", ephemeral: bytes = b"") -> bytes:
    """An ACCEPT that says what it must not, proven by the accepter itself, for an opener that does not look."""
    opened = opener.open()
    key = ephemeral or public_ephemeral(ACCEPTER_EPHEMERAL)
    said = Accept(cipher, ACCEPTER_INDEX, key, ciphertext)
    secret = bytes(32) if ephemeral else x25519(OPENER_EPHEMERAL, key)
    agreed = agree(A, B, OPENER_INDEX, opened, said, secret)
    used = replace(agreed, cipher=AES if cipher & AES else CHACHA)
    return said.without_box() + used.prove("accepter", agreed.t, B_SEED)


def refused_proofs(session: Session) -> list[tuple[str, bytes]]:
    box = session.opener_box(A_SEED)
    return [
        ("changed on the way", box[:-1] + bytes([box[-1] ^ 1])),
        ("of somebody else", session.opener_box(C_SEED)),
        ("of the accepter", session.opener_box(B_SEED)),
        ("the accepter's, sent back", session.accepter_box),
        ("with the accepter's labels", session.agreed.prove("accepter", session.t2, A_SEED)),
        ("over t instead of t2", session.agreed.prove("opener", session.agreed.t, A_SEED)),
        *forged_boxes(session.agreed, "opener", session.t2, A_SEED),
    ]


def forged_boxes(agreed: Agreed, role: str, transcript: bytes, seed: bytes) -> list[tuple[str, bytes]]:
    """Boxes that open, with the identity key that is expected, and a signature that does not fit."""
    key, other = public_identity(seed), "opener" if role == "accepter" else "accepter"
    another_session = agree(A, B, bytes(8), OPENER.open(), Accept(AES, ACCEPTER_INDEX, bytes(32)), bytes(32))
    signed = [
        ("signed by somebody else", C_SEED, agreed.signed(role, transcript, key)),
        ("signed for the other role", seed, agreed.signed(other, transcript, key)),
        ("signed for another session", seed, another_session.signed(role, sha256(transcript), key)),
        ("signed without a MAC", seed, agreed.signed(role, transcript, key)[:-32]),
        ("signed with another key's MAC", seed, agreed.signed(role, transcript, public_identity(C_SEED))),
        ("signed without what it is for", seed, agreed.signed(role, transcript, key)[-64:]),
    ]
    return [(name, forged_box(agreed, role, transcript, key, sign(by, what))) for name, by, what in signed]


def forged_box(agreed: Agreed, role: str, transcript: bytes, key: bytes, signature: bytes) -> bytes:
    box_key = hkdf_expand(agreed.prk, f"{role} box".encode(), 32)
    return aead(agreed.cipher, box_key).encrypt(bytes(12), key + signature, transcript)


def refused_first_frames(session: Session) -> list[tuple[str, bytes]]:
    """Changes of a frame with the opener's proof."""
    box = session.opener_box(A_SEED)
    vector = frame_vector(session, box, FRAMES[0])
    frame = bytes.fromhex(vector["bytes"])
    length = len(frame) - HEADER - len(box)
    without = frame[:5] + bytes([frame[5] ^ OPENING]) + length.to_bytes(2, "big")
    return [
        ("another box", frame[:72] + bytes([frame[72] ^ 1]) + frame[73:]),
        ("its last byte another one", frame[:183] + bytes([frame[183] ^ 1]) + frame[184:]),
        ("the accepter's box", frame[:72] + session.accepter_box + frame[184:]),
        ("its box taken out", without + frame[8:72] + frame[184:]),
        ("its box said to be payload", frame[:5] + bytes([frame[5] ^ OPENING]) + frame[6:]),
    ]


def refused_frames(session: Session, of: tuple[Any, ...]) -> list[tuple[str, bytes]]:
    """Changes of one frame; the first four are sealed by a peer that does have the key."""
    vector = frame_vector(session, b"", of)
    header, frame = header_of(session, "opener", vector), bytes.fromhex(vector["bytes"])
    payload = bytes.fromhex(vector["payload"])

    def changed(position: int, mask: int = 1) -> bytes:
        return frame[:position] + bytes([frame[position] ^ mask]) + frame[position + 1 :]

    swapped = frame[:8] + frame[28:48] + frame[8:28] + frame[48:56] + OPENER_INDEX + frame[64:]
    return [
        ("in another's name, by the opener", session.seal("opener", header[:28] + C + header[48:], 7, payload)),
        ("to somebody else, by the opener", session.seal("opener", header[:8] + C + header[28:], 7, payload)),
        ("kind 65, by the opener", session.seal("opener", header[:4] + b"\x41" + header[5:], 7, payload)),
        ("not sealed, by the opener", session.seal("opener", header[:5] + b"\1" + header[6:], 7, payload)),
        ("another version", changed(3, 3)),
        ("another kind", changed(4, 2)),
        ("another flag", changed(5, 1)),
        ("another target", changed(8)),
        ("another origin", changed(28)),
        ("another message id", changed(48)),
        ("another index", changed(56)),
        ("another counter", changed(71)),
        ("another payload", changed(72)),
        ("another tag", changed(len(frame) - 1)),
        ("sent back", swapped),
        ("shorter than a tag", frame[:6] + (31).to_bytes(2, "big") + frame[8 : 56 + 31]),
        ("not sealed", changed(5, SEALED)),
    ]


def text(vectors: Vector) -> str:
    """The file."""
    return json.dumps(vectors, indent=1, ensure_ascii=False) + "\n"
