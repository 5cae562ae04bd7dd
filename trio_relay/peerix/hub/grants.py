"""What a client may do, by an access key or a signed token."""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from .config import HubConfig, JwtConfig
from .topics import EVERY

__all__ = ["OPEN", "Authority", "Grant", "Unauthorized"]

_MAX_TOKEN: Final = 8192
_MAX_SELECTORS: Final = 1024
_CLAIM: Final = "mercure"
_LEEWAY: Final = 5.0
"""Seconds by which the clock of who signs tokens may differ from ours."""


class Unauthorized(Exception):
    """A client has nothing to show, or what it shows is not good (any more). The message never has it in it."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What somebody may do.

    Attributes:
        publish: topics; None: all.
        subscribe: topics; None: all.
        until: Unix time in seconds.
    """

    publish: frozenset[str] | None = None
    subscribe: frozenset[str] | None = None
    until: float = math.inf

    def may_publish(self, topics: Iterable[str]) -> bool:
        """Whether something may be said under all of these topics."""
        return self.publish is None or self.publish.issuperset(topics)

    def may_subscribe(self, topics: Iterable[str]) -> bool:
        """Whether all of these topics may be listened to."""
        return self.subscribe is None or self.subscribe.issuperset(topics)


OPEN: Final = Grant()
"""Of everybody, where there is no authorization."""


class Authority:
    """Decides what the bearers of keys and tokens may do.

    Attributes:
        open: whether there is no authorization.

    Raises:
        ImportError: tokens are wanted, and PyJWT is not installed.
        ValueError: their key is none.
    """

    def __init__(self, config: HubConfig) -> None:
        self.open: Final = not config.access_keys and config.jwt is None
        # What is compared has one length, whatever a key's is.
        self._keys: Final = [_digest(key) for key in config.access_keys]
        self._tokens: Final = _Tokens(config.jwt) if config.jwt is not None else None

    def __repr__(self) -> str:
        return f"<Authority, {'open' if self.open else 'closed'}>"

    def judge(self, token: str | None) -> Grant:
        """What the bearer of a key or token may do.

        Raises:
            Unauthorized: nothing.
        """
        if self.open:
            return OPEN
        if not token:
            raise Unauthorized("expected an access key or a token")
        if len(token) > _MAX_TOKEN:
            raise Unauthorized("expected a shorter token")
        shown = _digest(token)
        if sum([hmac.compare_digest(shown, key) for key in self._keys]):
            return OPEN
        if self._tokens is None:
            raise Unauthorized("expected another access key")
        return self._tokens.read_untrusted(token)


class _Tokens:
    """Reads JSON Web Tokens."""

    def __init__(self, config: JwtConfig) -> None:
        try:
            import jwt
        except ImportError as error:
            raise ImportError("expected PyJWT beside jwt: pip install 'trio-relay[jwt]'") from error
        self._jwt: Final = jwt
        self._algorithm: Final = config.algorithm
        try:
            self._key: Final = jwt.get_algorithm_by_name(config.algorithm).prepare_key(config.key)
        except (ValueError, TypeError, NotImplementedError, jwt.InvalidKeyError) as error:
            # Not from the error: it may show the key.
            raise ValueError(f"expected a key for {config.algorithm}: {type(error).__name__}") from None

    def read_untrusted(self, token: str) -> Grant:
        """What a token says that its bearer may do.

        Raises:
            Unauthorized: it is not signed with the key, not valid now, or says nothing of this.
        """
        try:
            claims = self._jwt.decode(token, self._key, algorithms=[self._algorithm], leeway=_LEEWAY)
            until = float(claims.get("exp", math.inf))
        except self._jwt.ExpiredSignatureError:
            raise Unauthorized("expected a token that has not expired") from None
        except (self._jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            raise Unauthorized("expected a token with a good signature that is valid now") from None
        said = claims.get(_CLAIM)
        if not isinstance(said, dict):
            raise Unauthorized(f"expected a token with the claim {_CLAIM}")
        return Grant(_selectors(said.get("publish")), _selectors(said.get("subscribe")), until)


def _selectors(said: Any) -> frozenset[str] | None:
    """The topics in a claim, none if there is no list; None: all."""
    if not isinstance(said, list) or len(said) > _MAX_SELECTORS:
        return frozenset()
    topics = frozenset(topic for topic in said if isinstance(topic, str))
    return None if EVERY in topics else topics


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
