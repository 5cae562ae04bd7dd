"""``trio-relay send ID DATA``: one confirmed message."""

from __future__ import annotations

import trio

from ..exceptions import PeerUnreachable, RelayError
from ..wire.content import Data, encode_content
from ..wire.ids import NodeId
from ..wire.json import decode_untrusted
from .options import NodeOptions, UsageError, open_from

__all__ = ["parse_data", "run"]


def parse_data(text: str, *, is_json: bool) -> Data:
    """The message that the command line gives.

    Raises:
        UsageError: it can't be sent: not UTF-8, or not JSON though it should be.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError("expected DATA in UTF-8") from error
    if not is_json:
        return text
    try:
        data = decode_untrusted(text)
        encode_content(data)  # refuses infinity, which JSON can write as 1e400
    except RelayError as error:
        raise UsageError(f"DATA is not JSON: {error}") from error
    return data


async def run(options: NodeOptions, to: NodeId, data: Data, timeout: float) -> int:
    """Delivers the message within `timeout` seconds and prints how it went."""
    deadline = trio.current_time() + timeout
    async with open_from(options) as node:
        with trio.move_on_at(deadline) as linking:
            await node.wait_linked()
        if linking.cancelled_caught:
            places = " or ".join(options.bootstrap)
            raise PeerUnreachable(f"no link with {places} within {timeout:g} s; --verbose says why", "not_delivered")
        receipt = await node.deliver(to, data, timeout=max(deadline - trio.current_time(), 0.001))
    print(f"delivered to {to.hex()} over {receipt.hops} links in {receipt.rtt * 1000:.1f} ms")
    return 0
