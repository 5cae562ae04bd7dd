"""What a link costs a server that has nothing to forward: memory while it lasts, and CPU time to make it."""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import count, cycle
from typing import Final

from trio_relay import Limits

from .dialling import Guest, Link, Newcomer, OverlayGuest, PathGuest, Place, prove
from .generator import Shared
from .memory import MIB, resident
from .processes import WARM_UP, Relay, Watch, certificate, raise_descriptor_limit, run_relay, warm_up
from .report import Case, Options, Report, Sample, measure
from .rivals import missing_rivals, run_node_forwarder, run_trio_websocket_forwarder
from .workers import start_workers, wait_until

__all__ = [
    "KEEPALIVE",
    "NODE_WARM_UP",
    "OURS",
    "Server",
    "affordable",
    "answer",
    "compare",
    "forwarders",
    "hold",
    "measure_memory",
    "measure_set_ups",
    "run",
    "start_timeout",
    "time_set_ups",
    "transports",
]

_SPARE: Final = 256
"""Descriptors and sockets for anything else."""
_SETTLE: Final = 1.0
OURS: Final = "trio_relay"
KEEPALIVE: Final = 7.0
"""Seconds until every idle link has had its first ping (`Limits.ping_after` is 5 s) and has answered it."""
_START_TIMEOUT: Final = 60.0
_TURN: Final = 0.1
"""Seconds until it is looked whether there should be more connections."""
_LINK_TIMEOUT: Final = 0.05
"""Seconds for each link, all servers busy."""
NODE_WARM_UP: Final = 1.0
"""CPU seconds: Node.js compiles its JavaScript step by step."""
_DIALLERS: Final = 8
"""Set-ups under way at once, each by a process."""
_PREPARED: Final = 1.0
"""Seconds beside those that are measured for which there are new ids."""
_SETUPS_A_SECOND: Final = 250
"""That one process makes at most: so many ids are there beforehand; after them it begins again."""


@dataclass(frozen=True, slots=True)
class Server:
    """A program under test."""

    name: str
    start: Callable[[], AbstractContextManager[Relay]]
    guest: Guest
    tls: bool
    warm_up: float = WARM_UP

    def place(self, relay: Relay) -> Place:
        """Where it is visited."""
        return Place(relay.url, certificate().authority if self.tls else None, self.guest)


def run(report: Report, options: Options) -> None:
    """Bytes a link, then set-ups; every server with and without TLS."""
    links = affordable(report, "idle", options.links)
    servers = _servers(report, links, options)
    measure_memory(report, options, servers, links)
    measure_set_ups(report, options, servers)


def affordable(report: Report, name: str, links: int) -> int:
    """As many links as descriptors allow."""
    most = raise_descriptor_limit() - _SPARE
    if links > most:
        report.note(f"{name}: the limit on descriptors allows {most:,} links, not {links:,} (ulimit -Hn)")
    return min(links, most)


def _servers(report: Report, links: int, options: Options) -> list[Server]:
    report.note(
        f"idle: our relay has room for {links:,} leaves (--limit leaves, connections); it pings"
        " silent links, and its leaves answer; the other programs never ping. Node.js frees what set-ups left behind"
        " when it sees fit, so its memory varies from run to run"
    )
    default, room = Limits(), links + _SPARE
    limits = {"leaves": max(room, default.leaves), "connections": max(room, default.connections)}
    servers = []
    for tls in transports(report, "idle", options):
        kind = "TLS" if tls else "TCP"
        servers.append(Server(f"{OURS}, {kind}", partial(run_relay, tls=tls, limits=limits), OverlayGuest(), tls))
        servers += forwarders(report, "idle", options, tls=tls)
        if options.rivals and not tls:
            forwarder = run_trio_websocket_forwarder
            servers.append(Server(f"trio-websocket forwarder, {kind}", forwarder, PathGuest(), tls))
    return servers


def transports(report: Report, name: str, options: Options) -> Sequence[bool]:
    """Without TLS, and with it if that is wanted and possible."""
    secure = options.tls and find_spec("trustme") is not None
    if options.tls and not secure:
        report.note(f"{name}: TLS: not measured: trustme is not installed")
    return (False, True)[: 1 + secure]


def forwarders(report: Report, name: str, options: Options, *, tls: bool) -> list[Server]:
    """The bare one on Node's `ws`, if it is wanted and can run."""
    if not options.rivals:
        return []
    missing = missing_rivals()
    if missing is not None:
        if not tls:
            report.note(f"{name}: without the forwarder on ws: {missing}")
        return []
    kind = "TLS" if tls else "TCP"
    return [Server(f"ws forwarder, {kind}", partial(run_node_forwarder, tls=tls), PathGuest(), tls, NODE_WARM_UP)]


def compare(report: Report, title: str, column: str, samples: Mapping[str, Sequence[Sample]]) -> None:
    """Ours beside each rival over the same transport."""
    pairs = []
    for one in samples:
        name, _, rest = one.partition(", ")
        kind = rest.partition(", ")[0]
        pairs += [
            (one, other)
            for other in samples
            if name == OURS and not other.startswith(OURS) and other.partition(", ")[2].partition(", ")[0] == kind
        ]
    if pairs:
        report.ratio(title, column, samples, pairs)


# Memory


def measure_memory(
    report: Report, options: Options, servers: Sequence[Server], links: int, prefix: str = "", first: int = 0
) -> None:
    """A table of bytes a link; `prefix` begins its title. The `first` links, and what they cost, do not count."""
    runs = [_hold_all(servers, links, first) for _ in range((options.repeat + 1) // 2)]
    samples = {server.name: [each[server.name] for each in runs] for server in servers}
    number = f"{first:,} to {links:,}" if first else f"{links:,}"
    report.table(f"{prefix}memory, bytes/link after {KEEPALIVE:g} s, {number} links", samples)
    compare(report, f"{prefix}memory, bytes/link", "bytes/link", samples)


def start_timeout(links: int) -> float:
    """Seconds in which so many links should be up."""
    return _START_TIMEOUT + links * _LINK_TIMEOUT


def _hold_all(servers: Sequence[Server], links: int, first: int) -> dict[str, Sample]:
    """All servers at the same time, so that nothing waits for another's keepalive."""
    with ExitStack() as stack:
        relays = {server.name: stack.enter_context(server.start()) for server in servers}
        places = [server.place(relays[server.name]) for server in servers]
        shared = [Shared() for _ in servers]
        stack.enter_context(start_workers(*(partial(hold, *it) for it in zip(places, shared, strict=True))))
        _grow(shared, first)
        time.sleep(KEEPALIVE if first else _SETTLE)
        before = {name: resident(relay.pid) for name, relay in relays.items()}
        _grow(shared, links)
        time.sleep(_SETTLE)
        linked = {name: resident(relay.pid) for name, relay in relays.items()}
        time.sleep(KEEPALIVE - _SETTLE)
        after = {name: resident(relay.pid) for name, relay in relays.items()}
        lost = [links - it.received.value for it in shared]
    return {
        name: Sample(
            {
                "bytes/link": (after[name] - before[name]) / (links - first),
                "at once": (linked[name] - before[name]) / (links - first),
                "MiB before": before[name] / MIB,
                "MiB after": after[name] / MIB,
            },
            links,
            missing,
        )
        for name, missing in zip(relays, lost, strict=True)
    }


def _grow(shared: Sequence[Shared], links: int) -> None:
    """Waits until so many connections are up."""
    for each in shared:
        each.sent.value = links
    wait_until(lambda: all(it.ready.value == links for it in shared), start_timeout(links), "the links are up")


def hold(place: Place, shared: Shared) -> None:
    """Holds `shared.sent` connections, which may grow; `ready` counts those made, `received` those that live."""
    raise_descriptor_limit()
    context, selector = place.context(), selectors.DefaultSelector()
    for number in count():
        while number == shared.sent.value:
            answer(selector, shared, _TURN)
        sock, rest = place.connect(context, number)
        selector.register(sock, selectors.EVENT_READ, place.guest.settle(sock, place.url, rest))
        shared.ready.value = number + 1
        answer(selector, shared, 0)


def answer(selector: selectors.BaseSelector, shared: Shared, timeout: float | None) -> None:
    """Answers what came; a connection that ended is forgotten."""
    for key, _ in selector.select(timeout):
        link: Link = key.data
        try:
            link.answer()
        except ConnectionError:
            selector.unregister(key.fileobj)
    shared.received.value = len(selector.get_map())


# Set-ups


def measure_set_ups(report: Report, options: Options, servers: Sequence[Server], prefix: str = "") -> None:
    """A table of connections that are made; `prefix` begins its title."""
    seconds = options.seconds / 2
    cases = []
    for server in servers:
        steps = {"upgrade": False} | ({"proof": True} if isinstance(server.guest, OverlayGuest) else {})
        cases += [
            Case(f"{server.name}, {step}", partial(_set_up, server, proof=proof, seconds=seconds))
            for step, proof in steps.items()
        ]
    samples = measure(cases, options.repeat)
    title = f"{prefix}set-ups, {_DIALLERS} at once"
    report.table(title, samples)
    compare(report, title, "set-ups/s", samples)
    compare(report, title, "set-ups/CPU s", samples)


def _set_up(server: Server, *, proof: bool, seconds: float) -> Sample:
    newcomers = int(_SETUPS_A_SECOND * (seconds + _PREPARED)) if proof else 0
    return time_set_ups(server, partial(_dial, newcomers=newcomers), seconds)


def time_set_ups(server: Server, dial: Callable[[Place, Shared], None], seconds: float) -> Sample:
    """Connections that are closed as soon as they are made, by processes that `dial`."""
    with server.start() as relay:
        shared = [Shared() for _ in range(_DIALLERS)]
        with start_workers(*(partial(dial, server.place(relay), it) for it in shared)) as pids:
            wait_until(lambda: all(it.received.value for it in shared), _START_TIMEOUT, "the first set-ups are done")
            warm_up([relay.pid], server.warm_up)
            before = sum(it.received.value for it in shared)
            watch = Watch({"relay": relay.pid, **{str(pid): pid for pid in pids}})
            time.sleep(seconds)
            elapsed, cpu = watch.stop()
            done = sum(it.received.value for it in shared) - before
    dialling = sum(cpu[str(pid)] for pid in pids)
    values = {
        "set-ups/s": done / elapsed,
        "set-ups/CPU s": done / cpu["relay"],
        "us/set-up": cpu["relay"] / done * 1e6,
        "relay %": cpu["relay"] / elapsed * 100,
        "diallers us": dialling / done * 1e6,
    }
    # The diallers have the cores that the relay leaves them.
    share = dialling / elapsed / max((os.cpu_count() or 1) - 1, 1)
    return Sample(values, done, 0, {"dialling": share}, cpu["relay"] / elapsed)


def _dial(place: Place, shared: Shared, newcomers: int) -> None:
    """Set-ups one after the other."""
    context = place.context()
    pool: Iterator[Newcomer] = cycle([Newcomer() for _ in range(newcomers)])
    for number in count():
        sock, rest = place.connect(context, number)
        with sock:
            if newcomers:
                # Ours, and not what is measured: the dialler need not check the proof.
                prove(sock, place.url, rest, next(pool), lambda *_: True)
        shared.received.value += 1
