"""The arguments of ``trio-relay serve`` for its signalling hub."""

from __future__ import annotations

import argparse

from .checks import checked

__all__ = ["add_hub"]


def add_hub(parser: argparse.ArgumentParser) -> None:
    """Adds them."""
    parser.add_argument("--hub", action="store_true", help="a signalling hub for Peerix; the next five imply it")
    parser.add_argument(
        "--hub-origin",
        metavar="ORIGIN",
        action="append",
        type=checked(_check_origin),
        help="whose pages may use it, like https://example.org, repeatable; default: all",
    )
    keys = parser.add_mutually_exclusive_group()
    keys.add_argument("--hub-key-file", metavar="FILE", help="access keys, one a line; default: everybody may use it")
    keys.add_argument("--hub-key-env", metavar="VARIABLE", help="environment variable with them, commas between")
    parser.add_argument("--hub-jwt-key-file", metavar="FILE", help="secret or public key of JSON Web Tokens")
    parser.add_argument("--hub-jwt-algorithm", metavar="NAME", help="of their signatures; default: HS256")


def _check_origin(text: str) -> None:
    # Loaded only for who asks for a hub: other commands start sooner.
    from ..peerix.hub.config import HubConfig

    HubConfig(origins=[text])
