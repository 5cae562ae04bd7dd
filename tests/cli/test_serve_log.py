"""What ``serve`` logs looks like."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from trio_relay.cli.log import JsonFormatter, TextFormatter, start_logging

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """The package's logger, as it was before when the test is over."""
    logger = logging.getLogger("trio_relay")
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate
    yield logger
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)


def record(message: str, *args: object, failed: bool = False, **extra: Any) -> logging.LogRecord:
    fault = None
    if failed:
        try:
            raise ValueError("it broke")
        except ValueError:
            fault = sys.exc_info()
    made = logging.LogRecord("trio_relay.x", logging.WARNING, "x.py", 1, message, args, fault)
    vars(made).update(extra)
    made.created = 1.5
    return made


def test_text() -> None:
    assert TextFormatter().format(record("a %s", "b\nc")) == "1970-01-01T00:00:01.500Z WARNING trio_relay.x: a b\\nc"
    lines = TextFormatter().format(record("a", failed=True)).splitlines()
    assert (lines[1], lines[-1]) == ("Traceback (most recent call last):", "ValueError: it broke")


def test_json() -> None:
    line = JsonFormatter().format(record("a %d", 1, event="reload", changed=["x"], level="mine", failed=True))
    assert "\n" not in line
    value = json.loads(line)
    assert value.pop("exception").endswith("ValueError: it broke")
    assert value == {
        "time": "1970-01-01T00:00:01.500Z",
        "level": "warning",
        "logger": "trio_relay.x",
        "message": "a 1",
        "event": "reload",
        "changed": ["x"],
    }


def test_values_that_json_does_not_know() -> None:
    assert json.loads(JsonFormatter().format(record("a", what={1: b"x"}, other=object)))["other"] == str(object)


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_keys_in_urls_are_blotted_out(formatter: logging.Formatter) -> None:
    line = formatter.format(record("could not answer /pwa/alice?key=very-secret&x=1"))
    assert "very-secret" not in line
    assert "?key=***&x=1" in line


def test_keys_are_blotted_out_wherever_a_json_line_has_them() -> None:
    said = 'said "/x?key=very-secret" and \\ /y?a=1&token=very-secret\\\u00e4 again'
    line = JsonFormatter().format(record(said, urls=["ws://a/?key=very-secret"], more={"ws://b/?key=very-secret": 1}))
    assert "very-secret" not in line
    value = json.loads(line)
    assert value["message"] == 'said "/x?key=***" and \\ /y?a=1&token=*** again'
    assert (value["urls"], value["more"]) == (["ws://a/?key=***"], {"ws://b/?key=***": 1})


def test_text_holds_nothing_that_a_terminal_obeys() -> None:
    line = TextFormatter().format(record("a\x1b[31m\r\u2028b\x85\ud800 \u00e4"))
    assert line.endswith(r": a\x1b[31m\r\u2028b\x85\ud800 " + "\u00e4")
    made = record("a")
    try:
        raise ValueError("it\x1b[2J\u2028broke\nhere")
    except ValueError:
        made.exc_info = sys.exc_info()
    assert TextFormatter().format(made).split("\n")[-2:] == [r"ValueError: it\x1b[2J\u2028broke", "here"]


def test_it_can_be_started_again(logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    start_logging(as_json=False, level="warning")
    logging.getLogger("trio_relay.server").info("too quiet")
    logging.getLogger("trio_relay.server").warning("first")
    start_logging(as_json=True, level="info")
    logging.getLogger("trio_relay.server").info("second")
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(TIME + r" WARNING trio_relay\.server: first", first)
    assert json.loads(second)["message"] == "second"
    assert len(logger.handlers) == 1
