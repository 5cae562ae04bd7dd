"""Whatever comes in whatever order, one router keeps its promises; and any bytes at all are handled."""

from __future__ import annotations

import math
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from trio_relay.limits import Limits
from trio_relay.overlay.actions import (
    Acknowledged,
    Action,
    CloseLink,
    Deliver,
    Dial,
    Failed,
    Linked,
    Transmit,
    Unlinked,
)
from trio_relay.wire.frame import Frame, Kind, parse_frames_untrusted
from trio_relay.wire.ids import NodeId
from trio_relay.wire.record import join_records

from .support import Bench, BenchLink, first_deadline, node_id, record, url

LIMITS = Limits(
    mailbox_messages=5,
    mailbox_bytes=1500,
    records=16,
    seen_messages=20,
    seen_messages_per_sender=8,
    unlinked_messages=3,
    lookups=3,
    dials=3,
    relay_links=6,
    pending_deliveries=6,
)
PEERS = 14
numbers = st.integers(1, PEERS)
ids = st.integers(0, PEERS + 3).map(node_id)
kinds = st.one_of(st.sampled_from(list(Kind)), st.integers(0, 255))
message_ids = st.integers(0, 30).map(lambda n: n.to_bytes(8, "big"))
bytes_of = st.integers(0, 255).map(lambda n: bytes([n]))
records = st.builds(
    lambda number, urls, relay, sequence, flaw: _flawed(
        record(number, [url(number)] if urls else (), relay=relay, sequence=sequence).raw, flaw
    ),
    numbers,
    st.booleans(),
    st.booleans(),
    st.integers(1, 4),
    st.sampled_from([False] * 5 + [True]),
)
payloads = st.one_of(
    st.sampled_from([b"", b"\0data", b"\1{}", b"\1rubbish"]),
    st.binary(max_size=30),
    ids,
    st.builds(lambda target, attempt: target + attempt, ids, bytes_of),
    records.map(lambda raw: len(raw).to_bytes(2, "big") + raw),
    st.builds(lambda trust, raw: trust + raw, bytes_of, records),
)


def _flawed(raw: bytes, flaw: bool) -> bytes:
    return raw[:-1] + bytes([raw[-1] ^ 1]) if flaw else raw


class RouterMachine(RuleBasedStateMachine):
    """Peer 0's router. `up` are the links that the outside has not ended and was not told to close."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(limits=LIMITS)
        self.links: list[BenchLink] = []
        self.up: set[BenchLink] = set()
        self.linked: set[NodeId] = set()
        self.mailbox: list[int] = []
        self.pending: list[bytes] = []
        self.dials: list[Dial] = []

    @initialize(relays=st.integers(0, 8), leaves=st.integers(0, 4))
    def begin(self, relays: int, leaves: int) -> None:
        for number in range(1, relays + leaves + 1):
            self.link_comes_up(number, number <= relays, number % 3 > 0, True)

    def act(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Transmit):
                self.check_transmit(action)
            elif isinstance(action, CloseLink):
                assert action.link in self.up
                self.up.remove(action.link)
            elif isinstance(action, Deliver):
                self.mailbox.append(action.size)
            elif isinstance(action, Linked):
                assert action.id not in self.linked
                self.linked.add(action.id)
            elif isinstance(action, Unlinked):
                self.linked.remove(action.id)
            elif isinstance(action, Dial):
                self.dials.append(action)
            elif isinstance(action, Acknowledged | Failed):
                self.pending.remove(action.message_id)

    def check_transmit(self, action: Transmit) -> None:
        assert action.link in self.up
        assert action.link is not action.via
        assert action.size <= LIMITS.websocket_message
        frames = parse_frames_untrusted(b"".join(action.pieces))
        assert (action.frames, action.size) == (len(frames), sum(map(len, action.pieces)))
        for frame in frames:
            assert frame.hop_limit <= LIMITS.hops or action.via is not None
            assert action.via is None or frame.kind < 64

    # Links

    @rule(number=numbers, relay=st.booleans(), dialled=st.booleans(), trusts=st.booleans())
    def link_comes_up(self, number: int, relay: bool, dialled: bool, trusts: bool) -> None:
        own = record(number, None if relay else (), relay=relay)
        link = BenchLink(number, own.id, own)
        self.links.append(link)
        self.up.add(link)
        address = url(number) if relay and dialled else ""
        authority = "" if dialled else "peer0.example:80"
        router, now = self.bench.router, self.bench.now
        self.act(
            router.link_up(
                link, own.id, now, dialled=dialled, url=address, authority=authority, record=own, group="net"
            )
        )
        if trusts and link in self.up:
            self.act(self.bench.receive(link, self.bench.status(link, trusts=True)))

    @precondition(lambda self: self.links)
    @rule(data=st.data(), alive=st.booleans())
    def link_goes_down(self, data: st.DataObject, alive: bool) -> None:
        link = data.draw(st.sampled_from(self.links))
        self.up.discard(link)
        self.act(self.bench.router.link_down(link, "connection lost", self.bench.now, alive=alive))

    # Frames

    @precondition(lambda self: self.links)
    @rule(data=st.data())
    def frames_come(self, data: st.DataObject) -> None:
        link = data.draw(st.sampled_from(self.links))
        frames = data.draw(
            st.lists(
                st.builds(
                    Frame,
                    kind=kinds,
                    to=st.one_of(st.just(self.bench.id), ids),
                    source=st.one_of(st.just(link.id), ids),
                    message_id=st.one_of(message_ids, st.sampled_from(self.pending) if self.pending else message_ids),
                    payload=payloads,
                    flags=st.sampled_from([0, 1, 1, 4, 5, 128]),
                    hop_limit=st.sampled_from([0, 1, 16, 255]),
                    attempt=st.sampled_from([0, 0, 1, 255]),
                    detours=st.sampled_from([0, 2, 255]),
                ),
                min_size=1,
                max_size=6,
            )
        )
        self.act(self.bench.receive(link, *frames))

    @precondition(lambda self: self.links)
    @rule(data=st.data(), message=st.one_of(st.binary(max_size=120), st.text(max_size=5)))
    def rubbish_comes(self, data: st.DataObject, message: bytes | str) -> None:
        link = data.draw(st.sampled_from(self.links))
        self.act(self.bench.router.receive(link, [message], self.bench.now))

    # Outcomes of what was asked for

    @precondition(lambda self: self.dials)
    @rule(success=st.booleans())
    def a_dial_ends(self, success: bool) -> None:
        dial = self.dials.pop(0)
        router, now = self.bench.router, self.bench.now
        number = next((n for n in range(PEERS + 4) if node_id(n) == dial.expected), None)
        if dial.probe:
            self.act(router.probe_ended(dial.expected, success, now))
        elif success and number:
            self.link_comes_up(number, True, True, True)
        else:
            named = join_records([record(n) for n in (1, 2)])
            self.act(router.dial_failed(dial.expected, now, records=named))

    @precondition(lambda self: self.mailbox)
    @rule()
    def the_application_takes_a_message(self) -> None:
        self.bench.router.taken(self.mailbox.pop(0))

    # The application

    @rule(to=ids, payload=payloads)
    def the_application_sends(self, to: NodeId, payload: bytes) -> None:
        self.act(self.bench.router.send(to, payload, self.bench.now))

    @precondition(lambda self: len(self.pending) < LIMITS.pending_deliveries)
    @rule(to=ids.filter(lambda i: i != node_id(0)), payload=payloads, timeout=st.floats(0, 40))
    def the_application_delivers(self, to: NodeId, payload: bytes, timeout: float) -> None:
        message_id, actions = self.bench.router.deliver(to, payload, timeout, self.bench.now)
        self.pending.append(message_id)
        self.act(actions)

    @rule(to=ids, what=st.sampled_from(["connect", "cancel", "disconnect", "lookup", "reached", "admit", "advertise"]))
    def something_else_is_asked(self, to: NodeId, what: str) -> None:
        router, now = self.bench.router, self.bench.now
        if what == "connect":
            self.act(router.connect(to, now)[1])
        elif what == "cancel":
            router.cancel_connect(to)
        elif what == "disconnect":
            self.act(router.disconnect(to, now))
        elif what == "lookup":
            self.act(router.lookup(to, object(), now)[1])
        elif what == "reached":
            self.act(router.reached(to, "peer0.example:80", now))
        elif what == "admit":
            router.admit(to, False, True, now)
        else:
            self.act(router.advertise([url(0)] if to[0] % 2 else [], now))

    @rule()
    def everybody_is_told_goodbye(self) -> None:
        self.act(self.bench.router.goodbye(self.bench.now))

    # Time

    @rule(seconds=st.sampled_from([0.0, 0.06, 0.3, 1.0, 6.0, 20.0, 130.0]))
    def time_passes(self, seconds: float) -> None:
        bench, end = self.bench, self.bench.now + seconds
        fired = 0
        while (deadline := bench.router.next_deadline()) <= end:
            bench.now = max(bench.now, deadline)
            self.act(bench.router.handle_timeout(bench.now))
            fired += 1
            assert fired < 1000 + 100 * seconds, "the timer does not come forward"
        bench.now = end

    @rule()
    def the_timer_fires_too_early(self) -> None:
        self.act(self.bench.router.handle_timeout(self.bench.now))

    @invariant()
    def everything_is_bounded(self) -> None:
        sizes = self.bench.router.sizes()
        assert sizes["links"] <= len(self.up)
        assert sizes["records"] <= LIMITS.records + PEERS
        assert sizes["lookups"] <= LIMITS.lookups + 2
        assert sizes["connecting"] <= LIMITS.lookups
        assert sizes["dials"] <= LIMITS.dials
        assert sizes["seen"] <= 2 * LIMITS.seen_messages
        assert sizes["unlinked"] <= LIMITS.unlinked_messages
        assert sizes["mailbox_messages"] == len(self.mailbox) <= LIMITS.mailbox_messages
        assert sizes["mailbox_bytes"] == sum(self.mailbox) <= LIMITS.mailbox_bytes
        assert sizes["pending_deliveries"] == len(self.pending)

    @invariant()
    def the_table_is_what_was_announced(self) -> None:
        table = self.bench.router.table
        assert {neighbour.id for neighbour in table} == self.linked
        assert all(neighbour.link in self.up for neighbour in table)
        assert all(neighbour.trusted for neighbour in table.relays)

    @invariant()
    def the_deadline_is_a_time_and_no_part_has_something_to_do_before(self) -> None:
        assert not math.isnan(self.bench.router.next_deadline())
        assert self.bench.router.next_deadline() <= first_deadline(self.bench.router)


TestRouterMachine = RouterMachine.TestCase
TestRouterMachine.settings = settings(max_examples=40, stateful_step_count=50)


@given(st.lists(st.one_of(st.binary(max_size=200), st.text(max_size=3)), max_size=4), st.booleans())
def test_any_bytes_lead_to_actions_or_to_the_end_of_their_link(messages: list[bytes | str], relay: bool) -> None:
    bench = Bench()
    link, other = bench.link(1, relay=relay), bench.link(2)
    actions = bench.router.receive(link, messages, 0.0)
    gone = any(isinstance(action, CloseLink) for action in actions)
    assert gone == (bench.router.table.get(link.id) is None)
    assert bench.router.table.get(other.id) is not None


mutations = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=6)


@given(st.sampled_from(list(Kind)), payloads, mutations, st.integers(0, 400))
@settings(max_examples=100)
def test_frames_that_are_almost_right_are_handled(
    kind: Kind, payload: bytes, changes: list[tuple[int, int]], end: int
) -> None:
    bench = Bench()
    link = bench.link(1)
    bench.link(2)
    message = bytearray(bench.frame(link, kind, payload=payload).to_bytes() * 2)
    for position, value in changes:
        message[position % len(message)] = value
    bench.router.receive(link, [bytes(message[: end or None])], 0.0)
    bench.advance(20.0)
    assert bench.router.sizes()["links"] == 0


def test_many_senders_leave_the_tables_bounded() -> None:
    bench = Bench(limits=Limits(seen_messages=4096, records=1024))
    link = bench.link(1)
    for start in range(0, 25_000, 500):
        frames = [
            bench.frame(
                link,
                (Kind.DATA, Kind.FIND, Kind.CONNECT, Kind.ACK)[n % 4],
                source=NodeId(n.to_bytes(4, "big") * 5),
                payload=b"\0" if n % 4 != 1 else node_id(0),
                flags=1 if n % 8 == 0 else 0,
            )
            for n in range(start, start + 500)
        ]
        for action in bench.receive(link, *frames):
            if isinstance(action, Deliver):
                bench.router.taken(action.size)
        bench.now += 0.1
    sizes = bench.router.sizes()
    assert sizes["seen"] <= 2 * 4096
    assert sizes["records"] <= 1024
    assert sizes["links"] == 1
    assert sizes["dials"] == sizes["connecting"] == sizes["mailbox_messages"] == 0
    assert len(bench.router.table.next_hops) <= 16384
    assert bench.count("messages_received") == 6_250
