"""The npm packages of the interop suite: `package.json` and its lock file beside this one say which."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from benchmarks.npm import install

HERE: Final = Path(__file__).parent


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The folder with `peer-relay` and `ws`, filled on first use; run scripts with `tests/interop` as their folder."""
    try:
        install(HERE)
    except RuntimeError as error:
        pytest.fail(str(error), pytrace=False)
    return HERE / "node_modules"
