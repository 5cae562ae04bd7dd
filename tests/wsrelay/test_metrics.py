"""``/metrics``: what Prometheus reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from trio_relay.wsrelay.metering import KeyTraffic, Window
from trio_relay.wsrelay.pages.metrics import write_metrics
from trio_relay.wsrelay.registry import ChannelStatistics
from trio_relay.wsrelay.statistics import RelayStatistics
from trio_relay.wsrelay.stores.blobs import BlobStatistics

from .asking import CORS, ask
from .support import ALICE, BOB, relaying, routed, watch

P = "trio_relay_ws"
Sample = tuple[str, tuple[tuple[str, str], ...]]


def parsed(text: bytes) -> dict[Sample, float]:
    """Name and labels -> value; `_created` times are not of the relay."""
    families = list(text_string_to_metric_families(text.decode()))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    assert all(family.documentation for family in families)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def plain(samples: Mapping[Sample, float]) -> dict[str, float]:
    return {name: value for (name, labels), value in samples.items() if not labels}


def make_statistics(**changes: Any) -> RelayStatistics:
    values: dict[str, Any] = {
        "start_time": 1.75e9,
        "uptime": 9.0,
        "connections": 2,
        "total_connections": 5,
        "messages_relayed": 7,
        "bytes_in": 2**60,
        "bytes_out": 90,
        "watches": 3,
        "backlog": 11,
        "channels": {"pwa": ChannelStatistics(1, 4), 'a/"b"\\': ChannelStatistics(1, 1)},
        "keys": {"the-secret-key": KeyTraffic(1, Window(1, 2, 3.0), ())},
        "counts": {"replaced": 2, "refused_key": 9},
    }
    return RelayStatistics(**{**values, **changes})


def test_every_number_is_there() -> None:
    samples = parsed(write_metrics(make_statistics(), BlobStatistics(6, 600, 1, 2, 3)))
    assert plain(samples) == {
        f"{P}_start_time_seconds": 1.75e9,
        f"{P}_peers": 2,
        f"{P}_peers_registered_total": 5,
        f"{P}_messages_relayed_total": 7,
        f"{P}_received_bytes_total": 2**60,
        f"{P}_sent_bytes_total": 90,
        f"{P}_watches": 3,
        f"{P}_backlog_bytes": 11,
        f"{P}_blobs": 6,
        f"{P}_blob_bytes": 600,
    }
    assert {sample: value for sample, value in samples.items() if sample[1]} == {
        (f"{P}_channel_peers", (("channel", "pwa"),)): 1,
        (f"{P}_channel_peers_peak", (("channel", "pwa"),)): 4,
        (f"{P}_channel_peers", (("channel", 'a/"b"\\'),)): 1,
        (f"{P}_channel_peers_peak", (("channel", 'a/"b"\\'),)): 1,
        (f"{P}_events_total", (("name", "replaced"),)): 2,
        (f"{P}_events_total", (("name", "refused_key"),)): 9,
        (f"{P}_blob_events_total", (("name", "expired"),)): 1,
        (f"{P}_blob_events_total", (("name", "evicted"),)): 2,
        (f"{P}_blob_events_total", (("name", "refused"),)): 3,
    }


def test_no_key_is_there() -> None:
    assert b"the-secret-key" not in write_metrics(make_statistics())


def test_what_a_relay_does_not_have_is_left_out() -> None:
    text = write_metrics(make_statistics())
    assert b"blob" not in text
    assert b"socket" not in text
    assert f"{P}_peers 2.0\n".encode() in text


class Keys:
    def validate(self, key: str) -> bool:
        return True


async def test_a_live_relay() -> None:
    async with relaying(key_store=Keys()) as server:
        key = "some-access-key"
        alice = await server.join(f"/pwa/alice123?key={key}")
        bob = await server.join(f"/pwa/bobbobbob?key={key}")
        await alice.send(watch(BOB), routed(ALICE, BOB, 1))
        await bob.receive()
        await ask(server, "PUT", "/blob/blob-key-1", body=b"four")
        answer = await ask(server, "GET", "/metrics?x=1")
        assert answer.status == 200
        assert answer.headers == [("content-type", "text/plain; version=0.0.4; charset=utf-8"), *CORS]
        assert key.encode() not in answer.body
        samples = parsed(answer.body)
        seen = plain(samples)
        assert seen[f"{P}_peers"] == 2
        assert seen[f"{P}_messages_relayed_total"] == 1
        assert seen[f"{P}_sent_bytes_total"] > 10
        assert seen[f"{P}_watches"] == 1
        assert (seen[f"{P}_blobs"], seen[f"{P}_blob_bytes"]) == (1, 4)
        assert samples[f"{P}_channel_peers", (("channel", "pwa"),)] == 2
        assert seen[f"{P}_sockets"] == seen[f"{P}_unproven_sockets"] + 2
        assert samples[f"{P}_transport_events_total", (("name", "upgraded"),)] == 2
        assert (await ask(server, "HEAD", "/metrics")).body == b""


async def test_a_mounted_relay_has_no_sockets_of_its_own() -> None:
    async with relaying(memory=True, open_stats=True) as server:
        answer = await ask(server, "GET", "/metrics")
        assert answer.status == 200
        assert b"socket" not in answer.body
