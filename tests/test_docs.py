"""The documents: their links lead somewhere, their Python compiles, the examples import."""

from __future__ import annotations

import ast
import re
import runpy
import textwrap
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import pytest

TOP: Final = Path(__file__).parent.parent
DOCUMENTS: Final = [
    *(TOP / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((TOP / "docs").rglob("*.md")),
]
EXAMPLES: Final = sorted((TOP / "docs" / "examples").glob("*.py"))

FENCE: Final = re.compile(r"^([ ]*)```(\w*)[^\n]*\n(.*?)^[ ]*```[ ]*$", re.MULTILINE | re.DOTALL)
INLINE_CODE: Final = re.compile(r"`[^`\n]*`")
LINK: Final = re.compile(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)|^\[[^\]]+\]:\s+(\S+)", re.MULTILINE)
HEADING: Final = re.compile(r"^#{1,6}\s+(.*?)\s*#*$", re.MULTILINE)


def anchors(text: str) -> set[str]:
    """The fragments by which GitHub lets a link point at the headings of a Markdown text."""
    found: set[str] = set()
    for heading in HEADING.findall(FENCE.sub("", text)):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")
        repeats = sum(1 for known in found if re.fullmatch(re.escape(slug) + r"(-\d+)?", known))
        found.add(f"{slug}-{repeats}" if slug in found else slug)
    return found


def leads_somewhere(target: str, document: Path) -> bool:
    """Whether a relative link in `document` names a file that exists and, in Markdown, a heading that it has."""
    name, _, fragment = unquote(target).partition("#")
    file = document.parent / name if name else document
    if not file.exists():
        return False
    return not fragment or file.suffix != ".md" or fragment in anchors(file.read_text(encoding="utf-8"))


def broken_links(text: str, document: Path) -> list[str]:
    """The relative links of a Markdown text that lead nowhere; `document` is where it lies."""
    prose = INLINE_CODE.sub("", FENCE.sub("", text))
    targets = [inline or reference for inline, reference in LINK.findall(prose)]
    relative = [target for target in targets if not re.match(r"[a-z][a-z0-9+.-]*:", target)]
    return [target for target in relative if not leads_somewhere(target, document)]


def python_blocks(text: str) -> list[str]:
    """The fenced blocks marked `python`, each padded so that its line numbers are those of the document."""
    blocks = (match for match in FENCE.finditer(text) if match[2] == "python")
    return ["\n" * text.count("\n", 0, match.start(3)) + textwrap.dedent(match[3]) for match in blocks]


def compile_block(source: str, filename: str) -> None:
    """Raises SyntaxError; `await` and `async with` may stand outside a function, as in a snippet they do."""
    compile(source, filename, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(TOP)))
def test_links_of_document_resolve(document: Path) -> None:
    assert broken_links(document.read_text(encoding="utf-8"), document) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(TOP)))
def test_python_of_document_compiles(document: Path) -> None:
    failures = []
    for block in python_blocks(document.read_text(encoding="utf-8")):
        try:
            compile_block(block, document.name)
        except SyntaxError as error:
            failures.append(str(error))
    assert failures == []


def test_examples_import_without_running() -> None:
    without_main = [path.name for path in EXAMPLES if "main" not in runpy.run_path(str(path), run_name="example")]
    assert without_main == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    (tmp_path / "other page.md").write_text("# A `name` & more\n\n## Twice\n\n## Twice\n")
    text = """
# Here
[gone](missing.md) [fine](other%20page.md#a-name--more) [second](other%20page.md#twice-1 "title")
[no heading](other%20page.md#elsewhere) [own](#here) [own gone](#there)
[web](https://example.org/missing) `[code](missing.md)`
[ref]: also-missing.md
```text
[in a block](missing.md)
```
"""
    expected = ["missing.md", "other%20page.md#elsewhere", "#there", "also-missing.md"]
    page.write_text(text)
    assert broken_links(text, page) == expected


def test_only_blocks_marked_python_are_compiled() -> None:
    text = "x\n\n- item\n\n  ```python\n  await f()\n  ```\n\n```sh\nls -l\n```\n\n```python\na b\n```\n"
    good, bad = python_blocks(text)
    compile_block(good, "page.md")
    with pytest.raises(SyntaxError) as caught:
        compile_block(bad, "page.md")
    assert caught.value.lineno == 14
