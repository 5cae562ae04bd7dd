"""What a run says of the goals; and the figures of the documentation are those of one run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from benchmarks.report import Ratio, Row, Table
from benchmarks.results import Results
from benchmarks.summary import GOALS, summary
from benchmarks.tables import markdown

DOCS: Final = Path(__file__).parents[2] / "docs"


def test_a_goal_is_reached_or_missed_by_the_median() -> None:
    hop, latency = GOALS[0], next(goal for goal in GOALS if not goal.least)
    assert hop.other is not None
    assert latency.other is not None
    star = next(goal for goal in GOALS if goal.title == "star")
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


@pytest.mark.parametrize(
    ("title", "row", "void"),
    [
        ("same", "one", True),
        ("same", "other", True),
        ("same", "third", False),
        ("variants", "one", False),
        ("none", "", False),
    ],
)
def test_a_goal_with_a_void_run_is_void_and_not_reached(title: str, row: str, void: bool) -> None:
    goal = GOALS[0]
    names = {"one": goal.one, "other": goal.other or "", "third": "third"}
    titles = {"same": goal.title, "variants": f"{goal.title}, variants"}
    lost = "VOID: 1 of 5 runs lost frames"
    busy = "sender takes 95% of a core: the bottleneck?"
    tables = [
        Table(
            text,
            [
                Row(name, {}, 0, 0, [busy, lost] if (which, key) == (title, row) else [busy])
                for key, name in names.items()
            ],
        )
        for which, text in titles.items()
    ]
    results = Results({}, tables, [Ratio(goal.title, goal.column, goal.one, names["other"], [30.0])], [])
    assert summary(results).splitlines()[2:] == [f"| {goal.what} | ≥ 10 | 30.0 | {'void' if void else ''} |"]


def test_a_table_with_more_in_its_title_makes_a_goal_void_too() -> None:
    goal = next(goal for goal in GOALS if goal.title == "memory, bytes/link")
    assert goal.other is not None
    tables = [Table(f"{goal.title} after 7 s", [Row(goal.one, {}, 0, 9, ["VOID: 1 of 1 runs lost frames"])])]
    results = Results({}, tables, [Ratio(goal.title, goal.column, goal.one, goal.other, [0.5])], [])
    assert summary(results).splitlines()[2:] == [f"| {goal.what} | ≤ 1 | 0.50 | void |"]


def test_a_goal_can_be_the_difference_of_two_columns() -> None:
    goal = next(goal for goal in GOALS if goal.minus is not None)
    assert goal.minus is not None
    values = {goal.column: [3.5, 3.0], goal.minus: [3.0, 2.875]}
    every = {"arrived %": [100.0, 100.0], **values}
    results = Results({}, [Table(goal.title, [Row(goal.one, every, 0, 0, [])])], [], [])
    assert goal.runs(results) == [0.5, 0.125]
    assert f"| {goal.what} | ≤ 0.1 | 0.31 (0.12 to 0.50) | missed |" in summary(results).splitlines()


@pytest.mark.parametrize(("page", "mark"), [("benchmarks.md", "goals"), ("benchmark-tables.md", "tables")])
def test_the_documented_figures_are_those_of_the_file(page: str, mark: str) -> None:
    """`python -m benchmarks.summary docs/benchmarks.json`, and the same with `tables`, made them."""
    results = Results.load(DOCS / "benchmarks.json")
    made = {"goals": summary, "tables": markdown}[mark](results)
    found = re.search(f"<!-- {mark} -->\n(.*?)<!-- /{mark} -->", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    assert found[1].strip() == made.strip()
