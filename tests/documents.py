"""The documents of this repository as tests see them: their fenced blocks, and what is said before a block.

Marks are HTML comments on the line above a fence, which no reader sees:

- ``<!-- fragment: why -->``: not executed, because it is no program;
- ``<!-- output -->``: what the program or the commands above it print;
- ``<!-- serves -->``: a program that prints the URL at which it serves, and goes on;
- ``<!-- vectors: NAME -->``: what clients and a relay server of that kind say to each other.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TOP: Final = Path(__file__).parent.parent
DOCS: Final = TOP / "docs"
DOCUMENTS: Final = [
    *(TOP / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts),
]
RELAY_PAGES: Final = [DOCS / "howto" / name for name in ("relay-server.md", "relay-client.md")]
"""Their blocks of Python need a running relay server."""
PEER_PAGE: Final = DOCS / "howto" / "peerjs.md"
"""Its blocks of Python need a broker and peers."""
ROOM_PAGE: Final = DOCS / "howto" / "rooms.md"
"""Its blocks of Python need a room, and somebody in it."""
EXAMPLES: Final = sorted((DOCS / "examples").glob("*.py"))

FENCE: Final = re.compile(r"^([ ]*)```(\w*)[^\n]*\n(.*?)^[ ]*```[ ]*$", re.MULTILINE | re.DOTALL)
_MARK: Final = re.compile(r"<!-- (\w+)(?:: ([^\n]*?))? -->\s*\Z")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Attributes:
        page: the document, relative to the repository.
        line: of its first line of code, from 1.
        mark, reason: of the comment above it, empty without.
    """

    page: str
    line: int
    language: str
    code: str
    mark: str = ""
    reason: str = ""

    @property
    def padded(self) -> str:
        """The code with the line numbers that it has in its document."""
        return "\n" * (self.line - 1) + self.code

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def name_of(document: Path) -> str:
    """Relative to the repository."""
    return document.relative_to(TOP).as_posix()


def blocks_of(text: str, page: str = "page.md") -> Iterator[Block]:
    """The fenced blocks of a Markdown text, in their order."""
    for match in FENCE.finditer(text):
        before = text[: match.start()]
        found = _MARK.search(before)
        mark, reason = (found[1], found[2] or "") if found else ("", "")
        line = text.count("\n", 0, match.start(3)) + 1
        yield Block(page, line, match[2], textwrap.dedent(match[3]), mark, reason)


def blocks(document: Path) -> list[Block]:
    """The fenced blocks of a document."""
    return list(blocks_of(document.read_text(encoding="utf-8"), name_of(document)))


def compile_block(source: str, filename: str) -> object:
    """Raises SyntaxError; `await` and `async with` may stand outside a function, as in a snippet they do."""
    return compile(source, filename, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
