"""The npm packages of the interop suite: `package.json` and its lock file beside this one say which."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Final

import pytest

HERE: Final = Path(__file__).parent
INSTALL_TIMEOUT: Final = 300.0
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
    """Fills `folder/node_modules` as the lock file says.

    Raises:
        RuntimeError: npm failed; its own words are in the message.
    """
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"`{' '.join(command)}` in {folder} did not end within {INSTALL_TIMEOUT:g} s") from None
    if done.returncode != 0:
        raise RuntimeError(
            f"`{' '.join(command)}` in {folder} failed with exit code {done.returncode}; "
            f"the interop suite needs the npm registry once:\n{done.stderr.strip()}"
        )


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The folder with `peer-relay` and `ws`, filled on first use; run scripts with `tests/interop` as their folder."""
    if not is_installed(HERE):
        try:
            install(HERE)
        except RuntimeError as error:
            pytest.fail(str(error), pytrace=False)
    return HERE / "node_modules"
