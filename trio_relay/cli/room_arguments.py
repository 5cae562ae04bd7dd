"""The arguments of ``trio-relay room``, checked one by one. Nothing of Peerix is loaded for them."""

from __future__ import annotations

import argparse
from typing import Final

from ..wire.urls import parse_ws_url
from .checks import checked, count, seconds

__all__ = ["FAMILIES", "ROOM", "ROOM_EPILOG", "SECRET", "add_room", "family_of"]

SECRET: Final = "TRIO_RELAY_ROOM_SECRET"
"""Environment variable with what a broker wants: others can read a command line."""

ROOM: Final = """\
Enters a room, to talk and to exchange files with all who are in it: on terminals, in
Python programs, and in web pages with Peerix. What is said goes from member to member.
"""
ROOM_EPILOG: Final = """\
One of --driver and --bootstrap says how members find each other; all need the same one:
  --bootstrap ws://HOST:PORT                   relays of trio-relay; no broker
  --driver nats://HOST:PORT                    NATS; tls:// with TLS; nats+ws://, nats+wss://
  --driver mqtt://HOST:PORT                    MQTT 5; mqtts:// with TLS; mqtt+ws://, mqtt+wss://
  --driver https://HOST/.well-known/mercure    Mercure (server-sent events); or http://
  --driver socket.io+https://HOST/PATH         Socket.IO; or socket.io+http://

examples:
  trio-relay room friends --bootstrap ws://relay.example.org:9001 --name alice
  trio-relay room friends --driver nats://broker.example.org --send film.mp4
  trio-relay room friends --driver nats://broker.example.org --receive --download-dir .

Lines are sent to all. /help shows the commands, among them /send FILE and /accept.
With --jsonl, standard input takes one command a line, and each gets one reply:
  {"send": {"text": TEXT, "to": ID}, "ref": ANY}   or "data": JSON, or "file": PATH; without "to": all
  {"accept": NUMBER}  {"reject": NUMBER}  {"who": true}  {"quit": true}
"""

FAMILIES: Final[dict[str, tuple[str, ...]]] = {
    "nats": ("nats", "tls", "nats+ws", "nats+wss"),
    "mqtt": ("mqtt", "mqtts", "mqtt+ws", "mqtt+wss"),
    "mercure": ("http", "https"),
    "socket.io": ("socket.io+http", "socket.io+https"),
}


def family_of(url: str) -> str:
    """Which kind of driver a URL is for.

    Raises:
        ValueError: for none.
    """
    scheme, separator, rest = url.partition("://")
    for family, schemes in FAMILIES.items():
        if separator and rest and scheme.lower() in schemes:
            return family
    known = ", ".join(f"{scheme}://" for schemes in FAMILIES.values() for scheme in schemes)
    hint = "; peers of the overlay are for --bootstrap" if scheme in ("ws", "wss") else ""
    raise ValueError(f"expected a URL that begins with one of {known}{hint}")


def add_room(parser: argparse.ArgumentParser) -> None:
    """Gives the parser of the command its options, but for those of WebRTC and TLS that other commands have, too."""
    parser.add_argument("room", metavar="NAME", help="of the room: whoever knows it can come in")
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument(
        "--driver", metavar="URL", type=checked(family_of), help="the broker by which members find each other"
    )
    way.add_argument(
        "--bootstrap",
        metavar="URL",
        action="append",
        type=checked(parse_ws_url),
        help="or peers of the overlay, repeatable",
    )
    parser.add_argument("--prefix", metavar="TEXT", help="before every topic at the broker, the same at all members")
    parser.add_argument("--user", metavar="NAME", help="who you are for the broker")
    parser.add_argument(
        "--secret-file",
        metavar="FILE",
        help="its first line is the password, token or key for the broker; without this option it is read from the "
        f"environment variable {SECRET}, if there is one",
    )
    parser.add_argument("--name", metavar="NICK", help="what you are called; default: the others see an id")
    parser.add_argument("--channel", metavar="LABEL", default="default", help="data channel; default: %(default)s")
    parser.add_argument("--relay-only", action="store_true", help="connect by the TURN server and in no other way")
    parser.add_argument("--no-encryption", action="store_true", help="do not seal packets; the same at all members")
    parser.add_argument(
        "--no-namespace-hashing", action="store_true", help="show the room's name to the broker; the same at all"
    )
    _add_files(parser)
    parser.add_argument("--jsonl", action="store_true", help="JSON lines on standard input and output, see below")
    parser.add_argument("--verbose", action="store_true", help="log to standard error, packets that were dropped too")


def _add_files(parser: argparse.ArgumentParser) -> None:
    once = parser.add_mutually_exclusive_group()
    once.add_argument("--send", metavar="FILE", action="append", help="send it to all and exit, repeatable")
    once.add_argument("--receive", action="store_true", help="take one message or file and exit")
    parser.add_argument(
        "--wait-members",
        metavar="N",
        type=count,
        help="begin when so many are there; default: 1 with --send and where input is no terminal, else 0",
    )
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=seconds, help="for them, and for --receive to begin; default: no limit"
    )
    parser.add_argument(
        "--download-dir", metavar="DIR", default=".", help="where files that you accept are written; default: here"
    )
    parser.add_argument("--accept-all", action="store_true", help="accept every file without being asked")
    parser.add_argument(
        "--max-size", metavar="MB", type=count, default=1024, help="accept no larger file; default: %(default)s"
    )
