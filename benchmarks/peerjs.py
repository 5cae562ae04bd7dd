"""Our broker of PeerJS beside the original, npm ``peer``: offers, latency, registrations, registered idle clients.

The generators, the connections that are held and the set-ups are those of `hop` and `idle`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Final

from . import binarypack
from .dialling import Place
from .generator import Shared
from .hop import PAIR_WINDOW, Variant, measure_latency, measure_sizes, measure_variants
from .idle import NODE_WARM_UP, OURS, Server, affordable, compare, hold, measure_memory, start_timeout, time_set_ups
from .peerjs_ends import LEAST, BrokerGuest, Offers, leave, register
from .peerjs_server import lifted, run_broker
from .processes import WARM_UP, Relay
from .programs import ORIGINAL_WARM_UP, Program
from .report import Case, Options, Report, measure
from .rivals import missing_rivals, run_npm_peer
from .workers import start_workers, wait_until

__all__ = ["NPM", "SIZES", "clients", "run"]

_NAME: Final = "peerjs"
NPM: Final = "npm peer"
SIZES: Final = (1024, 4096)
"""Bytes of payload: an offer of a data connection, and one with audio, video and all candidates."""
_BROKER: Final = Program(OURS, run_broker, Offers)
_ORIGINAL: Final = Program(NPM, run_npm_peer, Offers, ORIGINAL_WARM_UP)


def run(report: Report, options: Options) -> None:
    """Throughput by size and with many pairs, latency; registrations; memory; at last BinaryPack."""
    report.note(f"{_NAME}: our broker runs with {lifted()}; {NPM} with concurrent_limit and alive_timeout likewise")
    programs = (_BROKER, *_rivals(report, options))
    sized = replace(options, sizes=_sizes(report, options))
    measure_sizes(report, sized, _NAME, _BROKER, programs[1:])
    _run_pairs(report, sized, programs)
    measure_latency(report, sized, _NAME, _BROKER, programs[1:])
    _run_registrations(report, options, programs)
    _run_idle(report, options, programs)
    binarypack.run(report, options)


def _rivals(report: Report, options: Options) -> Sequence[Program]:
    if not options.rivals:
        return ()
    missing = missing_rivals()
    if missing is None:
        return (_ORIGINAL,)
    report.note(f"{_NAME}: {NPM}: not measured: {missing}")
    return ()


def _sizes(report: Report, options: Options) -> Sequence[int]:
    """Those of an offer, unless the command line says others."""
    if options.sizes == Options().sizes:
        return SIZES
    sizes = [size for size in options.sizes if size >= LEAST]
    if len(sizes) < len(options.sizes):
        report.note(f"{_NAME}: an offer has {LEAST} bytes or more")
    return sizes or SIZES


def _run_pairs(report: Report, options: Options, programs: Sequence[Program]) -> None:
    """The smallest size once more, with many pairs: few messages under way on each, or as many as on one."""
    variants, pairs = [Variant(each.name, each) for each in programs], []
    for window in (PAIR_WINDOW, options.window) if options.pairs > 1 else ():
        many = f", {options.pairs} pairs, {window} each"
        variants += [Variant(each.name + many, each, options.pairs, window) for each in programs]
        pairs += [(OURS + many, other.name + many) for other in programs[1:]]
    measure_variants(report, options, _NAME, variants, pairs)


# Registrations


def clients(program: str, number: int) -> str:
    """The row of registrations while so many others are registered."""
    return f"{program}, {number:,} there"


def _run_registrations(report: Report, options: Options, programs: Sequence[Program]) -> None:
    """From the upgrade to OPEN, and the end; with nobody else there, and with many."""
    crowd = affordable(report, _NAME, options.links)
    cases = []
    for number in (0, crowd):
        for each in programs:
            start = partial(_crowded, each.run, number)
            server = Server(clients(each.name, number), start, BrokerGuest(), tls=False, warm_up=_warm_up(each))
            cases.append(Case(server.name, partial(time_set_ups, server, _register, options.seconds / 2)))
    samples, title = measure(cases, options.repeat), f"{_NAME}, registrations"
    report.table(title, samples)
    for column in ("set-ups/s", "set-ups/CPU s"):
        compare(report, title, column, samples)


def _warm_up(program: Program) -> float:
    return NODE_WARM_UP if program is _ORIGINAL else WARM_UP


@contextmanager
def _crowded(start: Callable[[], AbstractContextManager[Relay]], number: int) -> Iterator[Relay]:
    """A broker at which so many idle clients are registered."""
    with start() as relay:
        shared = Shared()
        shared.sent.value = number
        with start_workers(partial(hold, Place(relay.url, None, BrokerGuest()), shared)):
            wait_until(lambda: shared.ready.value == number, start_timeout(number), "the others are registered")
            yield relay


def _register(place: Place, shared: Shared) -> None:
    """Clients that come and go, one after the other."""
    for number in count():
        sock, rest = place.connect(None, number)
        with sock:
            register(sock, rest)
            leave(sock)
        shared.received.value += 1


# Memory


def _run_idle(report: Report, options: Options, programs: Sequence[Program]) -> None:
    """What one more client takes, between few and very many: what a broker takes by itself is not in it."""
    most = affordable(report, _NAME, options.held)
    few = min(options.links, most // 2)
    servers = [Server(each.name, each.run, BrokerGuest(), tls=False) for each in programs]
    measure_memory(report, options, servers, most, f"{_NAME}, ", few)
