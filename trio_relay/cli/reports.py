"""What `trio-relay node` says: lines for people, or one JSON object a line for programs. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Final, Protocol, assert_never

from ..exceptions import DeliveryError
from ..node.node import Node
from ..node.values import Event, EventsLost, LinkChanged, LinkDown, LinkInfo, LinkUp, Message
from ..wire.json import MAX_DEPTH, JSONValue, encode

__all__ = ["LINE_DEPTH", "JsonReport", "ReadableReport", "Report", "describe_failure", "describe_link", "encode_line"]

LINE_DEPTH: Final = MAX_DEPTH + 2
"""Nesting of a line: any JSON value that can be sent fits into a command and into a report."""


class Report(Protocol):
    """Lines about a node, without the last one's end."""

    def started(self, node: Node) -> bytes:
        """The first lines."""
        ...

    def event(self, event: Event) -> bytes:
        """A link that came or went."""
        ...

    def message(self, message: Message) -> bytes:
        """A message that arrived."""
        ...


class ReadableReport:
    """For people. What strangers sent is shown by `repr`: it can't control the terminal.

    Args:
        encoding: of the terminal; what it lacks is written as an escape.
    """

    def __init__(self, encoding: str) -> None:
        self._encoding: Final = encoding

    def _line(self, text: str) -> bytes:
        return text.encode(self._encoding, "backslashreplace")

    def started(self, node: Node) -> bytes:
        """The id and where it listens."""
        return self._line("\n".join([f"id {node.id.hex()}", *(f"listening on {url}" for url in node.urls)]))

    def event(self, event: Event) -> bytes:
        """One line."""
        match event:
            case LinkUp() | LinkChanged():
                what = "link up   " if isinstance(event, LinkUp) else "link now  "
                return self._line(f"{what} {event.id.hex()} ({', '.join(_details(event))})")
            case LinkDown():
                return self._line(f"link down  {event.id.hex()}: {event.reason}")
            case EventsLost():
                return self._line(f"{event.count} events lost")
            case _:
                assert_never(event)

    def message(self, message: Message) -> bytes:
        """One line."""
        proof = "" if message.proven else " (not proven)"
        return self._line(f"message from {message.sender.hex()}{proof}: {message.data!r}")


class JsonReport:
    """For programs; docs/cli.md has the table of lines."""

    def started(self, node: Node) -> bytes:
        """``listening``."""
        return encode_line({"event": "listening", "id": node.id.hex(), "urls": list(node.urls)})

    def event(self, event: Event) -> bytes:
        """``link_up``, ``link_changed``, ``link_down``, ``events_lost``."""
        match event:
            case LinkUp() | LinkChanged():
                name = "link_up" if isinstance(event, LinkUp) else "link_changed"
                return encode_line({"event": name, "id": event.id.hex(), **_link_members(event)})
            case LinkDown():
                return encode_line({"event": "link_down", "id": event.id.hex(), "reason": event.reason})
            case EventsLost():
                return encode_line({"event": "events_lost", "count": event.count})
            case _:
                assert_never(event)

    def message(self, message: Message) -> bytes:
        """``message``, with ``data`` or ``bytes``."""
        line: dict[str, JSONValue] = {"event": "message", "from": message.sender.hex(), "proven": message.proven}
        if isinstance(message.data, bytes):
            line["bytes"] = base64.b64encode(message.data).decode()
        else:
            line["data"] = message.data
        return encode_line(line)


def _details(event: LinkUp | LinkChanged) -> list[str]:
    """What people are told of a link."""
    details: list[str] = [event.transport]
    if event.candidates is not None:
        details.append(" to ".join(event.candidates))
    if event.rtt is not None:
        details.append(f"{event.rtt * 1000:.1f} ms")
    return details


def _link_members(link: LinkUp | LinkChanged | LinkInfo) -> dict[str, JSONValue]:
    """What programs are told of a link: how it is made, how far it is, and of WebRTC the types of both addresses."""
    members: dict[str, JSONValue] = {"transport": link.transport}
    members["rtt_ms"] = None if link.rtt is None else round(link.rtt * 1000, 3)
    if link.candidates is not None:
        members["candidates"] = dict(zip(("local", "remote"), link.candidates, strict=True))
    return members


def describe_link(info: LinkInfo) -> dict[str, JSONValue]:
    """One link in the statistics."""
    told: dict[str, JSONValue] = {"id": info.id.hex(), "role": info.role, "dialled": info.dialled}
    return {**told, **_link_members(info), "remote": info.remote, "backlog": info.backlog}


def describe_failure(error: Exception) -> dict[str, JSONValue]:
    """The reply to a command that failed, but for its ``ref``; ``outcome`` says what became of a message."""
    reply: dict[str, JSONValue] = {"event": "error", "error": type(error).__name__, "message": str(error)}
    if isinstance(error, DeliveryError):
        reply["outcome"] = error.outcome
    return reply


def encode_line(line: Mapping[str, JSONValue]) -> bytes:
    """One object as compact JSON; infinity, which a stranger can send as ``1e400``, becomes null."""
    return encode(dict(line), max_depth=LINE_DEPTH, non_finite_as_null=True)
