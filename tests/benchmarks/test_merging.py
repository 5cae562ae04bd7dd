"""Results of one part in the place of older ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from benchmarks.__main__ import BENCHMARKS
from benchmarks.merging import PARTS, merge, merge_file, part
from benchmarks.report import Ratio, Report, Row, Sample, Table
from benchmarks.results import Results

RESULTS: Final = Path(__file__).parents[2] / "docs" / "benchmarks.json"


def results(titles: Sequence[str], value: float, notes: Sequence[str] = (), command: str = "all") -> Results:
    return Results(
        {"command": command, "date": "2030-01-01", "load average": 0.5},
        [Table(title, [Row("trio_relay", {"msg/s": [value]}, 1, 0, [])]) for title in titles],
        [Ratio(title, "msg/s", "trio_relay", "other", [value]) for title in titles],
        notes,
    )


def found(merged: Results) -> list[tuple[str, float]]:
    tables = [(table.title, table.rows[0].values["msg/s"][0]) for table in merged.tables]
    assert [(ratio.title, ratio.runs[0]) for ratio in merged.ratios] == tables
    return tables


def test_a_part_takes_the_place_of_the_same_part() -> None:
    old = results(["hop, 100 B", "wsrelay, 100 B", "wsrelay, held", "soak, 100 B"], 1.0)
    merged = merge(old, results(["wsrelay, 100 B", "wsrelay, 1,024 B"], 2.0))
    assert found(merged) == [("hop, 100 B", 1), ("wsrelay, 100 B", 2), ("wsrelay, 1,024 B", 2), ("soak, 100 B", 1)]
    assert merged.about == old.about


def test_a_part_that_is_new_comes_last() -> None:
    merged = merge(results(["hop, 100 B"], 1.0), results(["peerjs, 1,024 B"], 2.0))
    assert found(merged) == [("hop, 100 B", 1), ("peerjs, 1,024 B", 2)]


def test_what_an_option_measures_instead_of_a_part_is_a_part_of_its_own() -> None:
    titles = ["webrtc, 100 B", "webrtc, bare aiortc, growth", "webrtc, transfer of 100 MB"]
    merged = merge(results(titles, 1.0), results(["webrtc, transfer of 6 MB"], 2.0))
    assert found(merged) == [(titles[0], 1), (titles[1], 1), ("webrtc, transfer of 6 MB", 2)]


def test_notes_say_what_they_are_about_and_are_replaced_with_it() -> None:
    old = results(["hop, 100 B", "wsrelay, 100 B"], 1.0, ["idle: old", "wsrelay: old"])
    new = results(["wsrelay, 100 B"], 2.0, ["wsrelay: new", "other processes took 9%"], "python -m benchmarks wsrelay")
    merged = merge(old, new)
    assert merged.notes == [
        "idle: old",
        "wsrelay: new",
        "wsrelay: measured on 2030-01-01, load average 0.5, by `python -m benchmarks wsrelay`",
        "wsrelay: other processes took 9%",
    ]
    assert merge(merged, new).notes == merged.notes


def test_a_table_of_no_known_part_is_refused() -> None:
    with pytest.raises(ValueError, match="no part is known to measure 'surprise, 100 B'"):
        merge(results([], 1.0), results(["surprise, 100 B"], 2.0))


def test_everything_in_the_file_of_the_documentation_belongs_to_a_part() -> None:
    known = Results.load(RESULTS)
    texts = [*(table.title for table in known.tables), *(ratio.title for ratio in known.ratios), *known.notes]
    assert [text for text in texts if part(text) is None] == []
    assert {owner.partition(" ")[0] for owner in PARTS.values()} == set(BENCHMARKS)


def test_merging_keeps_the_other_figures_of_a_file(tmp_path: Path) -> None:
    copy = tmp_path / "results.json"
    copy.write_bytes(RESULTS.read_bytes())
    report = Report("python -m benchmarks soak")
    report.table("soak, 100 B, window 256", {"relay": [Sample({"relay MiB": 1.5})]})
    merge_file(copy, report)
    before, after = json.loads(RESULTS.read_text(encoding="utf-8")), json.loads(copy.read_text(encoding="utf-8"))
    assert after["about"] == before["about"]
    changed = [new["title"] for old, new in zip(before["tables"], after["tables"], strict=True) if old != new]
    assert changed == ["soak, 100 B, window 256"]
    assert [ratio for ratio in before["ratios"] if ratio not in after["ratios"]] == [
        ratio for ratio in before["ratios"] if ratio["title"] == "soak, growth"
    ]
