"""``python -m benchmarks [router|session|hop|endtoend]...``"""

from __future__ import annotations

import argparse

from . import endtoend, hop, router, session
from .report import print_machine

NAMES = ("router", "session", "hop", "endtoend")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures the relay on this machine.")
    parser.add_argument("names", nargs="*", metavar="|".join(NAMES), help="what to measure; default: everything")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one run (%(default)s)")
    parser.add_argument("--repeat", type=_positive, default=5, help="runs of each case (%(default)s)")
    parser.add_argument(
        "--size", type=_positive, action="append", help="bytes of payload, several times (100, 1024, 16384)"
    )
    parser.add_argument(
        "--window", type=_positive, default=256, help="messages under way, fewer if they are large (%(default)s)"
    )
    return parser


def main() -> None:
    """Runs what the command line names."""
    parser = _parser()
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(NAMES))
    if unknown:
        parser.error(f"expected {', '.join(NAMES)}, not {unknown[0]}")
    names = options.names or NAMES
    sizes = options.size or [100, 1024, 16384]
    print_machine()
    if "router" in names:
        router.run(seconds=options.seconds, repeat=options.repeat)
    if "session" in names:
        session.run(seconds=options.seconds, repeat=options.repeat, sizes=sizes)
    if "hop" in names:
        hop.run(seconds=options.seconds, repeat=options.repeat, sizes=sizes, window=options.window)
    if "endtoend" in names:
        endtoend.run(seconds=options.seconds, repeat=options.repeat, sizes=sizes, window=options.window)


if __name__ == "__main__":
    main()
