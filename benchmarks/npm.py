"""The npm packages that the lock file of a folder names."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Final

__all__ = ["install", "is_installed"]

_TIMEOUT: Final = 300.0
"""Seconds; a cold npm cache needs about ten."""


def is_installed(folder: Path) -> bool:
    """Whether every package that `package-lock.json` names is in `node_modules` at that version."""
    try:
        wanted = json.loads((folder / "package-lock.json").read_text())["packages"]
        found = json.loads((folder / "node_modules" / ".package-lock.json").read_text())["packages"]
    except FileNotFoundError:
        return False
    return all(found.get(name, {}).get("version") == about["version"] for name, about in wanted.items() if name)


def install(folder: Path) -> None:
    """Fills `folder/node_modules` as the lock file says, if it is not filled yet.

    Raises:
        RuntimeError: npm is missing or failed; its own words are in the message.
    """
    if is_installed(folder):
        return
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    called = f"`{' '.join(command)}` in {folder}"
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except FileNotFoundError:
        raise RuntimeError("npm is not installed, and it is needed once to install Node.js packages") from None
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{called} did not end within {_TIMEOUT:g} s") from None
    if done.returncode != 0:
        raise RuntimeError(
            f"{called} failed with exit code {done.returncode}; the npm registry is needed once:\n{done.stderr.strip()}"
        )
