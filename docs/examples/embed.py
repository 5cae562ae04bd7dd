"""Three peers in one program: a relay, and two that have no link with each other."""

from __future__ import annotations

import trio

import trio_relay


async def main() -> None:
    async with (
        trio_relay.open_node() as relay,
        trio_relay.open_node(listen=None, bootstrap=relay.urls) as alice,
        trio_relay.open_node(listen=None, bootstrap=relay.urls) as bob,
    ):
        await alice.wait_linked()
        await bob.wait_linked()
        receipt = await alice.deliver(bob.id, {"hello": "bob"})
        message = await bob.receive()
        print(message.data, "from", message.sender.hex(), f"over {receipt.hops} links")


if __name__ == "__main__":
    trio.run(main)
