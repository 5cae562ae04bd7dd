from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_relay.exceptions import RemoteProtocolError
from trio_relay.limits import Limits
from trio_relay.wire.frame import HEADER_LENGTH, MAX_PAYLOAD, UNCHANGED, build_frame
from trio_relay.wire.session import (
    BOX_LENGTH,
    INDEX_LENGTH,
    MAX_SEALING,
    NO_COOKIE,
    SEALED_HEAD,
    Accept,
    Cipher,
    Cookie,
    Open,
    SessionMessage,
    Unknown,
    associated_data,
    build_accept,
    build_cookie,
    build_open,
    build_unknown,
    parse_session_message_untrusted,
)

OPEN, ACCEPT, COOKIE, UNKNOWN = 1, 2, 3, 4
KEM_KEY, KEM_CIPHERTEXT = 1184, 1088
LENGTHS = {
    OPEN: {50, 50 + KEM_KEY},
    ACCEPT: {42 + 112, 42 + KEM_CIPHERTEXT + 112},
    COOKIE: {17},
    UNKNOWN: {9},
}
octets = st.integers(0, 255)


def exactly(length: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=length, max_size=length)


opens = st.builds(
    Open,
    ciphers=octets.map(lambda ciphers: ciphers | Cipher.CHACHA20_POLY1305),
    ephemeral=exactly(32),
    kem_key=st.just(b"") | exactly(KEM_KEY),
    cookie=exactly(16),
)
accepts = st.builds(
    Accept,
    cipher=st.sampled_from([int(Cipher.AES_256_GCM), int(Cipher.CHACHA20_POLY1305)]),
    index=exactly(8),
    ephemeral=exactly(32),
    kem_ciphertext=st.just(b"") | exactly(KEM_CIPHERTEXT),
    box=exactly(BOX_LENGTH),
)
cookies = st.builds(Cookie, exactly(16))
unknowns = st.builds(Unknown, exactly(INDEX_LENGTH))
messages = opens | accepts | cookies | unknowns


def build(message: SessionMessage) -> bytes:
    match message:
        case Open():
            return build_open(message)
        case Accept():
            return build_accept(message)
        case Cookie():
            return build_cookie(message)
        case Unknown():
            return build_unknown(message)


@given(messages)
def test_messages_survive(message: SessionMessage) -> None:
    payload = build(message)
    assert parse_session_message_untrusted(payload) == message
    assert len(payload) in LENGTHS[payload[0]]


def test_layout() -> None:
    """Section 2, position for position."""
    e, cookie, key, index, ciphertext, box = (
        bytes([number]) * length for number, length in enumerate((32, 16, KEM_KEY, 8, KEM_CIPHERTEXT, 112), 0xE0)
    )
    assert build_open(Open(3, e, key, cookie)) == b"\x01\x03" + e + cookie + key
    assert build_open(Open(2, e)) == b"\x01\x02" + e + bytes(16)
    assert build_accept(Accept(1, index, e, ciphertext, box)) == b"\x02\x01" + index + e + ciphertext + box
    assert build_accept(Accept(2, index, e, b"", box)) == b"\x02\x02" + index + e + box
    assert build_cookie(Cookie(cookie)) == b"\x03" + cookie
    assert build_unknown(Unknown(index)) == b"\x04" + index


@given(st.binary(max_size=200))
@example(b"")
def test_arbitrary_bytes_are_refused_with_one_error_or_survive(payload: bytes) -> None:
    try:
        message = parse_session_message_untrusted(payload)
    except RemoteProtocolError:
        return
    assert build(message) == payload
    assert len(payload) in LENGTHS[payload[0]]


@given(octets, st.sampled_from(sorted(set.union(*LENGTHS.values()))), st.data())
def test_bytes_of_the_right_lengths_are_refused_or_survive(kind: int, length: int, data: st.DataObject) -> None:
    payload = bytes([kind]) + data.draw(exactly(length - 1))
    try:
        message = parse_session_message_untrusted(payload)
    except RemoteProtocolError:
        fits = length in LENGTHS.get(kind, set())
        assert not fits or (kind == OPEN and not payload[1] & 2) or (kind == ACCEPT and payload[1] not in (1, 2))
    else:
        assert build(message) == payload


@given(messages, st.integers(1, 40), st.booleans())
def test_another_length_is_refused(message: SessionMessage, change: int, longer: bool) -> None:
    payload = build(message)
    with pytest.raises(RemoteProtocolError, match=r"^expected a session message, not "):
        parse_session_message_untrusted(payload + bytes(change) if longer else payload[:-change])


@pytest.mark.parametrize("kind", sorted(LENGTHS))
def test_only_these_lengths(kind: int) -> None:
    taken = set()
    for length in range(1, 1400):
        payload = bytes([kind, 2]) + bytes(length)
        try:
            parse_session_message_untrusted(payload[:length])
        except RemoteProtocolError:
            continue
        taken.add(length)
    assert taken == LENGTHS[kind]


@pytest.mark.parametrize("kind", [0, *range(5, 256)])
def test_unknown_types_are_refused(kind: int) -> None:
    for length in set.union(*LENGTHS.values()):
        with pytest.raises(RemoteProtocolError):
            parse_session_message_untrusted(bytes([kind, 2]) + bytes(length - 2))


@given(opens, octets)
def test_an_open_must_offer_chacha20(message: Open, ciphers: int) -> None:
    payload = bytearray(build_open(message))
    payload[1] = ciphers
    if ciphers & Cipher.CHACHA20_POLY1305:
        parsed = parse_session_message_untrusted(bytes(payload))
        assert isinstance(parsed, Open)
        assert parsed.ciphers == ciphers
    else:
        with pytest.raises(RemoteProtocolError, match=r"^expected an offer with ChaCha20-Poly1305"):
            parse_session_message_untrusted(bytes(payload))


@given(accepts, octets)
def test_an_accept_has_one_cipher(message: Accept, cipher: int) -> None:
    payload = bytearray(build_accept(message))
    payload[1] = cipher
    if cipher in (1, 2):
        parsed = parse_session_message_untrusted(bytes(payload))
        assert isinstance(parsed, Accept)
        assert parsed.cipher == cipher
    else:
        with pytest.raises(RemoteProtocolError, match=r"^expected one cipher"):
            parse_session_message_untrusted(bytes(payload))


@given(opens)
def test_only_the_cookie_is_left_out(message: Open) -> None:
    blank = build_open(message.without_cookie())
    payload = build_open(message)
    assert blank == payload[:34] + NO_COOKIE + payload[50:]


@given(octets, octets, st.binary(max_size=300), exactly(20), exactly(20), exactly(8), st.tuples(octets, octets, octets))
def test_associated_data_are_the_header_from_its_fourth_byte(
    kind: int, flags: int, payload: bytes, to: bytes, source: bytes, message_id: bytes, changing: tuple[int, int, int]
) -> None:
    hop_limit, attempt, detours = changing
    header = {"hop_limit": hop_limit, "attempt": attempt, "detours": detours}
    frame = build_frame(kind, to, source, message_id, payload, flags=flags, **header)
    data = associated_data(kind, flags, len(payload), to, source, message_id)
    assert data == frame[3:56] == frame[UNCHANGED]
    assert len(data) == HEADER_LENGTH - 3


def test_the_largest_message_fits_a_frame_with_everything() -> None:
    """And a data channel message of 65,536 bytes, with the length and type that a carrier may put before it."""
    assert MAX_SEALING == 8 + 8 + 112 + 16
    assert SEALED_HEAD.pack(b"\xff" * 8, 1) == b"\xff" * 8 + (1).to_bytes(8, "big")
    assert Limits().payload + MAX_SEALING + 64 < MAX_PAYLOAD
