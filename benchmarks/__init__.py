"""Measurements of the relay: ``python -m benchmarks --help``.

`router`, `session` and `wire` time the pure core, `hop` one process between raw generators, `endtoend` three nodes,
`wsrelay` the relay server. A benchmark takes its runs in turn, case by case, so that a slow minute of the machine falls
on all cases alike; ratios are those of runs of the same turn. Other programs are measured beside ours, by the same code
as far as there is any choice: rivals/ starts them, and a generator knows of each only what ends.py and its neighbours
say.

``python -m benchmarks.tables`` and ``python -m benchmarks.chart`` print and draw what ``--json`` has kept.
"""
