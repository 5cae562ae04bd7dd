"""Who a peer is, ``channel:id``, and where it says so: the target of its WebSocket request. Pure.

A peer connects to ``/{channel}/{id}?key=ACCESSKEY``. The rules are those of `@sumicom/ws-relay` 0.1.2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple
from urllib.parse import unquote_to_bytes

__all__ = [
    "MAX_CHANNEL_NAME",
    "MAX_ID",
    "Channel",
    "ChannelTable",
    "PeerAddress",
    "default_parse_id",
    "parse_query_key",
    "percent_decoded",
    "query_flag",
    "split_address",
]

MAX_CHANNEL_NAME: Final = 128
"""Characters in the name of a channel."""

MAX_ID: Final = 256
"""Characters in an id, whatever a `Channel.parse_id` returns."""

_DEFAULT_ID: Final = re.compile(r"[A-Za-z0-9_-]{8,64}")
# Control characters, line separators (logs are lines) and halves of surrogate pairs (not UTF-8).
_UNFIT: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_FLAG_VALUES: Final = frozenset({"", "1", "true"})


class PeerAddress(NamedTuple):
    """A channel's name and the id of a peer on it."""

    channel: str
    id: str

    @property
    def text(self) -> str:
        """``channel:id``, as messages carry it."""
        return f"{self.channel}:{self.id}"


def split_address(text: str) -> PeerAddress | None:
    """Channel and id of ``channel:id``, split at the first colon: ids may contain colons. None: there is no colon."""
    channel, colon, peer_id = text.partition(":")
    return PeerAddress(channel, peer_id) if colon else None


def default_parse_id(raw: str) -> str | None:
    """The id itself if it is 8 to 64 characters of ``A-Z a-z 0-9 _ -``, else None."""
    return raw if _DEFAULT_ID.fullmatch(raw) else None


def percent_decoded(parse_id: Callable[[str], str | None]) -> Callable[[str], str | None]:
    """A `Channel.parse_id` that decodes ``%XX`` first and gives `parse_id` the id as the client knows it.

    What is not UTF-8 after decoding is no id.
    """

    def parse(raw: str) -> str | None:
        try:
            decoded = unquote_to_bytes(raw).decode()
        except UnicodeError:
            return None
        return parse_id(decoded)

    return parse


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One channel of the relay server.

    Attributes:
        name: whole segments of a path, ``/`` between them; at most `MAX_CHANNEL_NAME` characters, none of ``:?#``.
        parse_id: gets the last segment of the request's path as it was sent, *not* percent-decoded, and returns the
            peer's id, or None if it is none of this channel. It must decode what a client has to encode, for
            example with `percent_decoded`: an id that stays encoded is not the one that the client writes into
            ``from``, and all its messages would be refused. What it raises goes to the caller of `parse_target`.
        on_duplicate: whether a new connection with an id in use takes its place or is refused.
        watchable_by: the names of the channels whose peers may watch the peers of this one; None: all.

    Raises:
        ValueError: a field is not of that form.
    """

    name: str
    parse_id: Callable[[str], str | None] = default_parse_id
    on_duplicate: Literal["replace", "reject"] = "replace"
    watchable_by: Collection[str] | None = None

    def __post_init__(self) -> None:
        _require_name(self.name)
        if not callable(self.parse_id):
            raise ValueError(f"expected a function as parse_id of channel {self.name!r}, not {self.parse_id!r}")
        if self.on_duplicate not in ("replace", "reject"):
            raise ValueError(
                f"expected on_duplicate of channel {self.name!r} to be 'replace' or 'reject', not {self.on_duplicate!r}"
            )
        if self.watchable_by is not None:
            if isinstance(self.watchable_by, str):
                raise ValueError(f"expected channel names as watchable_by of channel {self.name!r}, not one string")
            object.__setattr__(self, "watchable_by", frozenset(self.watchable_by))


class ChannelTable:
    """The channels of a server, and which of them a request is for.

    Raises:
        ValueError: there is no channel, two have one name, or a `watchable_by` names none of them.
    """

    def __init__(self, channels: Iterable[Channel]) -> None:
        self._channels: Final[dict[str, Channel]] = {}
        for channel in channels:
            if channel.name in self._channels:
                raise ValueError(f"expected channels of different names, not two called {channel.name!r}")
            self._channels[channel.name] = channel
        if not self._channels:
            raise ValueError("expected at least one channel")
        for channel in self:
            for name in sorted(channel.watchable_by or ()):
                if name not in self._channels:
                    raise ValueError(f"expected watchable_by of {channel.name!r} to name channels, not {name!r}")

    def parse_target(self, target: str) -> PeerAddress | None:
        """The address that a request target asks for; None if no channel takes it.

        Args:
            target: path, with or without query and fragment, as sent.

        The original tries its channels in order of decreasing name length. As an id has no slash, what stands before
        the last slash is the one name that can fit. What `parse_id` returns counts as None if it is no id: not a
        string, empty, longer than `MAX_ID`, or with control characters.
        """
        before, _, raw = target.partition("?")[0].partition("#")[0].rpartition("/")
        channel = self._channels.get(before[1:])
        if channel is None or before[0] != "/" or not raw:
            return None
        peer_id: object = channel.parse_id(raw)
        if isinstance(peer_id, str) and 0 < len(peer_id) <= MAX_ID and _UNFIT.search(peer_id) is None:
            return PeerAddress(channel.name, peer_id)
        return None

    def get(self, name: str) -> Channel | None:
        """The channel of that name, or None."""
        return self._channels.get(name)

    def __iter__(self) -> Iterator[Channel]:
        return iter(self._channels.values())

    def __len__(self) -> int:
        return len(self._channels)


def parse_query_key(query: str) -> str | None:
    """The access key in a request: the first ``key`` parameter, form-decoded as by `URLSearchParams`.

    Args:
        query: what follows the target's first question mark; a fragment behind it is no part of it.

    Returns:
        None if there is no such parameter. ``+`` is a space, a ``%`` that begins no escape is itself, and what
        is not UTF-8 becomes U+FFFD.
    """
    return _first_value(query, "key")


def query_flag(query: str, name: str) -> bool:
    """Whether a query asks for something: its first `name` parameter is there and empty, ``1`` or ``true``."""
    return _first_value(query, name) in _FLAG_VALUES


def _first_value(query: str, wanted: str) -> str | None:
    for parameter in query.partition("#")[0].split("&"):
        name, _, value = parameter.partition("=")
        if _form_decode(name) == wanted:
            return _form_decode(value)
    return None


def _form_decode(text: str) -> str:
    if "%" not in text and "+" not in text:
        return text
    return unquote_to_bytes(text.replace("+", " ").encode("utf-8", "surrogatepass")).decode("utf-8", "replace")


def _require_name(name: str) -> None:
    """Raises ValueError for a name that no request could ask for, or that addresses could not carry."""
    if not isinstance(name, str) or not 0 < len(name) <= MAX_CHANNEL_NAME:
        raise ValueError(f"expected a channel name of 1 to {MAX_CHANNEL_NAME} characters, not {str(name)[:80]!r}")
    if any(mark in name for mark in ":?#") or _UNFIT.search(name) is not None:
        raise ValueError(f"expected a channel name without ':', '?', '#' and control characters, not {name!r}")
    if any(segment in ("", ".", "..") for segment in name.split("/")):
        raise ValueError(
            f"expected a channel name of segments like 'a' or 'a/b', none of them '.' or '..', not {name!r}"
        )
