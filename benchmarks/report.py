"""Samples, the tables that are printed of them, and the file that keeps them."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import trio

from trio_relay.wire.masking import MASKING

__all__ = ["Case", "Options", "Ratio", "Report", "Row", "Sample", "Table", "measure", "save"]

LOSS_ALLOWED: Final = 0.001
"""A run that lost more than this share of its frames measured something else."""
BOTTLENECK: Final = 0.9
"""A generator that takes so much of a core may have been what limited the run."""
WAITING: Final = 0.8
"""A process under test that takes less of a core than this was waiting, for a generator or for the machine."""

QUIET: Final = 0.05
"""Other processes may take so much of a machine that is called quiet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says for every benchmark.

    Attributes:
        seconds: length of one run.
        repeat: runs of each case.
        sizes: bytes of payload.
        window: messages under way; fewer if they are large.
        rivals: whether other programs are measured beside ours.
        pairs: pairs of links in the runs with many.
        tls: whether there are runs with TLS.
        links: idle connections.
        held: the same of the relay server, over TCP.
        messages: sent in a soak.
        cycles: WebRTC connections that come and go; 0 for none.
        transfer: MB over a WebRTC link; 0 for none.
    """

    seconds: float = 2.0
    repeat: int = 5
    sizes: Sequence[int] = (100, 1024, 16384)
    window: int = 256
    rivals: bool = True
    pairs: int = 100
    tls: bool = True
    links: int = 2000
    held: int = 10_000
    messages: int = 1_000_000
    cycles: int = 0
    transfer: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """One run.

    Attributes:
        values: what was measured, by column; all runs of a case have the same columns.
        sent, lost: frames.
        busy: CPU share (1.0 is one core) of each process that is not under test, by name.
        tested: that of the process under test, where the others should keep it busy all the time.
    """

    values: Mapping[str, float]
    sent: int = 0
    lost: int = 0
    busy: Mapping[str, float] = field(default_factory=dict)
    tested: float | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """A line of the table, and the function that makes one run of it."""

    name: str
    run: Callable[[], Sample]


def measure(cases: Sequence[Case], repeat: int) -> dict[str, list[Sample]]:
    """Every case `repeat` times, alternating."""
    samples: dict[str, list[Sample]] = {case.name: [] for case in cases}
    for _ in range(repeat):
        for case in cases:
            samples[case.name].append(case.run())
    return samples


@dataclass(frozen=True, slots=True)
class Row:
    """A case of a table: every run's value by column, and what to know about them."""

    name: str
    values: Mapping[str, Sequence[float]]
    sent: int
    lost: int
    notes: Sequence[str]


@dataclass(frozen=True, slots=True)
class Table:
    """The runs of some cases; the first column is what the table is about."""

    title: str
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Ratio:
    """One case's column divided by that of another, run by run."""

    title: str
    column: str
    one: str
    other: str
    runs: Sequence[float]


class Report:
    """Prints each result when it is there, and keeps all of them.

    Args:
        command: what was run, as the reader would repeat it.
    """

    def __init__(self, command: str) -> None:
        self.about: Final[dict[str, object]] = {
            "command": command,
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "python": platform.python_version(),
            "trio": trio.__version__,
            "cores": os.cpu_count(),
            "processor": _processor(),
            "system": platform.platform(),
            "masking": MASKING,
            "load average": os.getloadavg()[0],
        }
        self.tables: Final[list[Table]] = []
        self.ratios: Final[list[Ratio]] = []
        self.notes: Final[list[str]] = []
        self._started: Final = time.monotonic()
        self._cpu: Final = _cpu_times()
        print(", ".join(f"{name} {value}" for name, value in self.about.items()))

    def table(self, title: str, samples: Mapping[str, Sequence[Sample]], *, loss_voids: bool = True) -> None:
        """One line a case: the first column as median, minimum and maximum, the others as medians.

        Args:
            loss_voids: whether a run that lost frames is called void; not where loss is what is measured.
        """
        rows = [_row(name, runs, loss_voids) for name, runs in samples.items()]
        self.tables.append(Table(title, rows))
        columns = list(rows[0].values)
        main, rest = columns[0], columns[1:]
        width = max(len(title), *(len(row.name) for row in rows))
        print(f"\n{title:<{width}} {main:>12} {'min':>11} {'max':>11} {'lost':>6}", *(f"{c:>13}" for c in rest))
        for row in rows:
            values = row.values[main]
            print(
                f"{row.name:<{width}} {_number(statistics.median(values)):>12} {_number(min(values)):>11}"
                f" {_number(max(values)):>11} {row.lost:>6}",
                *(f"{_number(statistics.median(row.values[column])):>13}" for column in rest),
                *row.notes,
                flush=True,
            )

    def ratio(
        self, title: str, column: str, samples: Mapping[str, Sequence[Sample]], pairs: Iterable[tuple[str, str]]
    ) -> None:
        """One line a pair of cases: by how much the first one's column is that of the second, run by run."""
        ratios = []
        for one, other in pairs:
            turns = zip(samples[one], samples[other], strict=True)
            runs = [first.values[column] / second.values[column] for first, second in turns]
            ratios.append(Ratio(title, column, one, other, runs))
        self.ratios.extend(ratios)
        width = max(len(title), *(len(f"{ratio.one} / {ratio.other}") for ratio in ratios))
        print(f"\n{title:<{width}} {column:>12} {'min':>11} {'max':>11}")
        for ratio in ratios:
            print(
                f"{f'{ratio.one} / {ratio.other}':<{width}} {statistics.median(ratio.runs):>12.3f}"
                f" {min(ratio.runs):>11.3f} {max(ratio.runs):>11.3f}",
                flush=True,
            )

    def compare(
        self,
        title: str,
        columns: Iterable[str],
        samples: Mapping[str, Sequence[Sample]],
        pairs: Sequence[tuple[str, str]],
    ) -> None:
        """The same pairs for several columns; nothing without pairs."""
        if pairs:
            for column in columns:
                self.ratio(title, column, samples, pairs)

    def note(self, text: str) -> None:
        """Something the reader has to know, such as a rival that could not be measured."""
        self.notes.append(text)
        print(f"\n{text}", flush=True)

    def finish(self) -> None:
        """Says how much of the machine others took meanwhile."""
        whole, ours = (after - before for after, before in zip(_cpu_times(), self._cpu, strict=True))
        share = max(whole - ours, 0.0) / ((time.monotonic() - self._started) * (os.cpu_count() or 1))
        if share > QUIET:
            self.note(f"other processes took {share:.0%} of this machine's CPU time: on a quiet one there is more")

    def save(self, path: Path) -> None:
        """Everything as one JSON object."""
        save(path, self.about, self.tables, self.ratios, self.notes)


def save(
    path: Path, about: Mapping[str, object], tables: Sequence[Table], ratios: Sequence[Ratio], notes: Sequence[str]
) -> None:
    """One JSON object: `about`, `tables`, `ratios`, `notes`."""
    content = {
        "about": about,
        "tables": [asdict(table) for table in tables],
        "ratios": [asdict(ratio) for ratio in ratios],
        "notes": notes,
    }
    path.write_text(_json(content), encoding="utf-8")


def _json(content: object) -> str:
    """With six digits of each figure, and the runs of a case on one line."""

    def short(value: object) -> object:
        if isinstance(value, dict):
            return {key: short(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [short(item) for item in value]
        return float(f"{value:.6g}") if isinstance(value, float) else value

    text = json.dumps(short(content), indent=1, ensure_ascii=False)
    return re.sub(r"\[\s+([^][{}\"]+?)\s+\]", lambda found: f"[{' '.join(found[1].split())}]", text) + "\n"


def _cpu_times() -> tuple[float, float]:
    """CPU seconds of the whole machine (Linux), and of this process with those that it has waited for."""
    own = os.times()
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    except OSError:
        return 0.0, 0.0
    user, nice, system, _idle, _waiting, hard, soft = (int(field) for field in fields[:7])
    ticks = user + nice + system + hard + soft
    spent = own.user + own.system + own.children_user + own.children_system
    return ticks / os.sysconf("SC_CLK_TCK"), spent


def _row(name: str, runs: Sequence[Sample], loss_voids: bool) -> Row:
    notes = []
    void = sum(run.lost > LOSS_ALLOWED * run.sent for run in runs)
    if void and loss_voids:
        notes.append(f"VOID: {void} of {len(runs)} runs lost frames")
    for process in runs[0].busy:
        share = statistics.median(run.busy[process] for run in runs)
        if share > BOTTLENECK:
            notes.append(f"{process} takes {share:.0%} of a core: the bottleneck?")
    tested = statistics.median(1.0 if run.tested is None else run.tested for run in runs)
    if tested < WAITING:
        notes.append(f"relay takes only {tested:.0%} of a core: {next(iter(runs[0].values))} is less than it can do")
    values = {column: [run.values[column] for run in runs] for column in runs[0].values}
    return Row(name, values, sum(run.sent for run in runs), sum(run.lost for run in runs), notes)


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _processor() -> str:
    """The name that Linux has for it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
