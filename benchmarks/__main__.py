"""``python -m benchmarks [NAME]...``"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from . import (
    chart,
    endtoend,
    hop,
    idle,
    networks,
    overlay,
    peerix,
    peerjs,
    router,
    session,
    soak,
    star,
    webrtc,
    wire,
    wsrelay,
)
from .merging import merge_file
from .processes import raise_descriptor_limit
from .report import Options, Report
from .results import Results

BENCHMARKS: Final[dict[str, Callable[[Report, Options], None]]] = {
    "wire": wire.run,
    "router": router.run,
    "session": session.run,
    "hop": hop.run,
    "endtoend": endtoend.run,
    "star": star.run,
    "idle": idle.run,
    "wsrelay": wsrelay.run,
    "peerjs": peerjs.run,
    "peerix": peerix.run,
    "webrtc": webrtc.run,
    "networks": networks.run,
    "soak": soak.run,
    "overlay": overlay.run,  # last: the processes that others start would inherit what it holds
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
    parser.add_argument(
        "--pairs", type=_positive, default=default.pairs, help="links on each side where there are many (%(default)s)"
    )
    parser.add_argument("--links", type=_positive, default=default.links, help="idle connections (%(default)s)")
    parser.add_argument(
        "--held", type=_positive, default=default.held, help="the same of wsrelay and peerjs, over TCP (%(default)s)"
    )
    parser.add_argument("--messages", type=_positive, default=default.messages, help="of a soak (%(default)s)")
    parser.add_argument(
        "--cycles", type=_positive, default=default.cycles, help="instead of webrtc: connections that come and go"
    )
    parser.add_argument(
        "--transfer", type=_positive, default=default.transfer, help="instead of webrtc: MB over one link"
    )
    flag = argparse.BooleanOptionalAction
    parser.add_argument("--rivals", action=flag, default=default.rivals, help="measure other programs beside this one")
    parser.add_argument("--tls", action=flag, default=default.tls, help="measure TLS too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run of every case there")
    parser.add_argument(
        "--merge", type=Path, metavar="FILE", help="replace the runs of what was measured in a file that --json wrote"
    )
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw the tables of hop and endtoend (.svg, .png)")
    return parser


def main() -> None:
    """Runs what the command line names."""
    parser = _parser()
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"expected {', '.join(BENCHMARKS)}, not {unknown[0]}")
    problem = arguments.chart and chart.missing(arguments.chart)
    if problem:
        parser.error(problem)
    options = Options(
        seconds=arguments.seconds,
        repeat=arguments.repeat,
        sizes=arguments.size or Options().sizes,
        window=arguments.window,
        rivals=arguments.rivals,
        pairs=arguments.pairs,
        tls=arguments.tls,
        links=arguments.links,
        held=arguments.held,
        messages=arguments.messages,
        cycles=arguments.cycles,
        transfer=arguments.transfer,
    )
    raise_descriptor_limit()  # of every process that is started, too
    report = Report(shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]))
    try:
        for name, run in BENCHMARKS.items():
            if name in (arguments.names or BENCHMARKS):
                run(report, options)
    finally:
        # What was measured before a failure counts, too.
        report.finish()
        if arguments.json is not None:
            report.save(arguments.json)
    if arguments.merge is not None:
        merge_file(arguments.merge, report)
    if arguments.chart is not None:
        chart.draw(Results(report.about, report.tables, report.ratios, report.notes), arguments.chart)


if __name__ == "__main__":
    main()
