"""Results of some parts put into the file of a longer run: what they measured replaces what is there of the same parts.

A table, a ratio or a note belongs to the part that its first words name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

from .report import Report, save
from .results import Results

__all__ = ["PARTS", "merge", "merge_file", "part"]

T = TypeVar("T")

PARTS: Final[Mapping[str, str]] = {
    "wire": "wire",
    "WebSocket": "wire",
    "router": "router",
    "handshake": "session",
    "seal and open": "session",
    "hop": "hop",
    "endtoend": "endtoend",
    "star": "star",
    "memory": "idle",
    "set-ups": "idle",
    "idle": "idle",
    "wsrelay": "wsrelay",
    "peerjs": "peerjs",
    "peerix": "peerix",
    "webrtc": "webrtc",
    "webrtc, bare": "webrtc --cycles",
    "webrtc, trio_relay": "webrtc --cycles",
    "webrtc, opened": "webrtc --cycles",
    "webrtc, transfer": "webrtc --transfer",
    "webrtc, PeerJS": "webrtc --transfer",
    "networks": "networks",
    "soak": "soak",
    "overlay": "overlay",
    "Simulated": "overlay",
}
"""How titles and notes begin, and what measures them; of several beginnings the longest counts."""


def part(text: str) -> str | None:
    """What measured a table or ratio of this title, or made this note; None: nothing that is known."""
    return PARTS.get(max((start for start in PARTS if text.startswith(start)), key=len, default=""))


def merge(old: Results, new: Results) -> Results:
    """`old`, but all tables, ratios and notes of the parts that `new` has tables of are from there.

    Each takes the place of the first of its part, or else comes last. A note says when and how they were measured.
    """
    measured = list(dict.fromkeys(_part_of(table.title) for table in new.tables))
    about = f"{new.about['date']}, load average {new.about['load average']:.3g}"
    notes = [note for note in new.notes if part(note) is not None]
    notes += [f"{name}: measured on {about}, by `{new.about['command']}`" for name in measured]
    # What the run says of the whole machine.
    notes += [f"{name}: {note}" for note in new.notes if part(note) is None for name in measured]
    return Results(
        old.about,
        _replaced(old.tables, new.tables, lambda table: table.title, measured),
        _replaced(old.ratios, new.ratios, lambda ratio: ratio.title, measured),
        _replaced(old.notes, notes, str, measured),
    )


def _part_of(title: str) -> str:
    found = part(title)
    if found is None:
        raise ValueError(f"no part is known to measure {title!r}")
    return found


def _replaced(old: Sequence[T], new: Iterable[T], text: Callable[[T], str], measured: Sequence[str]) -> list[T]:
    fresh: dict[str | None, list[T]] = {}
    for item in new:
        fresh.setdefault(part(text(item)), []).append(item)
    result: list[T] = []
    for item in old:
        owner = part(text(item))
        if owner in measured:
            result += fresh.pop(owner, [])
        else:
            result.append(item)
    return result + [item for items in fresh.values() for item in items]


def merge_file(path: Path, report: Report) -> None:
    """Does so with a file that `Report.save` wrote.

    Raises:
        ValueError: no part is known to measure a table.
    """
    new = Results(report.about, report.tables, report.ratios, report.notes)
    merged = merge(Results.load(path), new)
    save(path, merged.about, merged.tables, merged.ratios, merged.notes)
