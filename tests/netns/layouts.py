"""Networks of three hosts: two that want to talk, and one with a relay that both of them reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .hosts import Host, Network, open_network

__all__ = ["Layout", "bridged", "routed", "separate", "translated"]


@dataclass(frozen=True, slots=True)
class Layout:
    """Hosts, and what can be done to their network.

    Attributes:
        address: of the relay's host; both others reach it.
        cut: ends the direct way between Alice and Bob (True), or restores it (False); both keep theirs to the relay.
    """

    alice: Host
    bob: Host
    relay: Host
    address: str
    cut: Callable[[bool], None]


@contextmanager
def separate() -> Iterator[Layout]:
    """Alice and Bob behind a bridge each, the relay's host on both: what they send to each other is lost there."""
    with open_network() as net:
        yield _two_sides(net)


@contextmanager
def routed() -> Iterator[Layout]:
    """The same, and the relay's host is a router, too: they reach each other."""
    with open_network() as net:
        layout = _two_sides(net)
        layout.cut(False)
        yield layout


@contextmanager
def bridged() -> Iterator[Layout]:
    """All on one bridge."""
    with open_network() as net:
        lan = net.bridge("lan")
        relay, alice, bob = net.host("relay"), net.host("alice"), net.host("bob")
        net.plug(relay, lan, "10.1.0.1/24")
        net.plug(alice, lan, "10.1.0.2/24")
        net.plug(bob, lan, "10.1.0.3/24")
        yield Layout(alice, bob, relay, "10.1.0.1", lambda wanted: net.isolate(alice, bob, wanted=wanted))


@contextmanager
def translated(*flags: str) -> Iterator[Layout]:
    """Alice and Bob at home, the relay outside. Each home has a router that translates addresses, with these flags."""
    with open_network() as net:
        outside = net.bridge("outside")
        relay = net.host("relay")
        net.plug(relay, outside, "192.0.2.1/24")
        # What is for nobody here is lost without a word, as on the Internet: coturn takes an error for the end.
        relay.ip("link add nowhere type bridge", "link set nowhere arp off up", "route add default dev nowhere")
        routers, hosts = [], []
        for number, name in enumerate(("alice", "bob"), 1):
            home = net.bridge(f"home{number}")
            router, host = net.host(f"router{number}"), net.host(name)
            net.plug(router, home, f"10.{number}.0.1/24")
            net.plug(router, outside, f"192.0.2.1{number}/24", interface="eth1")
            net.plug(host, home, f"10.{number}.0.2/24", gateway=f"10.{number}.0.1")
            router.forward()
            router.translate("eth1", *flags)
            routers.append(router)
            hosts.append(host)
        alice, bob = hosts
        yield Layout(
            alice, bob, relay, "192.0.2.1", lambda wanted: net.isolate(*routers, interface="eth1", wanted=wanted)
        )


def _two_sides(net: Network) -> Layout:
    relay = net.host("relay")
    hosts = []
    for number, name in enumerate(("alice", "bob"), 1):
        side = net.bridge(f"side{number}")
        host = net.host(name)
        net.plug(relay, side, f"10.{number}.0.1/24", interface=f"eth{number}")
        net.plug(host, side, f"10.{number}.0.2/24", gateway=f"10.{number}.0.1")
        hosts.append(host)
    # Bob, too, reaches the relay's host under its address on the first side.
    alice, bob = hosts
    return Layout(alice, bob, relay, "10.1.0.1", lambda wanted: relay.forward(not wanted))
