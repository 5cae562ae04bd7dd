"""What a report keeps, and what tables and charts make of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from benchmarks import chart
from benchmarks.report import Case, Report, Sample, measure
from benchmarks.results import Results, put_into
from benchmarks.tables import markdown


def sample(rate: float, *, lost: int = 0, sender: float = 0.1, relay: float = 1.0) -> Sample:
    return Sample({"msg/s": rate, "us/msg": 1e6 / rate}, 10_000, lost, {"sender": sender}, relay)


def saved(path: Path, tables: Mapping[str, Mapping[str, Sequence[Sample]]]) -> Results:
    report = Report("python -m benchmarks hop")
    for title, samples in tables.items():
        report.table(title, samples)
        one, other = samples
        report.compare(title, ("msg/s", "us/msg"), samples, [(one, other)])
    report.save(path)
    return Results.load(path)


def test_runs_of_the_cases_alternate() -> None:
    order: list[str] = []

    def run(name: str) -> Sample:
        order.append(name)
        return sample(len(order))

    samples = measure([Case("a", lambda: run("a")), Case("b", lambda: run("b"))], 2)
    assert order == ["a", "b", "a", "b"]
    assert [run.values["msg/s"] for run in samples["b"]] == [2, 4]


def test_markdown_has_medians_spread_and_the_ratios_of_each_turn(tmp_path: Path) -> None:
    samples = {"ours": [sample(3000), sample(1000), sample(2000)], "theirs": [sample(1000), sample(1000), sample(500)]}
    lines = markdown(saved(tmp_path / "results.json", {"hop, 100 B": samples, "other": samples}), ["hop"]).splitlines()
    assert lines[0] == "`python -m benchmarks hop`"
    assert "| hop, 100 B | msg/s | least, most | us/msg | lost |" in lines
    assert "| ours | 2,000 | 1,000, 3,000 | 500 | 0 |" in lines
    assert "| hop, 100 B: ratios | msg/s | us/msg |" in lines
    assert "| ours / theirs | 3.00 (1.00 to 4.00) | 0.33 (0.25 to 1.00) |" in lines
    assert not any("other" in line for line in lines)


@pytest.mark.parametrize(
    ("run", "note"),
    [
        (sample(1000), None),
        (sample(1000, lost=10), None),
        (sample(1000, lost=11), "VOID: 1 of 1 runs lost frames"),
        (sample(1000, sender=0.91), "sender takes 91% of a core: the bottleneck?"),
        (sample(1000, relay=0.79), "relay takes only 79% of a core: msg/s is less than it can do"),
    ],
)
def test_a_row_says_what_is_wrong_with_it(run: Sample, note: str | None, tmp_path: Path) -> None:
    results = saved(tmp_path / "results.json", {"hop": {"ours": [run], "theirs": [run]}})
    assert results.tables[0].rows[0].notes == ([] if note is None else [note])
    assert (note or "VOID") in markdown(results) or note is None


def test_a_text_takes_the_place_of_the_one_between_two_comments(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n<!-- goals -->\nold\n<!-- /goals -->\n\nend\n")
    put_into(page, "goals", "new\nlines\n")
    assert page.read_text() == "# Page\n\n<!-- goals -->\nnew\nlines\n<!-- /goals -->\n\nend\n"
    with pytest.raises(ValueError, match=r"expected comments <!-- tables --> and <!-- /tables --> in .*page\.md"):
        put_into(page, "tables", "new")


def test_a_chart_needs_a_suffix_that_says_what_it_is() -> None:
    assert chart.missing(Path("chart.pdf")) == "expected a chart that ends with .svg or .png, not 'chart.pdf'"


def test_a_chart_without_matplotlib_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chart, "find_spec", lambda name: None)
    assert chart.missing(Path("chart.svg")) == "charts need matplotlib: pip install 'trio-relay[bench]'"


def test_a_chart_has_a_panel_for_each_table_that_is_wanted(tmp_path: Path) -> None:
    samples = {"trio_relay": [sample(90_000), sample(80_000)], "peer-relay": [sample(1000), sample(1200)]}
    results = saved(tmp_path / "results.json", {"hop, 100 B": samples, "star": samples})
    chart.draw(results, tmp_path / "chart.svg")
    drawn = (tmp_path / "chart.svg").read_text()
    assert "hop, 100 B: msg/s" in drawn
    assert ">85,000<" in drawn
    assert "logarithmic" in drawn
    assert "star: msg" not in drawn
    with pytest.raises(ValueError, match="no table starts with wire; there are hop, 100 B, star"):
        chart.draw(results, tmp_path / "chart.svg", ["wire"])
