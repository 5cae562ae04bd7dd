"""``python -m benchmarks.chart RESULTS.json CHART.svg [TITLE]...``: a panel for each table.

The suffix says whether it becomes SVG or PNG. A bar is the median of a table's first column, a line on it reaches from
the least to the most. Only tables whose title starts with one of those that are named; by default those of `hop` and
`endtoend`.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from .report import Table
from .results import Results, matching, number

__all__ = ["DEFAULT", "draw", "main", "missing"]

DEFAULT: Final = ("hop", "endtoend")
"""The tables that are drawn if none is named."""
_LOG_FROM: Final = 20.0
"""The largest value is so many times the smallest: then the scale is logarithmic."""
_OURS: Final = "trio_relay"
_BLUE, _GREY, _INK, _FAINT = "#2f6f9f", "#b9bfc6", "#24292f", "#6e7781"
_COLUMNS: Final = 2
_WIDTH: Final = 6.2
_ROW_HEIGHT: Final = 0.36
_MARGIN: Final = 1.0
_SUFFIXES: Final = (".svg", ".png")


def missing(path: Path) -> str | None:
    """Why no chart can be drawn there, or None."""
    if path.suffix not in _SUFFIXES:
        return f"expected a chart that ends with {' or '.join(_SUFFIXES)}, not {path.name!r}"
    if find_spec("matplotlib") is None:
        return "charts need matplotlib: pip install 'trio-relay[bench]'"
    return None


def draw(results: Results, path: Path, titles: Sequence[str] = DEFAULT) -> None:
    """Writes the chart.

    Raises:
        ValueError: no table is wanted, or the chart cannot be drawn (`missing`).
    """
    problem = missing(path)
    tables = [table for table in results.tables if matching(table.title, titles)]
    if problem is None and not tables:
        problem = f"no table starts with {' or '.join(titles)}; there are {', '.join(t.title for t in results.tables)}"
    if problem is not None:
        raise ValueError(problem)
    import matplotlib as mpl

    mpl.use("agg")
    # With the salt, the same results make the same file.
    style = {"svg.hashsalt": "benchmarks", "svg.fonttype": "none", "font.size": 9}
    with mpl.rc_context(style):
        figure = _figure(results, tables)
        figure.savefig(path, dpi=150, facecolor="white", metadata={"Date": None} if path.suffix == ".svg" else None)


def _figure(results: Results, tables: Sequence[Table]) -> Any:
    """Panels in two columns; each line of panels as high as its longest table."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = min(_COLUMNS, len(tables))
    lines = [tables[start : start + columns] for start in range(0, len(tables), columns)]
    heights = [max(len(table.rows) for table in line) * _ROW_HEIGHT + _MARGIN for line in lines]
    engine = ConstrainedLayoutEngine(h_pad=0.1)
    figure = Figure(figsize=(_WIDTH * columns, sum(heights) + 0.5), layout=engine)
    grid = figure.add_gridspec(len(lines), columns, height_ratios=heights)
    for place, table in enumerate(tables):
        line = lines[place // columns]
        _panel(figure.add_subplot(grid[divmod(place, columns)]), table, max(len(other.rows) for other in line))
    about = (str(results.about[name]) for name in ("processor", "date") if name in results.about)
    runs = len(next(iter(tables[0].rows[0].values.values())))
    text = f"Median of {runs} runs, line from least to most. {', '.join(about)}, {results.about.get('cores')} cores."
    figure.supxlabel(text, fontsize=8, color=_FAINT)
    return figure


def _panel(axes: Any, table: Table, room: int) -> None:
    """One table, its first row on top; `room` for as many rows as its neighbour has."""
    from matplotlib.ticker import MaxNLocator

    column = next(iter(table.rows[0].values))
    runs = [row.values[column] for row in table.rows]
    medians = [statistics.median(values) for values in runs]
    least, most = min(map(min, runs)), max(map(max, runs))
    log = least > 0 and most / least > _LOG_FROM
    places = range(len(runs))
    colours = [_BLUE if row.name.startswith(_OURS) else _GREY for row in table.rows]
    axes.barh(places, medians, color=colours, height=0.62)
    axes.hlines(places, [min(values) for values in runs], [max(values) for values in runs], color=_INK, linewidth=1.2)
    for place, values in enumerate(runs):
        axes.annotate(number(values), (max(values), place), (5, 0), textcoords="offset points", va="center", color=_INK)
    axes.set_yticks(places, [row.name + (" (void)" if _is_void(row.notes) else "") for row in table.rows])
    axes.set_ylim(room - 0.5, -0.5)
    if log:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.xaxis.set_major_formatter("{x:,.0f}")
    if not log:
        axes.xaxis.set_major_locator(MaxNLocator(5))
    # Room for the labels on the right.
    axes.set_xlim(least / 3 if log else 0, most * (most / least * 3) ** 0.2 if log else most * 1.18)
    worth = "less" if " us" in f" {column}" or "bytes" in column or "MiB" in column else "more"
    axes.set_title(f"{table.title}: {column}", loc="left", fontweight="bold", color=_INK)
    axes.set_xlabel(f"{worth} is better{', logarithmic' if log else ''}", color=_FAINT, fontsize=8)
    axes.tick_params(axis="y", length=0, labelcolor=_INK)
    axes.tick_params(axis="x", colors=_FAINT, labelsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_GREY)


def _is_void(notes: Sequence[str]) -> bool:
    return any(note.startswith("VOID") for note in notes)


def main() -> None:
    """Draws what a file has."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chart", description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("chart", type=Path)
    parser.add_argument("titles", nargs="*")
    arguments = parser.parse_args()
    try:
        draw(Results.load(arguments.results), arguments.chart, arguments.titles or DEFAULT)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
