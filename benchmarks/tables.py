"""``python -m benchmarks.tables RESULTS.json [TITLE]...``: what was measured as Markdown.

Only tables whose title starts with one of those that are named, if there are any.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from .report import Ratio, Row, Table
from .results import Results, matching, number, put_into

__all__ = ["main", "markdown"]


def markdown(results: Results, titles: Sequence[str] = ()) -> str:
    """Every table that is wanted, each with its ratios below it."""
    about = [", ".join(f"{name} {value}" for name, value in results.about.items() if name != "command")]
    blocks = [[f"`{results.about['command']}`"], about]
    for table in results.tables:
        if matching(table.title, titles):
            blocks.append(list(_table(table)))
    ratios: dict[str, list[Ratio]] = {}
    for ratio in results.ratios:
        if matching(ratio.title, titles):
            ratios.setdefault(ratio.title, []).append(ratio)
    blocks += [list(_ratios(title, group)) for title, group in ratios.items()]
    blocks += [[f"- {note}"] for note in results.notes]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _table(table: Table) -> Iterator[str]:
    first, *rest = table.rows[0].values
    yield _line([table.title, first, "least, most", *rest, "lost"])
    yield _line(["---", *["---:"] * (len(rest) + 3)])
    for row in table.rows:
        values = row.values[first]
        spread = f"{number([min(values)])}, {number([max(values)])}"
        yield _line([_name(row), number(values), spread, *(number(row.values[column]) for column in rest), row.lost])


def _name(row: Row) -> str:
    return row.name + "".join(f"<br>*{note}*" for note in row.notes)


def _ratios(title: str, ratios: Sequence[Ratio]) -> Iterator[str]:
    """One line for each pair of rows, one column for each of theirs."""
    columns = list(dict.fromkeys(ratio.column for ratio in ratios))
    yield _line([f"{title}: ratios", *columns])
    yield _line(["---", *["---:"] * len(columns)])
    for one, other in dict.fromkeys((ratio.one, ratio.other) for ratio in ratios):
        cells = {ratio.column: _spread(ratio.runs) for ratio in ratios if (ratio.one, ratio.other) == (one, other)}
        yield _line([f"{one} / {other}", *(cells.get(column, "") for column in columns)])


def _spread(runs: Sequence[float]) -> str:
    return f"{number(runs)} ({number([min(runs)])} to {number([max(runs)])})"


def _line(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Prints what a file has."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("titles", nargs="*")
    parser.add_argument("--into", type=Path, metavar="PAGE", help="put it there, between <!-- tables --> and its end")
    arguments = parser.parse_args()
    text = markdown(Results.load(arguments.results), arguments.titles)
    if arguments.into is None:
        print(text, end="")
    else:
        put_into(arguments.into, "tables", text)


if __name__ == "__main__":
    main()
