"""Gateways and originals in one place, stepped without Trio: what one wants sent, the other receives."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from trio_relay.limits import Limits
from trio_relay.node.legacy.actions import (
    CloseLegacy,
    GatewayAction,
    Lookup,
    Publish,
    Received,
    SendCarried,
    SendOverlay,
    SendText,
    TunnelFrame,
)
from trio_relay.node.legacy.gateway import Gateway
from trio_relay.wire.content import Data
from trio_relay.wire.ids import NodeId, distance
from trio_relay.wire.json import JSONValue, decode_untrusted, encode

OFFER, ANSWER = (
    "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=ice-ufrag:abcd\r\n"
    "a=ice-pwd:passwordpasswordpassword\r\na=sctp-port:5000\r\n"
    f"a=fingerprint:sha-256 {':'.join(['AB'] * 32)}\r\na=setup:{setup}\r\n"
    for setup in ("actpass", "active")
)
"""Session descriptions of a data channel."""


def node_id(number: int) -> NodeId:
    """Ids that are easy to tell apart: the number in front, then zeros."""
    return NodeId(number.to_bytes(2, "big") + bytes(18))


@dataclass
class FakeOverlay:
    """An `OverlayView` that says what the test put there."""

    own: NodeId
    ours: set[NodeId] = field(default_factory=set)
    unreached: set[NodeId] = field(default_factory=set)
    gateways: dict[NodeId, list[NodeId]] = field(default_factory=dict)
    nodes: list[NodeId] = field(default_factory=list)
    neighbours: set[NodeId] = field(default_factory=set)

    def is_ours(self, node_id: NodeId) -> bool:
        return node_id == self.own or node_id in self.ours

    def reaches(self, node_id: NodeId) -> bool:
        return node_id not in self.unreached

    def gateways_of(self, node_id: NodeId) -> Sequence[NodeId]:
        return [gateway for gateway in self.gateways.get(node_id, []) if gateway != self.own]

    def legacy_nodes(self) -> Sequence[NodeId]:
        return self.nodes

    def linked(self, node_id: NodeId) -> bool:
        return node_id in self.neighbours


def new_gateway(
    own: NodeId,
    *,
    limits: Limits | None = None,
    url: str | None = "ws://127.0.0.1:9",
    seed: int = 1,
    reachable: bool = False,
    webrtc: bool = False,
) -> tuple[Gateway, FakeOverlay]:
    overlay = FakeOverlay(own)
    gateway = Gateway(
        own,
        limits=limits or Limits(),
        rng=random.Random(seed),
        now=0.0,
        overlay=overlay,
        url=lambda: url,
        reachable=lambda: reachable,
        webrtc=lambda: 16 if webrtc else 0,
    )
    return gateway, overlay


def as_id(value: JSONValue) -> bytes:
    if isinstance(value, str):
        return bytes.fromhex(value)
    assert isinstance(value, dict)
    assert value["type"] == "Buffer"
    octets = value["data"]
    assert isinstance(octets, list)
    return bytes(octets)  # type: ignore[arg-type]


class Original:
    """The routing of npm peer-relay 0.0.2 (lib/router.js); it fails the test where the real one's process would end."""

    def __init__(self, own: NodeId, world: World) -> None:
        self.id = own
        self.world = world
        self.links: list[NodeId] = []
        self.received: list[tuple[bytes, JSONValue]] = []
        self._touched: set[str] = set()
        self._rng = random.Random(own)

    def send(self, to: NodeId, body: dict[str, JSONValue]) -> None:
        nonce = str(self._rng.randrange(10**15))
        self._touched.add(nonce)
        self._send({"to": to.hex(), "from": self.id.hex(), "path": [], "nonce": nonce, "data": body})

    def _send(self, message: dict[str, JSONValue]) -> None:
        path = message["path"]
        assert isinstance(path, list)
        if len(path) >= 20:
            return
        path.append(self.id.hex())
        target = as_id(message["to"])
        closest = sorted(self.links, key=lambda link: distance(link, target))
        for link in [link for link in closest if link.hex() not in path][:2]:
            self.world.put(self.id, link, encode(message))
            if link.hex() == message["to"]:
                break

    def receive(self, text: bytes) -> None:
        message = decode_untrusted(text)
        assert isinstance(message, dict)
        nonce, path, body = message["nonce"], message["path"], message["data"]
        assert isinstance(nonce, str)
        assert isinstance(path, list)
        assert path
        assert all(isinstance(entry, str) for entry in path)
        assert isinstance(body, dict)
        if nonce in self._touched:
            return
        self._touched.add(nonce)
        to, source = as_id(message["to"]), as_id(message["from"])
        message["to"] = {"type": "Buffer", "data": list(to)}
        message["from"] = {"type": "Buffer", "data": list(source)}
        if to != self.id:
            self._send(message)
        elif body["type"] == "user":
            self.received.append((source, body.get("data")))
        elif body["type"] == "findPeers":
            assert isinstance(body["data"], str)
            answer: JSONValue = [link.hex() for link in self.links]
            self.send(NodeId(source), {"type": "foundPeers", "data": answer})
        elif body["type"] == "foundPeers":
            assert isinstance(body["data"], list)
            for entry in body["data"]:
                assert isinstance(entry, str)
        elif body["type"] == "signal":
            raise AssertionError("an original without WebRTC got a signal")


class World:
    """Messages travel in the order in which they were sent; the overlay is perfect and knows every record at once."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.originals: dict[NodeId, Original] = {}
        self.gateways: dict[NodeId, Gateway] = {}
        self.overlays: dict[NodeId, FakeOverlay] = {}
        self.records: dict[NodeId, list[NodeId]] = {}
        self.received: dict[NodeId, list[tuple[NodeId, Data]]] = {}
        self.over_overlay: list[tuple[NodeId, NodeId, Data]] = []
        self.tunnelled: list[tuple[NodeId, bytes]] = []
        self.steps = 0
        self.now = 0.0
        self._queue: deque[tuple[str, NodeId, NodeId, bytes]] = deque()

    def add_original(self, number: int) -> Original:
        original = Original(node_id(number), self)
        self.originals[original.id] = original
        return original

    def add_gateway(self, number: int) -> Gateway:
        own = node_id(number)
        gateway, overlay = new_gateway(own, limits=self.limits, seed=number)
        overlay.gateways = self.records
        self.gateways[own], self.overlays[own], self.received[own] = gateway, overlay, []
        for each in self.overlays.values():
            each.ours = set(self.gateways)
            each.nodes = sorted(set(self.gateways) - {each.own})
            each.neighbours = set(each.nodes)
        return gateway

    def link(self, a: int, b: int) -> None:
        """Links two originals, or an original with a gateway."""
        for near, far in ((node_id(a), node_id(b)), (node_id(b), node_id(a))):
            if near in self.originals:
                self.originals[near].links.append(far)
        for near, far in ((node_id(a), node_id(b)), (node_id(b), node_id(a))):
            if near in self.gateways:
                self.act(near, self.gateways[near].link_up((near, far), far, self.now, dialled=False))
            elif far in self.originals:
                self.originals[near].send(far, {"type": "findPeers", "data": near.hex()})
            else:
                self.originals[near].send(far, {"type": "findPeers", "data": near.hex()})

    def put(self, source: NodeId, to: NodeId, text: bytes) -> None:
        self._queue.append(("text", source, to, text))

    def act(self, own: NodeId, actions: Sequence[GatewayAction]) -> None:
        for action in actions:
            match action:
                case SendText(link, text):
                    assert isinstance(link, tuple)
                    self.put(own, link[1], text)
                case SendCarried(to, payload):
                    assert to != own
                    self._queue.append(("carried", own, to, payload))
                case Publish(legacy_id):
                    self.records.setdefault(legacy_id, []).append(own)
                case Lookup(target):
                    self._queue.append(("lookup", own, target, b""))
                case Received(sender, data):
                    self.received[own].append((sender, data))
                case SendOverlay(to, data):
                    self.over_overlay.append((own, to, data))
                case TunnelFrame(frame):
                    self.tunnelled.append((own, frame))
                case CloseLegacy():
                    raise AssertionError(f"unexpected close at {own.hex()}")
                case _:
                    pass

    def run(self, limit: int = 20_000) -> None:
        """Until nothing is on its way; a loop does not end and fails here."""
        while self._queue:
            self.steps += 1
            assert self.steps < limit, "messages circle"
            kind, source, to, data = self._queue.popleft()
            if kind == "lookup":
                self.act(source, self.gateways[source].looked_up(to, self.now))
            elif kind == "carried":
                self.act(to, self.gateways[to].receive_carried(data, source, self.now))
            elif to in self.originals:
                self.originals[to].receive(data)
            else:
                self.act(to, self.gateways[to].receive((to, source), data, self.now))

    def send(self, source: int, to: int, data: Data) -> None:
        """A gateway's application sends."""
        own = node_id(source)
        self.act(own, self.gateways[own].send(node_id(to), data, self.now))
