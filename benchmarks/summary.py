"""``python -m benchmarks.summary RESULTS.json``: what we promise ourselves, and what a run says of it, as Markdown."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .report import Row
from .results import Results, number, put_into

__all__ = ["GOALS", "Goal", "main", "summary"]


@dataclass(frozen=True, slots=True)
class Goal:
    """A ratio of two cases, or (without `other`) a figure of one, and its bound.

    Attributes:
        title: of the table, or what it begins with.
        least: whether `bound` is the least that it should be; else the most.
        minus: a column of the same row that is taken from `column` first, run by run; not for ratios.
    """

    what: str
    title: str
    column: str
    one: str
    other: str | None
    bound: float
    least: bool
    minus: str | None = None

    def runs(self, results: Results) -> list[float] | None:
        """What was measured; None if that was not."""
        if self.other is not None:
            for ratio in results.ratios:
                if (ratio.title, ratio.column, ratio.one, ratio.other) == (
                    self.title,
                    self.column,
                    self.one,
                    self.other,
                ):
                    return list(ratio.runs)
            return None
        for row in self._rows(results):
            values = row.values[self.column]
            less = [0.0] * len(values) if self.minus is None else row.values[self.minus]
            return [value - other for value, other in zip(values, less, strict=True)]
        return None

    def void(self, results: Results) -> bool:
        """Whether a run that the figure was made of lost so many frames that it measured something else."""
        return any(note.startswith("VOID") for row in self._rows(results) for note in row.notes)

    def _rows(self, results: Results) -> list[Row]:
        """Those of `one` and `other`, in the table of that very title or else in those that begin with it."""
        tables = [table for table in results.tables if table.title == self.title]
        tables = tables or [table for table in results.tables if table.title.startswith(self.title)]
        return [row for table in tables for row in table.rows if row.name in (self.one, self.other)]

    def reached(self, value: float) -> bool:
        """Whether a figure keeps to the bound."""
        return value >= self.bound if self.least else value <= self.bound


_RELAY, _FORWARDER, _ORIGINAL = "trio_relay", "ws forwarder", "peer-relay"
_BARE: Final = f"{_ORIGINAL}, no compression"


def _on_the_wire() -> Iterator[Goal]:
    title, column = "hop, 100 B", "msg/s"
    yield Goal(f"relay alone, {column}, to {_BARE}", title, column, _RELAY, _BARE, 10, True)
    yield Goal(f"relay alone, {column}, to a bare {_FORWARDER}", title, column, _RELAY, _FORWARDER, 2, True)
    title, sealed = "endtoend, 100 B", f"{_RELAY}, sealed"
    yield Goal(f"end to end, plain as it is, {column}, to {_BARE}", title, column, f"{_RELAY}, plain", _BARE, 2, True)
    yield Goal(f"end to end, sealed, {column}, to {_BARE}", title, column, sealed, _BARE, 2, True)
    yield Goal(f"end to end, sealed, {column}, to {_ORIGINAL} as it comes", title, column, sealed, _ORIGINAL, 10, True)
    what, title, column = "latency of a hop, p50", "hop, 100 B, 200 msg/s", "p50 us"
    yield Goal(f"{what}, to a bare {_FORWARDER}", title, column, _RELAY, _FORWARDER, 1.3, False)


def _idle() -> Iterator[Goal]:
    for kind in ("TCP", "TLS"):
        what, title, column = f"idle link over {kind}, memory", "memory, bytes/link", "bytes/link"
        one, other = f"{_RELAY}, {kind}", f"{_FORWARDER}, {kind}"
        yield Goal(f"{what}, to a bare {_FORWARDER}", title, column, one, other, 1, False)
    title, other = "set-ups, 8 at once", f"{_FORWARDER}, TCP, upgrade"
    for column, unit in (("set-ups/CPU s", "CPU second"), ("set-ups/s", "second")):
        for step, bound in (("upgrade", 1.0), ("proof", 0.6)):
            what, one = f"set-ups with {step}, per {unit}", f"{_RELAY}, TCP, {step}"
            yield Goal(f"{what}, to a bare {_FORWARDER}'s upgrade", title, column, one, other, bound, True)


def _networks() -> Iterator[Goal]:
    column = "delivered %"
    yield Goal(f"star of 500 pairs, {column}", "star", column, f"{_RELAY}, 500 pairs", None, 100, True)
    yield Goal(f"network of 100 nodes, {column}", "networks", column, f"{_RELAY}, 100 nodes", None, 100, True)


def _simulated() -> Iterator[Goal]:
    for name, hops in (("1,000 grown", 3.2), ("10,000 installed", 4.2)):
        for leaves in (0, 80):
            row, title = f"{name}, {leaves}% leaves", "overlay, settled"
            yield Goal(f"simulated, {row}, arrived %", title, "arrived %", row, None, 100, True)
            yield Goal(f"simulated, {row}, hops", title, "hops", row, None, hops, False)
            what, column = f"simulated, {row}, data frames per message beyond its hops", "data frames"
            yield Goal(what, title, column, row, None, 0.1, False, minus="hops")
    for leaves in (0, 80):
        row, title = f"1,000 installed, {leaves}% leaves", "overlay, 20 % killed"
        for column, bound in (("at once %", 99.5), ("in 10 s %", 100.0)):
            yield Goal(f"simulated, {row}, 20 % killed, {column}", title, column, row, None, bound, True)
        title, column = "overlay, 20 % die in silence", "keepalive+10 s %"
        yield Goal(f"simulated, {row}, 20 % die in silence, {column}", title, column, row, None, 100, True)


def _served() -> Iterator[Goal]:
    """The relay server."""
    server, column, what = "relay server", "msg/s", f"to a bare {_FORWARDER}"
    for size, bound in ((100, 3.0), (1024, 3.0), (16384, 1.5)):
        title = f"wsrelay, {size:,} B"
        yield Goal(f"{server}, {size:,} B, {column}, {what}", title, column, _RELAY, _FORWARDER, bound, True)
    title, many = "wsrelay, 100 B, variants", f"{_RELAY}, 100 pairs, 256 each"
    yield Goal(f"{server}, 100 pairs, {column}, to one pair", title, column, many, _RELAY, 0.8, True)
    title, column = "wsrelay, 100 B, 200 msg/s", "p50 us"
    yield Goal(f"{server}, latency, p50, {what}", title, column, _RELAY, _FORWARDER, 1.3, False)
    for pace, flaps in (
        ("20 a second", "100 flaps, 20 a second"),
        ("as fast as it can", "100 flaps, as fast as it can"),
    ):
        title, own = f"wsrelay, presence, {pace}", f"{server}, 1,000 watchers, {flaps}"
        yield Goal(f"{own}, p99 of others", title, "p99 us", flaps, "no flaps", 5, False)
        yield Goal(f"{own}, states told wrongly", title, "violations", flaps, None, 0, False)
    one, other = f"{_RELAY}, TCP", f"{_FORWARDER}, TCP"
    title, column = "wsrelay, memory, bytes/link", "bytes/link"
    yield Goal(f"{server}, memory of an idle connection, {what}", title, column, one, other, 1, False)
    title, one, other = "wsrelay, set-ups, 8 at once", f"{one}, upgrade", f"{other}, upgrade"
    for column, unit in (("set-ups/CPU s", "CPU second"), ("set-ups/s", "second")):
        yield Goal(f"{server}, set-ups per {unit}, {what}", title, column, one, other, 1, True)
    title, one = "wsrelay, held", "10,000 connections"
    yield Goal(f"{server}, {one} held and in use %", title, "in use %", one, None, 100, True)


def _brokered() -> Iterator[Goal]:
    """The broker of PeerJS."""
    broker, column, other = "broker", "msg/s", "npm peer"
    for size in (1024, 4096):
        what, title = f"{broker}, offers of {size:,} B, {column}, to {other}", f"peerjs, {size:,} B"
        yield Goal(what, title, column, _RELAY, other, 1.5, True)
    title, many = "peerjs, 1,024 B, variants", ", 100 pairs, 16 each"
    what = f"{broker}, 100 pairs, offers of 1,024 B, {column}, to {other}"
    yield Goal(what, title, column, _RELAY + many, other + many, 1.5, True)
    title, row = "peerjs, registrations", "0 there"
    for column, unit in (("set-ups/CPU s", "CPU second"), ("set-ups/s", "second")):
        what = f"{broker}, registrations per {unit}, to {other}"
        yield Goal(what, title, column, f"{_RELAY}, {row}", f"{other}, {row}", 1, True)
    what, title, column = f"{broker}, memory of a registered idle client, to {other}", "peerjs, memory", "bytes/link"
    yield Goal(what, f"{title}, bytes/link", column, _RELAY, other, 1, False)


def _rooms() -> Iterator[Goal]:
    bare, room = "bare aiortc", f"{_RELAY}, room"
    title, column = "peerix, 16,320 B in a packet", "MB/s"
    yield Goal(f"room, one member, {column}, to {bare}", title, column, room, bare, 0.9, True)
    title, column = "peerix, 10 MB to all members", "MB/s, all members"
    one, other = f"{room}, 5 members", f"{bare}, 5 pairs"
    yield Goal(f"room, 10 MB to five members, {column}, to five pairs of {bare}", title, column, one, other, 0.9, True)


def _webrtc() -> Iterator[Goal]:
    bare, column, nodes = "bare aiortc", "MB/s", f"{_RELAY}, two nodes"
    for size in (100, 1024, 16384):
        for kind in ("connection", "two nodes"):
            title, one = f"webrtc, {size:,} B", f"{_RELAY}, {kind}"
            what = f"WebRTC, {kind}, {size:,} B, {column}, to {bare}"
            yield Goal(what, title, column, one, bare, 0.9, True)
    what, title, column = f"WebRTC, two nodes, set-up, p50, to {bare}", "webrtc, 20 set-ups", "p50 ms"
    yield Goal(what, title, column, nodes, bare, 1.2, False)
    what, title = "WebRTC, two nodes, 1,000 set-ups, descriptors, to 100 set-ups", f"webrtc, {nodes}, growth"
    yield Goal(what, title, "descriptors", "after 1,000", "after 100", 1, False)


GOALS: Final = (*_on_the_wire(), *_idle(), *_served(), *_brokered(), *_rooms(), *_webrtc(), *_networks(), *_simulated())


def summary(results: Results) -> str:
    """A line for each goal that was measured."""
    lines = ["| | goal | measured | |", "| --- | ---: | ---: | --- |"]
    for goal in GOALS:
        runs = goal.runs(results)
        if runs is not None:
            sign, word = ("≥" if goal.least else "≤"), ("" if goal.reached(statistics.median(runs)) else "missed")
            word = "void" if goal.void(results) else word
            spread = f" ({number([min(runs)])} to {number([max(runs)])})" if len(runs) > 1 else ""
            lines.append(f"| {goal.what} | {sign} {goal.bound:g} | {number(runs)}{spread} | {word} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Prints it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.summary", description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--into", type=Path, metavar="PAGE", help="put it there, between <!-- goals --> and its end")
    arguments = parser.parse_args()
    text = summary(Results.load(arguments.results))
    if arguments.into is None:
        print(text, end="")
    else:
        put_into(arguments.into, "goals", text)


if __name__ == "__main__":
    main()
