"""Samples, and the table that is printed of them."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from trio_relay.wire.masking import MASKING

__all__ = ["Case", "Sample", "measure", "print_machine", "print_ratios", "print_table"]

LOSS_ALLOWED: Final = 0.001
"""A run that lost more than this share of its frames measured something else."""
BOTTLENECK: Final = 0.9
"""A generator that takes so much of a core may have been what limited the run."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One run.

    Attributes:
        values: what was measured, by column; all runs of a case have the same columns.
        sent, lost: frames.
        busy: CPU share (1.0 is one core) of each process that is not under test, by name.
    """

    values: Mapping[str, float]
    sent: int
    lost: int
    busy: Mapping[str, float] = field(default_factory=dict)


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


def print_machine() -> None:
    """What the numbers depend on."""
    print(
        f"CPython {platform.python_version()}, Trio {trio.__version__}, {os.cpu_count()} cores, "
        f"masking by {MASKING}, load average {os.getloadavg()[0]:.1f}"
    )


def print_table(title: str, samples: Mapping[str, Sequence[Sample]]) -> None:
    """One line a case: the first column as median, minimum and maximum, the others as medians."""
    columns = list(next(iter(samples.values()))[0].values)
    main, rest = columns[0], columns[1:]
    width = max(len(title), *map(len, samples))
    print(f"\n{title:<{width}} {main:>12} {'min':>11} {'max':>11} {'lost':>6}", *(f"{c:>13}" for c in rest))
    for name, runs in samples.items():
        values = [run.values[main] for run in runs]
        print(
            f"{name:<{width}} {_number(statistics.median(values)):>12} {_number(min(values)):>11}"
            f" {_number(max(values)):>11} {sum(run.lost for run in runs):>6}",
            *(f"{_number(statistics.median(run.values[column] for run in runs)):>13}" for column in rest),
            *_notes(runs),
        )


def print_ratios(
    title: str, column: str, samples: Mapping[str, Sequence[Sample]], pairs: Sequence[tuple[str, str]]
) -> None:
    """One line a pair of cases: by how much the first one's column is that of the second, run by run."""
    width = max(len(title), *(len(f"{one} / {other}") for one, other in pairs))
    print(f"\n{title:<{width}} {column:>12} {'min':>11} {'max':>11}")
    for one, other in pairs:
        runs = zip(samples[one], samples[other], strict=True)
        ratios = sorted(first.values[column] / second.values[column] for first, second in runs)
        median = statistics.median(ratios)
        print(f"{f'{one} / {other}':<{width}} {median:>12.3f} {ratios[0]:>11.3f} {ratios[-1]:>11.3f}")


def _notes(runs: Sequence[Sample]) -> list[str]:
    notes = []
    void = sum(run.lost > LOSS_ALLOWED * run.sent for run in runs)
    if void:
        notes.append(f"VOID: {void} of {len(runs)} runs lost frames")
    for name in runs[0].busy:
        share = statistics.median(run.busy[name] for run in runs)
        if share > BOTTLENECK:
            notes.append(f"{name} takes {share:.0%} of a core: the bottleneck?")
    return notes


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
