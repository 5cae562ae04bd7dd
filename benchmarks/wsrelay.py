"""The relay server beside a bare forwarder: messages, latency, presence, idle connections.

The generators, the connections that are held and the set-ups are those of `hop` and `idle`.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from typing import Final

from . import presence
from .dialling import Place
from .generator import Shared
from .hop import PAIR_WINDOW, Variant, measure_latency, measure_sizes, measure_variants
from .idle import (
    KEEPALIVE,
    OURS,
    Server,
    affordable,
    answer,
    forwarders,
    measure_memory,
    measure_set_ups,
    start_timeout,
    transports,
)
from .memory import MIB, resident
from .processes import raise_descriptor_limit
from .programs import Program
from .relay_ends import RelayGuest, Routed, idle_peer, message
from .relay_server import lifted, run_relay_server
from .report import Options, Report, Sample
from .rivals import missing_rivals, run_node_forwarder
from .workers import start_workers, wait_until

__all__ = ["run"]

_NAME: Final = "wsrelay"
_HEARTBEAT: Final = 5.0
"""Seconds between pings of idle connections: each has had one, and has answered, when its memory is measured."""
_SERVER: Final = Program(OURS, run_relay_server, Routed)
_SECURE: Final = Program(f"{OURS}, TLS", partial(run_relay_server, tls=True), Routed)
_FORWARDER: Final = Program("ws forwarder", run_node_forwarder, partial(Routed, paths=True))
_SECURE_FORWARDER: Final = Program(
    "ws forwarder, TLS", partial(run_node_forwarder, tls=True), partial(Routed, paths=True)
)
_SETTLE: Final = 1.0
_TURN: Final = 0.1
"""Seconds until it is looked whether to stop."""
_ANSWERS: Final = 30.0
"""Seconds for the messages of all connections that are held."""


def run(report: Report, options: Options) -> None:
    """Throughput by size, variants, latency; presence; memory, set-ups, and very many connections."""
    report.note(
        f"{_NAME}: the relay server runs with {lifted()}; access keys, metering, the check of senders and JSON decoding"
        f" are on. It pings idle connections every {_HEARTBEAT:g} s, and they answer; the forwarder never pings"
    )
    rivals = _rivals(report, options)
    measure_sizes(report, options, _NAME, _SERVER, rivals)
    _run_variants(report, options, rivals)
    measure_latency(report, options, _NAME, _SERVER, rivals)
    presence.run(report, options)
    _run_idle(report, options)


def _rivals(report: Report, options: Options) -> Sequence[Program]:
    if not options.rivals:
        return ()
    missing = missing_rivals()
    if missing is None:
        return (_FORWARDER,)
    report.note(f"{_NAME}: {_FORWARDER.name}: not measured: {missing}")
    return ()


def _run_variants(report: Report, options: Options, rivals: Sequence[Program]) -> None:
    """The smallest size once more: TLS, and many pairs, with few messages under way on each or as many as on one."""
    programs = (_SERVER, *rivals)
    variants, pairs = [Variant(each.name, each) for each in programs], []
    if options.tls and find_spec("trustme") is not None:
        secure = [_SECURE, *(_SECURE_FORWARDER for _ in rivals)]
        variants += [Variant(each.name, each) for each in secure]
        pairs += [(_SECURE.name, other.name) for other in (_SERVER, *secure[1:])]
    for window in (PAIR_WINDOW, options.window) if options.pairs > 1 else ():
        many = f", {options.pairs} pairs, {window} each"
        variants += [Variant(each.name + many, each, options.pairs, window) for each in programs]
        pairs += [(_SERVER.name + many, other) for other in (_SERVER.name, *(each.name + many for each in rivals))]
    measure_variants(report, options, _NAME, variants, pairs)


def _run_idle(report: Report, options: Options) -> None:
    """Memory over TCP with very many connections: what Node.js frees at some time matters less to each then."""
    held, links = (affordable(report, _NAME, number) for number in (options.held, options.links))
    servers = []
    for tls in transports(report, _NAME, options):
        start = partial(run_relay_server, tls=tls, heartbeat=_HEARTBEAT)
        some = [Server(f"{OURS}, {'TLS' if tls else 'TCP'}", start, RelayGuest(), tls)]
        some += forwarders(report, _NAME, options, tls=tls)
        measure_memory(report, options, some, links if tls else held, f"{_NAME}, ")
        servers += some
    measure_set_ups(report, options, servers, f"{_NAME}, ")
    report.table(f"{_NAME}, held", {f"{held:,} connections": [_run_held(held)]})


def _run_held(links: int) -> Sample:
    """Connections that are held, pinged, and at last used: each sends a message to itself."""
    shared = Shared()
    with run_relay_server(heartbeat=_HEARTBEAT) as relay:
        time.sleep(_SETTLE)
        before, began = resident(relay.pid), time.perf_counter()
        with start_workers(partial(_hold, relay.url, links, shared)):
            wait_until(lambda: shared.ready.value == 1, start_timeout(links), "the connections are up")
            seconds = time.perf_counter() - began
            time.sleep(KEEPALIVE)
            after = resident(relay.pid)
            shared.stop.value = True
            wait_until(lambda: bool(shared.stopped.value), 2 * _ANSWERS, "the messages have come back")
            answered, lost = shared.received.value, shared.sent.value - shared.received.value
    values = {
        "in use %": answered / links * 100,
        "bytes/connection": (after - before) / links,
        "MiB after": after / MIB,
        "set-up s": seconds,
    }
    return Sample(values, links, lost)


def _hold(url: str, links: int, shared: Shared) -> None:
    """Connects, and answers pings until `shared.stop`; then `shared.received` are the messages that came back."""
    raise_descriptor_limit()
    guest, selector = RelayGuest(), selectors.DefaultSelector()
    place, clients = Place(url, None, guest), []
    for number in range(links):
        sock, rest = place.connect(None, number)
        client = guest.settle(sock, url, rest)
        clients.append(client)
        selector.register(sock, selectors.EVENT_READ, client)
        answer(selector, shared, 0)
    shared.ready.value = 1
    while not shared.stop.value:
        answer(selector, shared, _TURN)
    for number, client in enumerate(clients):
        with suppress(ConnectionError):
            client.send(message(idle_peer(number), idle_peer(number), min(Options().sizes)))
        answer(selector, shared, 0)
    deadline = time.monotonic() + _ANSWERS
    while not all(client.got for client in clients) and time.monotonic() < deadline:
        answer(selector, shared, _TURN)
    shared.sent.value, shared.received.value = links, sum(client.got for client in clients)
    shared.stopped.value = True
    time.sleep(3600)
