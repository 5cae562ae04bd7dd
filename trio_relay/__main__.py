"""``python -m trio_relay``: the command line where the script ``trio-relay`` is not on the path."""

from __future__ import annotations

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
