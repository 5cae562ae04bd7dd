"""The documents: their links lead somewhere, their Python compiles; other tests execute it."""

from __future__ import annotations

import itertools
import re
import runpy
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import pytest

from .documents import DOCUMENTS, EXAMPLES, FENCE, blocks, blocks_of, compile_block, name_of
from .shown import matches

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


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_of_document_resolve(document: Path) -> None:
    assert broken_links(document.read_text(encoding="utf-8"), document) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_python_of_document_compiles(document: Path) -> None:
    failures = []
    for block in blocks(document):
        try:
            if block.language == "python":
                compile_block(block.padded, document.name)
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
    good, _, bad = blocks_of(text)
    assert (good.language, bad.language, bad.line) == ("python", "python", 14)
    compile_block(good.padded, "page.md")
    with pytest.raises(SyntaxError) as caught:
        compile_block(bad.padded, "page.md")
    assert caught.value.lineno == 14


def test_marks_and_outputs_are_read() -> None:
    text = "<!-- fragment: a signature -->\n```python\nf(x)\n```\n\n<!-- output -->\n```text\n...\n```\n"
    fragment, output = blocks_of(text)
    assert (fragment.mark, fragment.reason, output.mark) == ("fragment", "a signature", "output")
    assert matches(["a", "...", "c"], ["a", "b", "b", "c"])
    assert matches(["a", "..."], ["a"])
    assert not matches(["a"], ["a", "b"])
    assert not matches(["...", "c"], ["a", "b"])


def test_every_output_belongs_to_something_that_is_executed() -> None:
    """Python by tests/test_docs_python.py, commands by tests/test_docs_tutorial.py."""
    for document in DOCUMENTS:
        found = blocks(document)
        shell = document.name == "tutorial.md"
        for block, following in itertools.pairwise(found):
            if following.mark == "output":
                assert (block.language, block.mark) == ("sh" if shell else "python", ""), str(following)
