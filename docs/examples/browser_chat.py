"""A relay for the pages of browser_chat/, and a participant beside it that answers everybody. Ctrl-C ends both.

    python browser_chat.py [HOST:PORT]

With trio-relay[webrtc] installed, the participant also takes direct connections.
"""

from __future__ import annotations

import signal
import sys

import trio

import trio_relay

MOST_CHARACTERS = 1000


def has_webrtc() -> bool:
    """Whether what `trio-relay[webrtc]` needs can be imported."""
    try:
        import aiortc  # noqa: F401
        import trio_asyncio  # noqa: F401
    except Exception:  # trio-asyncio 0.16 on Python 3.14 raises another one than ImportError
        return False
    return True


async def greet(relay: trio_relay.Node, python: trio_relay.Node) -> None:
    """Says hello to every page that connects with the relay."""
    async with relay.events() as events:
        async for event in events:
            match event:
                case trio_relay.LinkUp(id=peer) if peer in relay.links and relay.links[peer].role == "legacy":
                    await python.send(peer, {"name": "Python", "text": "Hello. I say back what you say to me."})


async def answer(python: trio_relay.Node) -> None:
    """Prints what is said, and says it back."""
    async for message in python:
        match message.data:
            case {"name": str(name), "text": str(text)}:  # from a page
                pass
            case str(text):  # from another program
                name = message.sender.hex()[:6]
            case _:
                continue
        print(f"{name[:40]!r} says {text[:MOST_CHARACTERS]!r}", flush=True)
        await python.send(message.sender, {"name": "Python", "text": f"You said: {text[:MOST_CHARACTERS]}"})


async def main(listen: str) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with (
            trio_relay.open_node(listen, legacy=True) as relay,
            trio_relay.open_node(None, relay.urls, legacy=True, webrtc=has_webrtc()) as python,
            trio.open_nursery() as nursery,
        ):
            await python.wait_linked()
            nursery.start_soon(greet, relay, python)
            nursery.start_soon(answer, python)
            print("relay at", *relay.urls, flush=True)
            await anext(signals)
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8765")
