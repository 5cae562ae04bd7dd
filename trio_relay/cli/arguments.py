"""The arguments of each command, checked one by one; what needs a file or a socket is checked later."""

from __future__ import annotations

import argparse
from importlib.metadata import version
from typing import Final, NoReturn

from ..wire.addresses import is_dialable, parse_listen
from ..wire.ids import NodeId, parse_node_id
from ..wire.urls import parse_ws_url
from .bounds import parse_limit
from .checks import checked, count, seconds
from .options import UsageError
from .room_arguments import ROOM, ROOM_EPILOG, add_room
from .serve_hub_arguments import add_hub
from .webrtc import CREDENTIAL, parse_stun, parse_turn

__all__ = ["LISTEN_NOWHERE", "check_advertised", "make_parser"]

LISTEN_NOWHERE: Final = "none"
"""For ``--listen``: a peer without a listener."""

_EPILOG: Final = """\
Exit codes: 0 done, 1 failed while running, 2 could not start, 130 interrupted.
'trio-relay COMMAND --help' shows the options of a command. To see messages travel: trio-relay demo
"""

_NODE: Final = """\
Runs a peer until Ctrl-C or SIGTERM, which says goodbye to its neighbours: prints its
links, and the messages that arrive.
"""
_NODE_EPILOG: Final = """\
examples:
  trio-relay node --listen 0.0.0.0:9001 --advertise ws://relay.example.org:9001 --identity relay.pem
  trio-relay node --bootstrap ws://relay.example.org:9001
  trio-relay node --listen none --bootstrap ws://relay.example.org:9001 --jsonl

With --jsonl, standard input takes one command a line, and each gets one reply:
  {"send": {"to": ID, "data": JSON}, "ref": ANY}     or "bytes": BASE64 instead of "data"
  {"deliver": {"to": ID, "data": JSON}, "ref": ANY}  answered when it is in the receiver's mailbox
  {"connect": ID, "ref": ANY}                        or "prefer": "webrtc" in addition
  {"disconnect": ID, "ref": ANY}  {"statistics": true, "ref": ANY}
The end of input ends the node.
"""
_SEND: Final = """\
Joins the network for a moment, delivers one message, and exits: with 0 when it is in
the receiver's mailbox, with 1 when it is not known to be.
"""
_SEND_EPILOG: Final = """\
example:
  trio-relay send --bootstrap ws://relay.example.org:9001 0123456789abcdef0123456789abcdef01234567 hello

DATA that starts with a dash comes after two: ... ID -- -hello
"""
_SERVE: Final = """\
Runs a relay server for WebSocket clients, a PeerServer for PeerJS, a signalling hub for
Peerix, or several of them, and a peer of the overlay, on one port, until Ctrl-C or
SIGTERM; all let clients go in order. SIGHUP reads the certificate, the keys and the
configuration file again.
"""
_SERVE_EPILOG: Final = """\
examples:
  trio-relay serve --config relay.toml
  trio-relay serve --listen 0.0.0.0:8080 --channel pwa --key-file keys.txt --blob-file blobs.sqlite
  trio-relay serve --listen 127.0.0.1:8080 --channel pwa --open --no-overlay
  trio-relay serve --listen 0.0.0.0:9000 --no-overlay --peerjs
  trio-relay serve --listen 127.0.0.1:8080 --hub --hub-origin https://app.example.org

With --peerjs or --hub there is a relay server only if one of its options is given. Who may
use the relay has to be said: --key-file, --key-env, --open, or [relay.keys] in the file.
Options here take the place of those in the file, which has many more: docs/examples/relay.toml
"""
_DEMO: Final = """\
Runs two relays and four peers on this machine, lets every peer write to every other one,
and again after a relay has gone. Exits with 0 when every message arrived.
"""
_KEYGEN: Final = """\
Makes an identity: writes an Ed25519 private key to a file that only its owner can read,
and prints the id that follows from it. Give the file to 'trio-relay node --identity'.
With --passphrase it asks for one, twice, and the file is of no use to who does not know it.
"""


class _Parser(argparse.ArgumentParser):
    """Its errors are a `UsageError`, which `main` shows as one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def make_parser() -> argparse.ArgumentParser:
    """A parser for the command line; it raises `UsageError`, and sets ``command``."""
    parser = _Parser(
        prog="trio-relay",
        description="A peer-to-peer message relay node, wire-compatible with peer-relay.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('trio-relay')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, summary: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=summary,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    _add_node(add("node", "run a peer", _NODE, _NODE_EPILOG))
    _add_send(add("send", "deliver one message and exit", _SEND, _SEND_EPILOG))
    _add_serve(add("serve", "run a relay server, or a PeerServer", _SERVE, _SERVE_EPILOG))
    room = add("room", "talk and exchange files in a Peerix room", ROOM, ROOM_EPILOG)
    add_room(room)
    _add_ice_servers(room)
    _add_authorities(room)
    add("demo", "watch messages cross a small network on this machine", _DEMO)
    key = add("keygen", "make an identity file", _KEYGEN)
    key.add_argument("file", metavar="FILE", help="where to write the private key (PEM, mode 0600)")
    key.add_argument("--force", action="store_true", help="overwrite an existing file")
    protection = key.add_mutually_exclusive_group()
    protection.add_argument(
        "--passphrase", action="store_true", help="ask for a passphrase, and encrypt the key with it"
    )
    protection.add_argument("--passphrase-file", metavar="FILE", help="encrypt it with the first line of this file")
    return parser


def _add_node(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        action="append",
        type=checked(lambda text: text == LISTEN_NOWHERE or parse_listen(text)),
        help="where to listen, repeatable; 'none' for a peer without a listener; default: 127.0.0.1 and a free port",
    )
    _add_listener(parser)
    _add_webrtc(parser)
    parser.add_argument("--jsonl", action="store_true", help="JSON lines on standard input and output, see below")
    _add_common(parser, bootstrap_needed=False)


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="configuration file (TOML); read again on SIGHUP")
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        action="append",
        type=checked(parse_listen),
        help="where to listen, repeatable; default: 0.0.0.0:8080",
    )
    parser.add_argument("--channel", metavar="NAME", action="append", help="a channel of a relay server, repeatable")
    keys = parser.add_mutually_exclusive_group()
    keys.add_argument("--key-file", metavar="FILE", help="access keys, one a line; changes are noticed")
    keys.add_argument("--key-env", metavar="VARIABLE", help="environment variable with access keys, commas between")
    keys.add_argument("--open", action="store_true", help="let everybody in, without a key")
    parser.add_argument("--no-overlay", action="store_true", help="without a peer of the overlay")
    parser.add_argument("--blob-file", metavar="FILE", help="SQLite file for blobs; default: they are in memory")
    parser.add_argument("--admin-key-env", metavar="VARIABLE", help="environment variable with the operator's key")
    parser.add_argument("--ui", action="store_true", help="serve a live page at /ui; needs the operator's key")
    for what, meaning in (("connections", "of one address at a time"), ("messages", "of one connection a minute")):
        parser.add_argument(f"--rate-limit-{what}", metavar="N", type=count, help=f"{what} {meaning}")
    _add_peerjs(parser)
    add_hub(parser)
    parser.add_argument("--log-json", action="store_true", help="log JSON, one object a line")
    _add_webrtc(parser)
    _add_listener(parser)
    _add_common(parser, bootstrap_needed=False)


def _add_peerjs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peerjs", action="store_true", help="a broker for PeerJS clients; the next three imply it")
    parser.add_argument(
        "--peerjs-path",
        metavar="PATH",
        type=checked(lambda text: _check_broker(path=text)),
        help="where it is, as clients are told by their option 'path'; default: /",
    )
    parser.add_argument(
        "--peerjs-key",
        metavar="KEY",
        type=checked(lambda text: _check_broker(key=text)),
        help="what clients have to name by their option 'key'; default: peerjs",
    )
    parser.add_argument("--peerjs-discovery", action="store_true", help="let everybody list the ids of all clients")


def _add_webrtc(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--webrtc",
        action="store_true",
        help="make and take WebRTC links, too; needs trio-relay[webrtc]; --stun and --turn imply it",
    )
    _add_ice_servers(parser)


def _add_ice_servers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--stun",
        metavar="URL",
        action="append",
        type=checked(parse_stun),
        help="stun:HOST:PORT, which tells this node its address outside; repeatable, the first is used",
    )
    parser.add_argument(
        "--turn",
        metavar="URL",
        action="append",
        type=checked(parse_turn),
        help="turn:USER:CREDENTIAL@HOST:PORT, which relays where there is no direct way; repeatable, the first is "
        f"used; without :CREDENTIAL it is read from the environment variable {CREDENTIAL}",
    )


def _add_listener(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--advertise",
        metavar="URL",
        action="append",
        type=checked(check_advertised),
        help="where other peers are told to dial, repeatable up to four times; default: where it listens",
    )
    parser.add_argument("--tls-cert", metavar="FILE", help="certificate chain (PEM) for listening with wss")
    parser.add_argument("--tls-key", metavar="FILE", help="its private key (PEM); both are read again on SIGHUP")
    parser.add_argument(
        "--limit",
        metavar="NAME=VALUE",
        action="append",
        type=parse_limit,
        help="change one of trio_relay.Limits, for example leaves=10000, repeatable",
    )


def _add_send(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("to", metavar="ID", type=_node_id, help="the receiver: 40 hexadecimal digits")
    parser.add_argument("data", metavar="DATA", help="the message: text, or any JSON value with --json")
    parser.add_argument("--json", action="store_true", help="DATA is JSON")
    parser.add_argument(
        "--timeout", type=seconds, default=30.0, metavar="SECONDS", help="for all of it; default: %(default)g"
    )
    _add_common(parser, bootstrap_needed=True)


def _add_common(parser: argparse.ArgumentParser, *, bootstrap_needed: bool) -> None:
    parser.add_argument(
        "--bootstrap",
        metavar="URL",
        action="append",
        type=checked(parse_ws_url),
        required=bootstrap_needed,
        help="ws:// or wss:// URL of a peer, repeatable; one finds the rest of the network",
    )
    parser.add_argument("--identity", metavar="FILE", help="private key made by keygen; default: a new one each time")
    parser.add_argument(
        "--passphrase-file",
        metavar="FILE",
        help="its first line opens an encrypted private key; without this option, the terminal is asked",
    )
    _add_authorities(parser)
    parser.add_argument("--legacy", action="store_true", help="admit original peer-relay nodes, and speak for them")
    parser.add_argument("--verbose", action="store_true", help="log to standard error, failed attempts to link too")


def _add_authorities(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ca", metavar="FILE", help="certificate authorities (PEM) to trust for TLS instead of the system's"
    )


def _check_broker(**option: str) -> None:
    # Loaded only for who asks for a broker: other commands start sooner.
    from ..peerjs.broker.config import BrokerConfig

    BrokerConfig(**option)  # type: ignore[arg-type]


def check_advertised(url: str) -> None:
    """Raises ValueError unless others can dial the URL."""
    host = parse_ws_url(url).host
    if not is_dialable(host):
        raise ValueError(f"expected the address of one machine, which others can dial, not {host}")


def _node_id(text: str) -> NodeId:
    return parse_node_id(checked(parse_node_id)(text))
