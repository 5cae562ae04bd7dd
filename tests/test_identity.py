from __future__ import annotations

import base64
import hashlib
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from trio_relay.identity import MAX_PASSPHRASE, Identity, PassphraseMissing, verify

SEED = bytes(range(32))
KEY = ed25519.Ed25519PrivateKey.from_private_bytes(SEED)

PrivateKey = (
    ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
    | x25519.X25519PrivateKey
    | ec.EllipticCurvePrivateKey
    | rsa.RSAPrivateKey
)


def pem(key: PrivateKey = KEY, encryption: KeySerializationEncryption | None = None) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def write(path: Path, data: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


def test_the_id_is_the_hash_of_the_key() -> None:
    # RFC 8032 section 7.1, test 1.
    identity = Identity.from_seed(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    public_key = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    assert identity.public_key == public_key
    assert identity.id == hashlib.sha256(public_key).digest()[:20]
    assert identity.sign(b"").hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )


def test_generated_identities_differ() -> None:
    assert Identity.generate().id != Identity.generate().id


def test_the_private_key_is_not_shown() -> None:
    identity = Identity.from_seed(SEED)
    assert repr(identity) == f"<Identity {identity.id.hex()}>"
    assert not hasattr(identity, "__dict__")


@given(st.binary(max_size=100), st.data())
def test_signatures(data: bytes, draw: st.DataObject) -> None:
    identity, other = Identity.from_seed(SEED), Identity.from_seed(bytes(32))
    signature = identity.sign(data)
    assert verify(identity.public_key, signature, data)
    assert not verify(other.public_key, signature, data)
    assert not verify(identity.public_key, signature, data + b"\0")
    mutated = bytearray(signature)
    mutated[draw.draw(st.integers(0, 63))] ^= draw.draw(st.integers(1, 255))
    assert not verify(identity.public_key, bytes(mutated), data)


@given(st.binary(max_size=40), st.binary(max_size=70), st.binary(max_size=20))
def test_verify_takes_anything(public_key: bytes, signature: bytes, data: bytes) -> None:
    assert verify(public_key, signature, data) is False


# Files


def test_save_and_load(tmp_path: Path) -> None:
    identity, path = Identity.generate(), tmp_path / "key.pem"
    identity.save(path)
    loaded = Identity.load(path)
    assert (loaded.id, loaded.public_key) == (identity.id, identity.public_key)
    assert verify(identity.public_key, loaded.sign(b"x"), b"x")
    assert [file.name for file in tmp_path.iterdir()] == ["key.pem"]


def test_a_saved_file_is_for_its_owner_only(tmp_path: Path) -> None:
    path = write(tmp_path / "key.pem", b"old", 0o644)
    before = os.umask(0)
    try:
        Identity.from_seed(SEED).save(str(path))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == pem()


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "no space left on device")

    path = tmp_path / "key.pem"
    Identity.from_seed(SEED).save(path)
    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OSError, match="no space left"):
        Identity.generate().save(path)
    monkeypatch.undo()
    assert path.read_bytes() == pem()
    assert [file.name for file in tmp_path.iterdir()] == ["key.pem"]


def test_save_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "missing" / "key.pem", tmp_path / "folder"):
        with pytest.raises(OSError, match=r"folder|missing"):
            Identity.generate().save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


def openssl_form() -> bytes:
    """What `openssl genpkey -algorithm ed25519` prints: PKCS #8 with the seed as the whole of the private key."""
    return pem()


def run_openssl() -> bytes:
    command = ["openssl", "genpkey", "-algorithm", "ed25519"]
    try:
        return subprocess.run(command, capture_output=True, timeout=30, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return openssl_form()


@pytest.mark.parametrize("make", [openssl_form, run_openssl])
def test_keys_of_openssl_are_read(tmp_path: Path, make: Callable[[], bytes]) -> None:
    data = make()
    assert data.startswith(b"-----BEGIN PRIVATE KEY-----\n")
    path = write(tmp_path / "key.pem", data)
    identity = Identity.load(path)
    identity.save(tmp_path / "copy.pem")
    assert (tmp_path / "copy.pem").read_bytes() == data


def test_text_around_the_key_is_ignored(tmp_path: Path) -> None:
    path = write(tmp_path / "key.pem", b"a comment\n" + pem() + b"\n")
    assert Identity.load(path).id == Identity.from_seed(SEED).id


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601, 0o644])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "key.pem", pem(), mode)
    with pytest.raises(ValueError, match=r"key.pem: others may read this private key; make it mode 0600$"):
        Identity.load(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage",
        b"\x00\xff" * 100,
        pem()[:60],
        pem().replace(b"PRIVATE", b"PUBLIC"),
        pem(encryption=BestAvailableEncryption(b"secret"))[:90],
        KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        b"\n" * 65536 + pem(),
    ],
    ids=["empty", "text", "binary", "cut", "label", "encrypted and cut", "public", "der", "huge"],
)
def test_what_holds_no_private_key_is_refused(tmp_path: Path, data: bytes) -> None:
    path = write(tmp_path / "key.pem", data)
    with pytest.raises(ValueError, match=r"key.pem: expected an Ed25519 private key in PEM form$"):
        Identity.load(path)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: rsa.generate_private_key(65537, 2048), "RSAPrivateKey"),
        (lambda: ec.derive_private_key(5, ec.SECP256R1()), "ECPrivateKey|EllipticCurvePrivateKey"),
        (lambda: x25519.X25519PrivateKey.from_private_bytes(SEED), "X25519PrivateKey"),
        (lambda: ed448.Ed448PrivateKey.from_private_bytes(bytes(57)), "Ed448PrivateKey"),
    ],
    ids=["rsa", "ec", "x25519", "ed448"],
)
def test_keys_of_other_kinds_are_refused(tmp_path: Path, make: Callable[[], PrivateKey], name: str) -> None:
    path = write(tmp_path / "key.pem", pem(make()))
    with pytest.raises(ValueError, match=rf"key.pem: expected an Ed25519 private key, not ({name})$"):
        Identity.load(path)


@pytest.mark.parametrize("name", ["missing.pem", "."])
def test_what_can_not_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError, match=r"No such file|Is a directory"):
        Identity.load(tmp_path / name)


def test_a_device_that_never_ends_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^/dev/zero: "):
        Identity.load("/dev/zero")


# Passphrases

PASSPHRASE = "open sesame"

FROM_OPENSSL = b"""\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAgJf+N/m0WUkwICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEED5iVAQGAVFZykonG395Y00EQK2z
kvKAsptGjjNOav8xGm9mzR1sQe8vts64rABVUFU69L0c/9NQibGsXlPghRFwWKpp
kExzyp/JjtU9CFRy88c=
-----END ENCRYPTED PRIVATE KEY-----
"""
"""The key of `SEED`, by `openssl pkcs8 -topk8`."""
FROM_OPENSSL_SCRYPT = b"""\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGTME8GCSqGSIb3DQEFDTBCMCEGCSsGAQQB2kcECzAUBAivS0l9w1ds/AICQAAC
AQgCAQEwHQYJYIZIAWUDBAEqBBAFVQofG8Uj+NZeWBt1XUqKBEAYW7Sv/S9er+vR
wF04reRvWWCc8bxqfkPWZn05/WCDYn2BntFPuF+zRG7rZDOigc5+w0wTJg7fAFQ/
VMdvyvgF
-----END ENCRYPTED PRIVATE KEY-----
"""
"""The same with ``-scrypt``."""
ALMOST = "181"
"""A wrong passphrase that yields the right padding for `FROM_OPENSSL`, and no key."""


def chain(error: BaseException) -> list[BaseException]:
    """The error, and every one that it was raised from or meanwhile."""
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        last = waiting.pop()
        if last is not None and last not in found:
            found.append(last)
            waiting += [last.__cause__, last.__context__]
    return found


def shown(error: BaseException) -> str:
    """Everything that the chain of an error can show."""
    return "\n".join(f"{one} {one!r} {one.args} {vars(one)} {one.__reduce__()!r}" for one in chain(error))


@pytest.mark.parametrize("passphrase", [PASSPHRASE, b"\xff\x00\n", "grüße \udcff", "x" * MAX_PASSPHRASE])
def test_save_and_load_with_a_passphrase(tmp_path: Path, passphrase: str | bytes) -> None:
    identity, path = Identity.generate(), tmp_path / "key.pem"
    identity.save(path, passphrase)
    assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    loaded = Identity.load(path, passphrase)
    assert (loaded.id, loaded.public_key) == (identity.id, identity.public_key)
    assert verify(identity.public_key, loaded.sign(b"x"), b"x")


def test_a_text_stands_for_its_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    Identity.from_seed(SEED).save(path, "grüße")
    assert Identity.load(path, "grüße".encode()).id == Identity.from_seed(SEED).id


def test_the_file_says_how_it_is_encrypted(tmp_path: Path) -> None:
    """As the docstring of `save` does: PBES2, PBKDF2 with HMAC-SHA-256 and 2048 rounds, AES-256-CBC (RFC 8018)."""
    path = tmp_path / "key.pem"
    Identity.from_seed(SEED).save(path, PASSPHRASE)
    body = b"".join(path.read_bytes().splitlines()[1:-1])
    der = base64.b64decode(body)
    pbes2, pbkdf2 = bytes.fromhex("2a864886f70d01050d"), bytes.fromhex("2a864886f70d01050c")
    sha256, aes, rounds = bytes.fromhex("2a864886f70d0209"), bytes.fromhex("60864801650304012a"), b"\x02\x02\x08\x00"
    assert [name for name in (pbes2, pbkdf2, sha256, aes, rounds) if name not in der] == []


@pytest.mark.parametrize("data", [FROM_OPENSSL, FROM_OPENSSL_SCRYPT], ids=["pbkdf2", "scrypt"])
def test_encrypted_keys_of_openssl_are_read(tmp_path: Path, data: bytes) -> None:
    path = write(tmp_path / "key.pem", data)
    assert Identity.load(path, PASSPHRASE).id == Identity.from_seed(SEED).id


@pytest.mark.parametrize("passphrase", [None, "", b""])
def test_an_encrypted_key_needs_a_passphrase(tmp_path: Path, passphrase: str | bytes | None) -> None:
    path = write(tmp_path / "key.pem", FROM_OPENSSL)
    with pytest.raises(
        PassphraseMissing, match=r"key.pem: expected a passphrase for this encrypted private key, and got none$"
    ):
        Identity.load(path, passphrase)


@pytest.mark.parametrize(
    ("passphrase", "data"),
    [
        ("hunter2", FROM_OPENSSL),
        (PASSPHRASE.encode() + b"\n", FROM_OPENSSL),
        (ALMOST, FROM_OPENSSL),
        ("x" * (MAX_PASSPHRASE + 1), FROM_OPENSSL),
        ("hunter2", FROM_OPENSSL_SCRYPT),
        (PASSPHRASE, FROM_OPENSSL.replace(b"kvKAsptGjjNO", b"kvKAsptGjjNN")),
    ],
    ids=["wrong", "line end", "padding fits", "too long", "scrypt", "damaged"],
)
def test_a_wrong_passphrase(tmp_path: Path, passphrase: str | bytes, data: bytes) -> None:
    path = write(tmp_path / "key.pem", data)
    with pytest.raises(
        ValueError,
        match=r"key.pem: expected the passphrase of this encrypted private key, and got another, or the file is dam",
    ) as caught:
        Identity.load(path, passphrase)
    text = passphrase if isinstance(passphrase, str) else passphrase.decode()
    assert text not in shown(caught.value)
    assert not isinstance(caught.value, PassphraseMissing)


def test_a_key_that_is_not_encrypted_opens_with_any_passphrase(tmp_path: Path) -> None:
    path = write(tmp_path / "key.pem", pem())
    assert Identity.load(path, "not needed").id == Identity.from_seed(SEED).id


def test_an_encrypted_key_of_another_kind(tmp_path: Path) -> None:
    other = x25519.X25519PrivateKey.from_private_bytes(SEED)
    path = write(tmp_path / "key.pem", pem(other, BestAvailableEncryption(b"hunter2")))
    with pytest.raises(ValueError, match=r"key.pem: expected an Ed25519 private key, not X25519PrivateKey$"):
        Identity.load(path, "hunter2")


@pytest.mark.parametrize(
    ("passphrase", "message"),
    [
        ("", "expected a passphrase of 1 to 1023 bytes, not 0"),
        (b"", "expected a passphrase of 1 to 1023 bytes, not 0"),
        ("hunter2" * 200, "expected a passphrase of 1 to 1023 bytes, not 1400"),
        ("hunter2\ud800", "expected a passphrase that UTF-8 can express"),
    ],
)
def test_a_passphrase_that_can_not_be_used(tmp_path: Path, passphrase: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$") as caught:
        Identity.from_seed(SEED).save(tmp_path / "key.pem", passphrase)
    assert "hunter2" not in shown(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_passphrase_that_is_not_one(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"^expected a passphrase as str or bytes, not int$"):
        Identity.from_seed(SEED).save(tmp_path / "key.pem", 5)  # type: ignore[arg-type]


def test_no_error_of_a_key_file_shows_the_key(tmp_path: Path) -> None:
    """A file that almost is one, and a folder that can't be written."""
    secret = pem().splitlines()[1].decode()
    path = write(tmp_path / "key.pem", pem().replace(b"-----END", b"----END"))
    with pytest.raises(ValueError, match="expected an Ed25519 private key in PEM form") as unread:
        Identity.load(path)
    with pytest.raises(OSError, match="missing") as unwritten:
        Identity.from_seed(SEED).save(tmp_path / "missing" / "key.pem", "hunter2")
    for error in (unread.value, unwritten.value):
        assert secret not in shown(error)
        assert "hunter2" not in shown(error)
        assert SEED.hex() not in shown(error)
