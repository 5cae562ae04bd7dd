"""What goes on in a node: links that come and go, and the counters at the end."""

from __future__ import annotations

import trio

import trio_relay


async def watch(
    node: trio_relay.Node, names: dict[bytes, str], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Prints events until the node is closed."""
    async with node.events() as events:
        task_status.started()
        async for event in events:
            match event:
                case trio_relay.LinkUp(id=peer):
                    print("up  ", names.get(peer, peer.hex()))
                case trio_relay.LinkDown(id=peer, reason=reason):
                    print("down", names.get(peer, peer.hex()), "because of:", reason)
                case trio_relay.EventsLost(count=count):
                    print(count, "events were not read in time")


async def main() -> None:
    alice_key = trio_relay.Identity.generate()
    async with trio.open_nursery() as nursery, trio_relay.open_node() as relay:
        await nursery.start(watch, relay, {alice_key.id: "alice"})
        async with trio_relay.open_node(listen=None, bootstrap=relay.urls, identity=alice_key) as alice:
            await alice.wait_linked()
            await alice.deliver(relay.id, "hello")
        statistics = relay.statistics()
        print("received", statistics.counts["messages_received"], "message")
        print("waiting in the mailbox:", statistics.sizes["mailbox_messages"])


if __name__ == "__main__":
    trio.run(main)
