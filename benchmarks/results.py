"""The file that `Report.save` writes, read back."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .report import Ratio, Row, Table

__all__ = ["Results", "matching", "number", "put_into"]


@dataclass(frozen=True, slots=True)
class Results:
    """What was measured: where, the tables, the ratios between their rows, and what the reader has to know."""

    about: Mapping[str, object]
    tables: Sequence[Table]
    ratios: Sequence[Ratio]
    notes: Sequence[str]

    @classmethod
    def load(cls, path: Path) -> Results:
        """Reads a file."""
        content = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            content["about"],
            [Table(table["title"], [Row(**row) for row in table["rows"]]) for table in content["tables"]],
            [Ratio(**ratio) for ratio in content["ratios"]],
            content["notes"],
        )


def matching(title: str, wanted: Sequence[str]) -> bool:
    """Whether a title starts with one that is wanted; all are, if none is named."""
    return not wanted or title.startswith(tuple(wanted))


def number(values: Sequence[float]) -> str:
    """The median, with three digits and thousands apart."""
    median = statistics.median(values)
    if median >= 100:
        return f"{median:,.0f}"
    return f"{median:.1f}" if median >= 10 else f"{median:.2f}"


def put_into(page: Path, mark: str, text: str) -> None:
    """Replaces what stands between the comments ``mark`` and ``/mark`` of a Markdown page.

    Raises:
        ValueError: the page has no such comments.
    """
    before, start, rest = page.read_text(encoding="utf-8").partition(f"<!-- {mark} -->\n")
    _, end, after = rest.partition(f"<!-- /{mark} -->")
    if not end:
        raise ValueError(f"expected comments <!-- {mark} --> and <!-- /{mark} --> in {page}")
    page.write_text("".join((before, start, text.strip(), "\n", end, after)), encoding="utf-8")
