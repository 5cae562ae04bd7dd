"""What a run says of the goals; and the figures of the documentation are those of one run."""

from __future__ import annotations

from benchmarks.report import Ratio, Row, Table
from benchmarks.results import Results
from benchmarks.summary import GOALS, summary


def test_a_goal_is_reached_or_missed_by_the_median() -> None:
    hop, latency = GOALS[0], next(goal for goal in GOALS if not goal.least)
    assert hop.other is not None
    assert latency.other is not None
    star = next(goal for goal in GOALS if goal.other is None)
    results = Results(
        {},
        [Table(f"{star.title}, 100 messages", [Row(star.one, {star.column: [99.9, 100.0, 100.0]}, 0, 0, [])])],
        [
            Ratio(hop.title, hop.column, hop.one, hop.other, [9.0, 9.9, 30.0]),
            Ratio(latency.title, latency.column, latency.one, latency.other, [1.0, 1.3, 2.0]),
            Ratio("elsewhere", hop.column, hop.one, hop.other, [30.0]),
        ],
        [],
    )
    assert summary(results).splitlines()[2:] == [
        f"| {hop.what} | ≥ 10 | 9.90 (9.00 to 30.0) | missed |",
        f"| {latency.what} | ≤ 1.3 | 1.30 (1.00 to 2.00) |  |",
        f"| {star.what} | ≥ 100 | 100 (99.9 to 100) |  |",
    ]
