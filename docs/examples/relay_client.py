"""Two clients of a relay server: messages, presence and events. The server runs in this program, too."""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio

from trio_relay import LocalProtocolError, PayloadTooLarge, wsrelay


async def answer(client: wsrelay.RelayClient) -> None:
    """Sends back what it gets, until the client is closed."""
    async for message in client:
        try:
            await client.send(message.sender, {"you said": message.payload})
        except (LocalProtocolError, PayloadTooLarge) as error:  # not all that can be received can be sent
            print("no answer to", message.sender, "because of", error)


async def wait_gone(events: AsyncIterator[wsrelay.ClientEvent], address: str) -> None:
    """Prints what happens, until a watched peer is gone."""
    async for event in events:
        match event:
            case wsrelay.PresenceChanged(address=peer, online=online):
                print(peer, "is", "here" if online else "gone")
                if peer == address and not online:
                    return
            case wsrelay.Disconnected(reason=reason) | wsrelay.ConnectFailed(reason=reason):
                print("not connected:", reason)


async def talk(url: str) -> None:
    async with wsrelay.open_relay_client(url, "chat", "alice-0001") as alice, alice.events() as events:
        async with wsrelay.open_relay_client(url, "chat", "bob-0001") as bob, trio.open_nursery() as nursery:
            nursery.start_soon(answer, bob)
            await bob.wait_connected()
            await alice.watch(bob.address)
            await alice.send(bob.address, "hello")
            print((await alice.receive()).payload)
            await bob.aclose()  # its iteration ends, and with it the task
        await wait_gone(events, bob.address)


async def main() -> None:
    config = wsrelay.RelayConfig(channels=["chat"], key_store=False, listen="127.0.0.1:0")
    async with trio.open_nursery() as nursery:
        relay = await nursery.start(wsrelay.serve_relay, config)
        await talk(relay.urls[0])
        await relay.aclose()


if __name__ == "__main__":
    trio.run(main)
