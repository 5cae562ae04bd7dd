"""A relay server with access keys from a file, and an orderly end on SIGTERM and Ctrl-C."""

from __future__ import annotations

import logging
import signal
import sys

import trio

from trio_relay import wsrelay


def went(peer: wsrelay.Peer, registry: wsrelay.PeerRegistry) -> None:
    logging.info("%s went, %d peers are left", peer.address, len(registry))


async def main(key_file: str, listen: str) -> None:
    config = wsrelay.RelayConfig(
        channels=["chat", wsrelay.Channel(name="desk", on_duplicate="reject")],
        key_store=wsrelay.FileKeyStore(key_file),  # may be edited while the server runs
        listen=listen,
        rate_limit_max_messages=6000,
        hooks=wsrelay.Hooks(on_peer_disconnect=went),
    )
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            relay = await nursery.start(wsrelay.serve_relay, config)
            print("relay server at", *relay.urls, flush=True)
            await anext(signals)
            await relay.aclose()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    trio.run(main, sys.argv[1], sys.argv[2])
