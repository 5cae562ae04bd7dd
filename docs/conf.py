"""How Sphinx builds the pages of this folder: `nox -s docs`, or `sphinx-build -W -n docs docs/_build/html`.

The pages are Markdown that a code host shows as well: links are relative, what is Sphinx's own is in `reference/` and
`index.md` only.
"""

from __future__ import annotations

import re
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, Final

from docutils import nodes
from pygments.lexers.special import TextLexer
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import trio_relay
import trio_relay.node.values
import trio_relay.peerix
import trio_relay.peerix.hub
import trio_relay.peerjs
import trio_relay.testing
import trio_relay.wsrelay
from trio_relay.wire.json import JSONValue

HERE: Final = Path(__file__).parent

project = "trio_relay"
author = "The trio_relay developers"
version = release = installed_version("trio-relay")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
nitpicky = True
# Names of other packages have no page here, nor have those of inner modules, if they are not public.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!trio_relay).*"),
    (
        r"py:class",
        r"trio_relay\.(node|overlay|transports|wire|testing\.[a-z_]+|wsrelay\.[a-z_]+|peerjs\.[a-z_]+|peerix\.[a-z_]+)\..*",
    ),
]

myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
maximum_signature_line_length = 80
python_display_short_literal_types = True

html_theme = "furo"
html_title = f"trio_relay {version}"
html_static_path: list[str] = []
html_copy_source = False
html_show_copyright = False

_PUBLIC: Final = {
    **{name: f"trio_relay.testing.{name}" for name in trio_relay.testing.__all__},
    **{name: f"trio_relay.wsrelay.{name}" for name in trio_relay.wsrelay.__all__},
    **{name: f"trio_relay.{name}" for name in trio_relay.__all__},
}
"""Public name -> where the reference has it."""
_PUBLIC_OF_SLICES: Final[dict[str, dict[str, str]]] = {
    "peerjs": {
        name: f"trio_relay.peerjs.{name}" for name in trio_relay.peerjs.__all__ if name not in trio_relay.__all__
    },
    "peerix": {
        **{name: f"trio_relay.peerix.hub.{name}" for name in trio_relay.peerix.hub.__all__},
        **{name: f"trio_relay.peerix.{name}" for name in trio_relay.peerix.__all__},
    },
}
"""In its docstrings and on its page, these come first: the relay server has a `Peer`, too, and a node a `Message`."""
_PAGES_OF_SLICES: Final = {
    "reference/peerjs": "peerjs",
    "reference/peerix": "peerix",
    "reference/signalling-hub": "peerix",
}


def _public_for(slice: str | None) -> dict[str, str]:
    """What a name stands for in the docstrings of a slice of the package; None: of the rest of it."""
    others = {name: place for of, names in _PUBLIC_OF_SLICES.items() for name, place in names.items() if of != slice}
    return others | _PUBLIC | _PUBLIC_OF_SLICES.get(slice or "", {})


_OUTWARD: Final = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+[^)#]*)(#[^)]*)?\)")
_ROLE: Final = re.compile(r"(?<![`:\w])`([^`]+)`(?![`_])")


def _unlink_files_outside(app: Sphinx, page: str, source: list[str]) -> None:
    """A link to a file of the repository that is no page becomes the text of the link and the file's name."""
    folder = (HERE / page).parent

    def plain(match: re.Match[str]) -> str:
        target = (folder / match[2]).resolve()
        if target.is_relative_to(HERE):
            return match[0]
        name = target.relative_to(HERE.parent).as_posix()
        text: str = match[1]
        return f"`{name}`" if text.strip("`") in (name, target.name) else f"{text} (`{name}`)"

    source[0] = _OUTWARD.sub(plain, source[0])


def _link_names(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """In docstrings, `Name` and `Name.member` of what is public become links, which must resolve; the rest is code."""

    public = _public_for(name.removeprefix("trio_relay.").partition(".")[0])

    def role(match: re.Match[str]) -> str:
        first, _, rest = match[1].partition(".")
        first, rest = (rest, "") if first == "trio_relay" and "." not in rest else (first, rest)
        if first not in public or not all(part.isidentifier() for part in rest.split(".") if rest):
            return f"``{match[1]}``"
        return f":py:obj:`{match[1]} <{public[first]}{'.' * bool(rest)}{rest}>`"

    lines[:] = [_ROLE.sub(role, line) for line in lines]


def _find_public(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.TextElement
) -> nodes.Element | None:
    """Signatures name a class by the module that defines it; the reference has it by its public name."""
    last = node["reftarget"].rpartition(".")[2]
    public = _public_for(_PAGES_OF_SLICES.get(env.docname)).get(last)
    if node.get("refdomain") != "py" or public is None or public == node["reftarget"]:
        return None
    domain: Any = env.get_domain("py")
    found: nodes.Element | None = domain.resolve_xref(env, node["refdoc"], app.builder, "obj", public, node, contnode)
    return found


def _show_factories(
    app: Sphinx, what: str, name: str, obj: object, options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """A default that is made anew each time is ``...``: what the signature has for it can not be laid out."""
    return (signature.replace("<factory>", "...") if signature is not None else None), returns


# The annotations of a msgspec.Struct are evaluated in its module, and that of `Message` has no other need of the name.
trio_relay.node.values.JSONValue = JSONValue  # type: ignore[attr-defined]
# Those of `Hooks` are evaluated likewise, and its module imports these for types only.
trio_relay.wsrelay.hooks.Peer = trio_relay.wsrelay.Peer
trio_relay.wsrelay.hooks.PeerRegistry = trio_relay.wsrelay.PeerRegistry


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_lexer("hex", TextLexer)
    app.connect("source-read", _unlink_files_outside)
    app.connect("autodoc-process-docstring", _link_names)
    app.connect("autodoc-process-signature", _show_factories)
    app.connect("missing-reference", _find_public)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
