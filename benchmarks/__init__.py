"""Measurements of the relay: ``python -m benchmarks --help``.

`router` times the pure core, `hop` one relay process between raw generators, `endtoend` three nodes. A benchmark
takes its runs in turn, case by case, so that a slow minute of the machine falls on all cases alike.
"""
