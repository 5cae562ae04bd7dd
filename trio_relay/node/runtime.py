"""One running peer: the router task, the links' readers, and what the router's actions do to the world.

Rules of this file:

1. The router is called without an `await` in between; its actions are carried out before its next input.
2. Nobody waits for a link: what it cannot take at once is its backlog's matter.
3. A lone batch goes from its reader through the router to the next link without a task switch; when batches come
   faster, they pass through the inbound channel to the router task. A full channel makes readers wait.
4. The application's first message in a turn of Trio's loop leaves at once; those that follow in the same turn leave
   together at its end: a write for each would cost more than all else.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

import trio

from ..exceptions import RemoteProtocolError
from ..identity import Identity, verify
from ..limits import Limits
from ..overlay.actions import Action, Answered, Deliver, Dial, EndNegotiation, Negotiate, Transmit
from ..overlay.admission import EVERYBODY, Admission
from ..overlay.handshake import Proven
from ..overlay.router import Router
from ..overlay.session.sessions import Sealing
from ..transports.connection import Connection
from ..wire.hello import Reason
from ..wire.ids import NodeId
from .acting import act_rarely
from .desk import Desk
from .link import Link
from .negotiation import WebRTC
from .originals import Originals
from .services import Services
from .tokens import Tokens
from .values import Message
from .wall import WallClock

__all__ = ["Runtime"]

_LONE: Final = 8
"""Messages of one read that the reader hands to the router itself."""
_TURN_MESSAGES: Final = 32
_TURN_BYTES: Final = 16 * 1024
"""Of the application that wait for the end of a turn; with so many they leave at once. Little beside a backlog, which
does not know of them yet."""

Inbound: TypeAlias = tuple[Link, Sequence[bytes | str]] | trio.Event
"""What a reader hands to the router task: messages, or an event to set when everything before it is handled."""
_WAKE_UP: Final = trio.Event()
"""For the router task, when all that it has to do is to end a turn."""


class Runtime:
    """Links, router and mailbox of one peer.

    Attributes:
        desk: what the application waits for.
        admission: who may link with us, and send to our application.
        dial, negotiate, topics: carry out actions that are theirs, without waiting; set by those that do.
        webrtc: what makes WebRTC connections, None when there are none.
        legacy: the gateway to original nodes, None when they are not admitted.
        lonely: set, and replaced, when the last relay is gone.
    """

    def __init__(
        self,
        identity: Identity,
        limits: Limits,
        services: Services,
        counts: Counter[str],
        legacy: bool,
        admission: Admission = EVERYBODY,
        sealing: Sealing | None = None,
        webrtc: WebRTC | None = None,
    ) -> None:
        self.identity: Final = identity
        self.limits: Final = limits
        self.services: Final = services
        self.counts: Final = counts
        self.admission: Final = admission
        self.desk: Final = Desk(limits)
        self._wall: Final = WallClock()
        self.router: Final = Router(
            identity.id,
            identity.public_key,
            sign=identity.sign,
            verify=verify,
            rng=random.Random(os.urandom(16)),
            token=Tokens().take,
            now=trio.current_time(),
            wall_offset=self._wall.offset,
            limits=limits,
            legacy=legacy,
            admission=admission,
            sealing=sealing,
            webrtc=0 if webrtc is None else webrtc.config.negotiations,
            negotiation_timeout=10.0 if webrtc is None else webrtc.config.negotiation_timeout,
        )
        self.links: Final = set[Link]()
        self.dial: Callable[[Dial], None] = lambda _: None
        self.negotiate: Callable[[Negotiate | Answered | EndNegotiation], None] = lambda _: None
        self.topics: Callable[[Action], bool] = lambda _: False
        self.webrtc: Final = webrtc
        self.legacy: Originals | None = None
        self.lonely = trio.Event()
        self._inbound_in, self._inbound_out = trio.open_memory_channel[Inbound](limits.inbound_batches)
        self._router_idle = False
        self._timer = trio.CancelScope()
        self._sending = False  # the application sent something in this turn
        self._posted = self._posted_bytes = 0  # of it, what waits for the end of the turn

    # The router task

    async def route(self) -> None:
        """The router task: batches from the inbound channel, and the router's timer."""
        router = self.router
        while True:
            batch = self._next_inbound()
            if self._sending:
                self._sending = False
                self._flush()
            if batch is None:
                self._router_idle = True
                with trio.CancelScope(deadline=router.next_deadline()) as self._timer:
                    batch = await self._inbound_out.receive()
                self._router_idle = False
            handled = 0
            while batch is not None:
                if isinstance(batch, trio.Event):
                    batch.set()
                else:
                    self.act(router.receive(*batch, trio.current_time()))
                handled += 1
                batch = self._next_inbound() if handled < self.limits.inbound_batches else None
            if router.next_deadline() <= trio.current_time():
                if self._wall.look():
                    router.set_wall_offset(self._wall.offset)
                self.act(router.handle_timeout(trio.current_time()))
                self.desk.change()  # what waited too long for a link or a session has made room
            if handled == self.limits.inbound_batches:
                await trio.lowlevel.checkpoint()

    def _next_inbound(self) -> Inbound | None:
        try:
            return self._inbound_out.receive_nowait()
        except trio.WouldBlock:
            return None

    def send(self, to: NodeId, payload: bytes) -> None:
        """Sends a datagram of the application, now or at the end of this turn."""
        now = trio.current_time()
        if self._sending:
            self.router.post(to, payload, now)
            self._posted += 1
            self._posted_bytes += len(payload)
            if self._posted >= _TURN_MESSAGES or self._posted_bytes > _TURN_BYTES:
                self._flush()
            return
        self._sending = True
        self._carry_out(self.router.send(to, payload, now))
        if self._router_idle:
            self._router_idle = False
            self._inbound_in.send_nowait(_WAKE_UP)

    def _flush(self) -> None:
        self._posted = self._posted_bytes = 0
        self._carry_out(self.router.flush())

    def act(self, actions: Iterable[Action]) -> None:
        """Carries out what the router wants done."""
        self._carry_out(actions)
        deadline = self.router.next_deadline()
        if deadline != self._timer.deadline:
            self._timer.deadline = deadline

    def _carry_out(self, actions: Iterable[Action]) -> None:
        """The same in the router task, or when that has its turn next: it looks at the deadline itself."""
        for action in actions:
            if type(action) is Transmit:
                link = action.link
                assert isinstance(link, Link)
                link.transmit(action.pieces, action.frames, action.size, action.via, control=action.control)
            elif type(action) is Deliver:
                self.desk.put(Message(action.data, action.sender, action.proven), action.size)
            else:
                act_rarely(self, action)

    # Links

    def admit(self, peer: NodeId, probe: bool, claims_relay: bool) -> tuple[Reason, bytes] | None:
        """See `Router.admit`."""
        now = trio.current_time()
        return (Reason.SHUTDOWN, b"") if self.desk.closed else self.router.admit(peer, probe, claims_relay, now)

    def link(self, connection: Connection, peer: NodeId, *, dialled: bool, legacy: bool = False) -> Link:
        """A new link over a connection whose other end is known."""
        link = Link(
            connection,
            peer,
            dialled=dialled,
            limits=self.limits,
            counts=self.counts,
            start_soon=self.services.start_soon,
            legacy=legacy,
        )
        self.links.add(link)
        return link

    async def run_link(
        self,
        connection: Connection,
        peer: Proven,
        first: Sequence[bytes | str],
        *,
        dialled: bool,
        url: str = "",
        rtt: float | None = None,
        negotiation: bytes = b"",
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """The life of a proven link; returns when it is closed. The caller's task is its reader."""
        if self.desk.closed:
            # Too late for a goodbye.
            connection.abort()
            task_status.started()
            return
        link = self.link(connection, peer.id, dialled=dialled)
        try:
            self._link_up(link, peer, url, rtt, negotiation)
            task_status.started()
            reading = self._read_to_end(link, first)
            del peer, first, negotiation  # an idle link does not hold them
            reason, alive = await reading
        except BaseException:
            self._link_down(link, "connection lost", alive=False)
            link.close_soon(Reason.UNWANTED)
            raise
        self._link_down(link, reason, alive=alive)
        await link.close(Reason.UNWANTED)

    def _link_up(self, link: Link, peer: Proven, url: str, rtt: float | None, negotiation: bytes) -> None:
        self.act(
            self.router.link_up(
                link,
                peer.id,
                trio.current_time(),
                dialled=link.dialled,
                url=url,
                authority=peer.authority,
                record=peer.record,
                group=link.group,
                scope=link.scope,
                rtt=rtt,
                negotiation=negotiation,
            )
        )

    def _link_down(self, link: Link, reason: str, *, alive: bool) -> None:
        self.act(self.router.link_down(link, reason, trio.current_time(), alive=alive))
        self.links.discard(link)

    async def _read_to_end(self, link: Link, messages: Sequence[bytes | str]) -> tuple[str, bool]:
        """The reader: hands on what comes until the link ends and the router has all of it.

        Returns:
            Why it ended, and whether politely.
        """
        connection, router = link.connection, self.router
        reason, alive = "connection lost", False
        try:
            while True:
                if not messages:
                    pass
                elif self._router_idle and len(messages) <= _LONE:
                    self.act(router.receive(link, messages, trio.current_time()))
                else:
                    self._router_idle = False
                    await self._inbound_in.send((link, messages))
                messages = ()  # an idle link holds nothing of what it read last
                messages = await connection.receive()
                if connection.control_pending:
                    link.answer_control()
                if not messages:
                    reason, alive = "closed by the other side", True
                    break
        except RemoteProtocolError as error:
            self.counts["protocol_errors"] += 1
            reason = str(error)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        if not self._router_idle:
            handled = trio.Event()
            await self._inbound_in.send(handled)
            await handled.wait()
        return reason, alive

    @property
    def link_count(self) -> int:
        """Links that are up, those with original nodes included."""
        return len(self.router.table) + sum(link.legacy and not link.closing for link in self.links)
