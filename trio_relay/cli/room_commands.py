"""What is typed in a room, and what a program writes to ``room --jsonl``. Pure."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from ..exceptions import RemoteProtocolError
from ..wire.json import JSONValue, decode_untrusted, describe
from .commands import BadInput
from .reports import LINE_DEPTH

__all__ = ["HELP", "RoomCommand", "RoomVerb", "parse_json_line", "parse_line"]

RoomVerb: TypeAlias = Literal["send", "file", "who", "accept", "reject", "help", "quit"]

HELP: Final = """\
TEXT                   to everybody; a text that begins with a slash: //TEXT
/to NICK TEXT          to one member: its name, or the beginning of its id
/send FILE [to NICK]   a file; quotes around names with blanks
/accept [NUMBER]       take a file that is offered    /reject [NUMBER]
/who    /help    /quit"""


@dataclass(frozen=True, slots=True)
class RoomCommand:
    """One line of input.

    Attributes:
        value: what to send.
        path: of the file to send.
        to: names or ids of members; None: everybody.
        number: of an offer; None: the oldest one.
        info: what goes with a message.
        ref: what the reply repeats.
    """

    verb: RoomVerb
    value: Any = None
    path: str = ""
    to: tuple[str, ...] | None = None
    number: int | None = None
    info: JSONValue = None
    ref: JSONValue = None


def parse_line(line: str) -> RoomCommand | None:
    """Reads a line that somebody typed; None if there is nothing in it.

    Raises:
        BadInput: it begins with a slash, and is no command.
    """
    if not line.startswith("/") or line.startswith("//"):
        return RoomCommand("send", line.removeprefix("/")) if line.strip() else None
    word, _, rest = line.strip().partition(" ")
    rest = rest.strip()
    match word:
        case "/to":
            nick, text = _split(rest)
            if not text:
                raise BadInput("expected /to NICK TEXT")
            return RoomCommand("send", text, to=(nick,))
        case "/send":
            return _parse_send(rest)
        case "/accept" | "/reject":
            if rest and not (rest.isascii() and rest.isdigit()):
                raise BadInput(f"expected {word} or {word} NUMBER")
            verb: RoomVerb = "accept" if word == "/accept" else "reject"
            return RoomCommand(verb, number=int(rest) if rest else None)
        case "/who":
            return RoomCommand("who")
        case "/help":
            return RoomCommand("help")
        case "/quit":
            return RoomCommand("quit")
    raise BadInput(f"there is no command {word}; /help shows them")


def _split(text: str) -> tuple[str, str]:
    """A name, which may be in quotes, and the rest as it is."""
    if text[:1] in ("'", '"'):
        name, closing, rest = text[1:].partition(text[0])
        return (name, rest.strip()) if closing else ("", "")
    name, _, rest = text.partition(" ")
    return name, rest.strip()


def _parse_send(text: str) -> RoomCommand:
    lexer = shlex.shlex(text, posix=True)
    lexer.whitespace_split, lexer.commenters, lexer.escape = True, "", ""
    try:
        words = list(lexer)
    except ValueError:
        words = []
    match words:
        case [path]:
            return RoomCommand("file", path=path)
        case [path, "to", nick]:
            return RoomCommand("file", path=path, to=(nick,))
    raise BadInput("expected /send FILE or /send FILE to NICK, with quotes around names with blanks")


def parse_json_line(line: bytes) -> RoomCommand:
    """Reads one line, for example ``{"send": {"text": "hello", "to": ID}, "ref": ANY}``.

    Raises:
        BadInput: it is no command.
    """
    try:
        value = decode_untrusted(line, max_depth=LINE_DEPTH)
    except RemoteProtocolError as error:
        raise BadInput(str(error)) from error
    if not isinstance(value, dict):
        raise BadInput("expected a JSON object")
    ref = value.pop("ref", None)
    if len(value) != 1:
        raise BadInput("expected one of send, accept, reject, who, quit, and optionally ref", ref)
    [(verb, argument)] = value.items()
    match verb:
        case "send":
            return _parse_json_send(argument, ref)
        case "accept" | "reject":
            if isinstance(argument, bool) or not isinstance(argument, int):
                raise BadInput(f"expected the number of an offer, not {describe(argument)}", ref)
            return RoomCommand("accept" if verb == "accept" else "reject", number=argument, ref=ref)
        case "who" | "quit":
            return RoomCommand("who" if verb == "who" else "quit", ref=ref)
    raise BadInput(f"expected one of send, accept, reject, who, quit, not {describe(verb)}", ref)


def _parse_json_send(argument: JSONValue, ref: JSONValue) -> RoomCommand:
    if not isinstance(argument, dict) or len({"text", "data", "file"} & argument.keys()) != 1:
        raise BadInput('expected {"text": TEXT}, {"data": JSON} or {"file": PATH}', ref)
    to = argument.get("to")
    named = [to] if isinstance(to, str) else to if isinstance(to, list) else []
    if to is not None and not (named and all(isinstance(one, str) for one in named)):
        raise BadInput(f"expected to be an id, or a list of ids, not {describe(to)}", ref)
    ids = None if to is None else tuple(map(str, named))
    info = argument.get("info")
    for name in ("file", "text"):
        if name in argument and not isinstance(argument[name], str):
            raise BadInput(f"expected {name} to be text, not {describe(argument[name])}", ref)
    if "file" in argument:
        return RoomCommand("file", path=str(argument["file"]), to=ids, info=info, ref=ref)
    return RoomCommand("send", argument.get("text", argument.get("data")), to=ids, info=info, ref=ref)
