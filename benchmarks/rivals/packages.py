"""Can the rivals that need Node.js run? `package.json` and its lock file beside this one name their packages."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Final

from ..npm import install

__all__ = ["HERE", "missing_rivals"]

HERE: Final = Path(__file__).parent


@functools.cache
def missing_rivals() -> str | None:
    """Installs the packages if they are not there; why the rivals that need Node.js can not run, or None."""
    if shutil.which("node") is None:
        return "Node.js is not installed (no `node`)"
    try:
        install(HERE)
    except RuntimeError as error:
        return str(error)
    return None
