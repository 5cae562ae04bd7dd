"""Repeatable runs for tests in which faults are drawn by lot."""

from __future__ import annotations

import os
import random

import pytest
import trio


@pytest.fixture
def repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids, tokens, jitter and Trio's scheduling are the same in every run; message faults have seeds of their own."""
    monkeypatch.setattr(os, "urandom", random.Random(0).randbytes)
    # As pytest-trio does for Hypothesis: Trio shuffles the order of runnable tasks with this generator.
    monkeypatch.setattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
    monkeypatch.setattr(trio._core._run, "_r", random.Random(0))
