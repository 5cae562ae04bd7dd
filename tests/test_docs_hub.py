"""The documents of the signalling hub against a running one: options, limits, metrics."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any, Final

from trio_relay.cli.toml_config import SCHEMA, parse_config
from trio_relay.peerix.hub import HubConfig

from .documents import DOCS, blocks
from .peerix.hub.support import serving_hub

PAGE: Final = DOCS / "howto" / "signalling-hub.md"
TEXT: Final = PAGE.read_text(encoding="utf-8")
DEFAULTS: Final[dict[str, Any]] = {field.name: field.default for field in fields(HubConfig)}


def rows_of(head: str) -> list[list[str]]:
    """The cells of the table of the page that begins with this cell."""
    table = TEXT[TEXT.index(f"| {head} |") :].partition("\n\n")[0]
    return [re.split(r" *\| *", line)[1:-1] for line in table.splitlines()[2:]]


def test_defaults_in_the_table_of_limits() -> None:
    named = [
        pair
        for names, values, *_ in rows_of("option")
        for pair in zip(names.split(", "), values.split(", "), strict=True)
    ]
    assert len(named) == 11
    for name, value in named:
        assert value == str(DEFAULTS[name.strip("`")]), name


def test_options_that_are_named_exist() -> None:
    (text,) = (block.code for block in blocks(PAGE) if block.language == "toml")
    assert {name for name in parse_config(text, "/") if name.startswith("hub.")} == {"hub.origins", "hub.keys.file"}
    kept = TEXT[TEXT.index("What can not be changed while it runs") :].partition(".")[0]
    named = re.findall(r"`(\w+)`", kept)
    assert len(named) == 5
    assert all(f"hub.{name}" in SCHEMA for name in named)


async def test_metrics_that_are_named_are_served() -> None:
    named = {name for name in re.findall(r"`(trio_relay_hub_\w+)", TEXT) if "transport" not in name}
    assert len(named) == 9
    async with serving_hub() as served:
        await served.listen("*")  # for a counter
        exposition = served.hub.exposition().decode()
    assert [name for name in sorted(named) if f"\n{name}" not in exposition] == []
