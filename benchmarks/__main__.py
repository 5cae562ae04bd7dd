"""``python -m benchmarks [NAME]...``"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from . import endtoend, hop, router, session
from .report import Options, Report

BENCHMARKS: Final[dict[str, Callable[[Report, Options], None]]] = {
    "router": router.run,
    "session": session.run,
    "hop": hop.run,
    "endtoend": endtoend.run,
}


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _parser() -> argparse.ArgumentParser:
    default = Options()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures the relay on this machine.")
    parser.add_argument("names", nargs="*", metavar="|".join(BENCHMARKS), help="what to measure; default: everything")
    parser.add_argument("--seconds", type=float, default=default.seconds, help="length of one run (%(default)s)")
    parser.add_argument("--repeat", type=_positive, default=default.repeat, help="runs of each case (%(default)s)")
    parser.add_argument(
        "--size", type=_positive, action="append", help="bytes of payload, several times (100, 1024, 16384)"
    )
    parser.add_argument(
        "--window", type=_positive, default=default.window, help="messages under way, fewer if large (%(default)s)"
    )
    parser.add_argument("--no-rivals", action="store_true", help="measure only this package")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run of every case there")
    return parser


def main() -> None:
    """Runs what the command line names."""
    parser = _parser()
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"expected {', '.join(BENCHMARKS)}, not {unknown[0]}")
    options = Options(
        seconds=arguments.seconds,
        repeat=arguments.repeat,
        sizes=arguments.size or Options().sizes,
        window=arguments.window,
        rivals=not arguments.no_rivals,
    )
    report = Report(shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]))
    for name, run in BENCHMARKS.items():
        if name in (arguments.names or BENCHMARKS):
            run(report, options)
    if arguments.json is not None:
        report.save(arguments.json)


if __name__ == "__main__":
    main()
