"""What comes far beyond the receive window is not taken, so that its sender really waits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from trio_relay.transports.aio.fragments import SLACK, keep_window_closed


@dataclass
class Chunk:
    tsn: int


@dataclass
class Association:
    """The private parts of aiortc's that are looked at."""

    _last_received_tsn: int
    _advertised_rwnd: int = 1
    _sack_misordered: set[int] = field(default_factory=set)
    _sack_needed: bool = False
    taken: list[int] = field(default_factory=list)

    async def _receive_data_chunk(self, chunk: Chunk) -> None:
        self.taken.append(chunk.tsn)


@pytest.mark.parametrize("start", [100, 2**32 - 4], ids=["plain", "around zero"])
async def test_new_data_wait_and_gaps_are_filled(start: int) -> None:
    def tsn(number: int) -> int:
        return (start + number) % 2**32

    association = Association(start)
    keep_window_closed(cast(Any, association))
    take = association._receive_data_chunk
    await take(Chunk(tsn(1)))
    association._last_received_tsn = tsn(1)
    association._sack_misordered = {tsn(4), tsn(6)}
    association._advertised_rwnd = -SLACK - 1
    for number in (7, 8):
        await take(Chunk(tsn(number)))
    assert association.taken == [tsn(1)]
    assert association._sack_needed
    for number in (2, 5, 1):
        await take(Chunk(tsn(number)))
    assert association.taken == [tsn(1), tsn(2), tsn(5), tsn(1)]
    association._advertised_rwnd = -SLACK
    await take(Chunk(tsn(7)))
    assert association.taken[-1] == tsn(7)
