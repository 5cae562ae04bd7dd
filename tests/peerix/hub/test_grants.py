"""Access keys and signed tokens."""

from __future__ import annotations

import sys
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from trio_relay.peerix.hub.config import HubConfig, JwtConfig
from trio_relay.peerix.hub.grants import OPEN, Authority, Grant, Unauthorized

SECRET = "a secret of the hub, as long as it has to be"


def authority(**options: Any) -> Authority:
    return Authority(HubConfig(listen=None, **options))


def signed(claims: dict[str, Any], key: Any = SECRET, algorithm: str = "HS256") -> str:
    return jwt.encode(claims, key, algorithm)


def mercure(**more: Any) -> dict[str, Any]:
    return {"mercure": {"publish": ["a"], "subscribe": ["a", "b"]}, **more}


TOKENS = authority(jwt=JwtConfig(key=SECRET))


def test_an_open_hub_lets_everybody_in() -> None:
    assert authority().open
    assert authority().judge(None) == OPEN
    assert OPEN.may_publish(["a"])
    assert OPEN.may_subscribe(["*"])


def test_access_keys() -> None:
    keys = authority(access_keys=["one", "schlüssel"])
    assert not keys.open
    assert keys.judge("one") == OPEN
    assert keys.judge("schlüssel") == OPEN
    for wrong in (None, "", "two", "one ", "o" * 9000, "\ud800"):
        with pytest.raises(Unauthorized) as error:
            keys.judge(wrong)
        assert not wrong or wrong not in str(error.value)


def test_what_a_token_allows() -> None:
    until = int(time.time()) + 60
    grant = TOKENS.judge(signed(mercure(exp=until)))
    assert grant == Grant(frozenset("a"), frozenset("ab"), float(until))
    assert grant.may_publish(["a"])
    assert not grant.may_publish(["a", "b"])
    assert grant.may_subscribe(["a", "b"])
    assert not grant.may_subscribe(["*"])
    everything = TOKENS.judge(signed({"mercure": {"publish": ["x", "*"], "subscribe": ["*"]}}))
    assert everything == OPEN
    nothing = TOKENS.judge(signed({"mercure": {"publish": "*", "subscribe": [1, None]}}))
    assert not nothing.may_publish(["a"])
    assert not nothing.may_subscribe(["a"])


@pytest.mark.parametrize(
    "token",
    [
        signed(mercure(exp=int(time.time()) - 60)),
        signed(mercure(nbf=int(time.time()) + 3600)),
        signed(mercure(exp="soon")),
        signed(mercure(exp=10**400)),
        signed(mercure(aud="another service")),
        signed(mercure(), SECRET[::-1]),
        signed(mercure(), SECRET * 2, "HS512"),
        jwt.encode(mercure(), "", "none"),
        signed({}),
        signed({"mercure": ["a"]}),
        "",
        "a.b.c",
        "..",
        "é",
        signed(mercure(x="x" * 9000)),
    ],
)
def test_tokens_that_are_no_good(token: str) -> None:
    with pytest.raises(Unauthorized) as error:
        TOKENS.judge(token)
    assert not token or token not in str(error.value)


@pytest.mark.parametrize(
    ("algorithm", "private"),
    [
        ("RS256", rsa.generate_private_key(65537, 2048)),
        ("ES256", ec.generate_private_key(ec.SECP256R1())),
        ("EdDSA", ed25519.Ed25519PrivateKey.generate()),
    ],
)
def test_public_keys(algorithm: str, private: Any) -> None:
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    tokens = authority(jwt=JwtConfig(key=pem, algorithm=algorithm))
    assert tokens.judge(signed(mercure(), private, algorithm)).may_publish(["a"])
    # Signed with what everybody knows.
    forged = jwt.api_jws.PyJWS().encode(b"{}", b"x" * 32, "HS256")
    for token in (forged, signed(mercure())):
        with pytest.raises(Unauthorized):
            tokens.judge(token)


def test_keys_that_are_none() -> None:
    for algorithm, key in (("HS256", "short"), ("HS512", SECRET), ("RS256", SECRET), ("none", SECRET), ("HS256", "")):
        with pytest.raises(ValueError, match="expected") as error:
            JwtConfig(key=key, algorithm=algorithm)
        assert not key or key not in str(error.value)
    pem = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"
    with pytest.raises(ValueError, match="secret"):
        JwtConfig(key=pem)
    with pytest.raises(ValueError, match="expected a key for ES256"):
        authority(jwt=JwtConfig(key=pem, algorithm="ES256"))


def test_no_key_shows() -> None:
    config = HubConfig(listen=None, access_keys=["the-access-key"], jwt=JwtConfig(key=SECRET))
    for text in (repr(config), repr(Authority(config)), repr(config.jwt)):
        assert SECRET not in text
        assert "the-access-key" not in text


def test_without_pyjwt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jwt", None)
    assert authority(access_keys=["k"]).judge("k") == OPEN
    with pytest.raises(ImportError, match=r"trio-relay\[jwt\]"):
        authority(jwt=JwtConfig(key=SECRET))
