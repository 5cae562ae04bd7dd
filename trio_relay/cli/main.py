"""Exit codes, and one line for every error."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import Final

import trio

from ..exceptions import DeliveryError, RelayError
from ..limits import Limits
from ..transports.webrtc import WebRTCConfig
from . import demo, keygen, node, send
from .arguments import LISTEN_NOWHERE, make_parser
from .bounds import make_limits, raise_descriptor_limit
from .options import NodeOptions, UsageError
from .passphrase import load_identity
from .tls import Certificate, client_context
from .webrtc import make_webrtc

__all__ = ["main"]

FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130

_DEFAULT_LISTEN: Final = "127.0.0.1:0"

_FAILURES: Final = (UsageError, RelayError, OSError, KeyboardInterrupt)
"""What a command may fail with; anything else is a bug and shows its traceback."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    try:
        try:
            return _run(make_parser().parse_args(arguments))
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except _FAILURES as error:
        return _end(error)
    except BaseExceptionGroup as group:
        expected, bugs = group.split(_FAILURES)
        if expected is None or bugs is not None:
            raise
        interrupts = expected.subgroup(KeyboardInterrupt)
        return _end(_first(interrupts or expected))


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _end(error: BaseException) -> int:
    """Says what went wrong; returns the exit code."""
    if isinstance(error, OSError) and sys.stdout is not None:
        # It may have been standard output that failed; at exit the interpreter would try again, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    # Whoever read our output has gone on purpose, as `head` does.
    if not isinstance(error, BrokenPipeError):
        line = " ".join(_explain(error).splitlines())
        print(f"trio-relay: {line}", file=sys.stderr)
    return USAGE if isinstance(error, UsageError) else FAILED


def _explain(error: BaseException) -> str:
    if isinstance(error, DeliveryError):
        found = "not delivered" if error.outcome == "not_delivered" else "not confirmed, it may have arrived"
        return f"{found}: {error}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _run(options: argparse.Namespace) -> int:
    # Only at checkpoints: not in the middle of a change of state, which closing the node would build upon.
    run = partial(trio.run, restrict_keyboard_interrupt_to_checkpoints=True)
    code: int
    match options.command:
        case "keygen":
            code = keygen.run(
                options.file, force=options.force, ask=options.passphrase, passphrase_file=options.passphrase_file
            )
        case "demo":
            code = run(demo.run)
        case "send":
            _start_logging(options.verbose)
            data = send.parse_data(options.data, is_json=options.json)
            code = run(send.run, _node_options(options), options.to, data, options.timeout)
        case "serve":
            # What servers need is a third of all that there is to load; the other commands start without it.
            from . import serve
            from .serve_options import Configuration

            configuration = Configuration(options)
            served = configuration.load()
            raise_descriptor_limit(served.config.limits)
            code = run(serve.run, configuration, served)
        case "room":
            # Likewise: Peerix and rich.
            from . import room

            _start_logging(options.verbose)
            code = run(room.run, room.make_settings(options))
        case _:
            _start_logging(options.verbose)
            certificate = _certificate(options)
            limits = make_limits(options.limit or ())
            raise_descriptor_limit(limits)
            settings = _node_options(options, _listen(options.listen), certificate, limits)
            code = run(node.run, settings, certificate, options.jsonl)
    return code


def _start_logging(verbose: bool) -> None:
    if verbose:
        logging.basicConfig(format="%(asctime)s %(message)s", stream=sys.stderr)
        logging.getLogger("trio_relay").setLevel(logging.DEBUG)


def _node_options(
    options: argparse.Namespace,
    listen: Sequence[str] = (),
    certificate: Certificate | None = None,
    limits: Limits | None = None,
) -> NodeOptions:
    """Loads the files that the arguments name; may ask for a passphrase."""
    if options.identity is None and options.passphrase_file is not None:
        raise UsageError("expected --identity beside --passphrase-file")
    return NodeOptions(
        listen=listen,
        bootstrap=options.bootstrap or (),
        advertise=getattr(options, "advertise", None),
        identity=load_identity(options.identity, options.passphrase_file) if options.identity is not None else None,
        tls=certificate.context if certificate is not None else None,
        client_tls=client_context(options.ca) if options.ca is not None else None,
        webrtc=_webrtc(options),
        legacy=options.legacy,
        limits=limits,
    )


def _webrtc(options: argparse.Namespace) -> bool | WebRTCConfig:
    if options.command != "node":
        return False
    stun, turn = options.stun or (), options.turn or ()
    return make_webrtc(options.webrtc or bool(stun or turn), stun, turn)


def _listen(addresses: Sequence[str] | None) -> Sequence[str]:
    if not addresses:
        return [_DEFAULT_LISTEN]
    if LISTEN_NOWHERE not in addresses:
        return addresses
    if len(addresses) > 1:
        raise UsageError(f"expected --listen {LISTEN_NOWHERE} alone, not beside other addresses")
    return []


def _certificate(options: argparse.Namespace) -> Certificate | None:
    if options.tls_cert is None and options.tls_key is None:
        return None
    if options.tls_cert is None or options.tls_key is None:
        raise UsageError("expected --tls-cert and --tls-key together")
    return Certificate(options.tls_cert, options.tls_key)
