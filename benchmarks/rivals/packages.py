"""The npm packages of the rivals: `package.json` and its lock file beside this one say which."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
from pathlib import Path
from typing import Final

__all__ = ["HERE", "missing_rivals"]

HERE: Final = Path(__file__).parent
_INSTALL_TIMEOUT: Final = 300.0
"""Seconds; a cold npm cache needs about ten."""


@functools.cache
def missing_rivals() -> str | None:
    """Installs the packages if they are not there; why the rivals that need Node.js can not run, or None."""
    if shutil.which("node") is None:
        return "Node.js is not installed (no `node`)"
    if _is_installed(HERE):
        return None
    if shutil.which("npm") is None:
        return "npm is not installed, and it is needed once to install the rivals' packages"
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    try:
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return f"`{' '.join(command)}` in {HERE} did not end within {_INSTALL_TIMEOUT:g} s"
    if done.returncode != 0:
        return f"`{' '.join(command)}` in {HERE} failed with exit code {done.returncode}:\n{done.stderr.strip()}"
    return None


def _is_installed(folder: Path) -> bool:
    """Whether every package that `package-lock.json` names is in `node_modules` at that version."""
    try:
        wanted = json.loads((folder / "package-lock.json").read_text())["packages"]
        found = json.loads((folder / "node_modules" / ".package-lock.json").read_text())["packages"]
    except FileNotFoundError:
        return False
    return all(found.get(name, {}).get("version") == about["version"] for name, about in wanted.items() if name)
