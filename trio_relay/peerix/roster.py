"""Who is in a room: members come by signals and go with their connections; those whose connection failed are invited
again."""

from __future__ import annotations

import random
from collections import Counter, deque
from inspect import isawaitable
from typing import Any, Final

import trio

from .._bounded import BoundedMap
from ..exceptions import RemoteProtocolError, RoomError
from ..node.services import Services
from . import events
from .members.host import Host
from .members.member import Member
from .members.negotiator import MAX_HELD, MemberAnswer, MemberCandidate, MemberOffer, MemberSignal
from .packets.signalling import Announce, Answer, Candidates, Invoke, Offer, Signal
from .sending import Sender
from .signalling.exchange import Exchange

__all__ = ["Roster"]

_RETRY_AFTER: Final = 1.0
_MAX_RETRY_AFTER: Final = 16.0
"""Seconds, the ceilings of the random waits before a member is invited again; they double."""
_STABLE_AFTER: Final = 10.0
"""Seconds after which a connection that was up counts as a good one: retries begin anew."""
_ANSWER_EVERY: Final = 5.0
"""Seconds between two invitations to a member that is connected, and announces itself: to us, it is not lost."""
_INVITE_EVERY: Final = 0.5
"""Seconds between two invitations to one that is not."""
_MAX_REMEMBERED: Final = 1024
_EARLY_LIFETIME: Final = 30.0


class Roster:
    """One stay in a room. None of its methods waits; members run as services.

    Args:
        counts: ``members_refused`` (too many), ``members_unverified``, ``verifications_refused``,
            ``members_replaced`` (it had lost us), ``invitations_sent``, ``invitations_spared``, ``invitations_ignored``
            (of a member that there is), ``candidates_dropped``, ``answers_ignored``.
    """

    def __init__(
        self, host: Host, exchange: Exchange, services: Services, sender: Sender, counts: Counter[str]
    ) -> None:
        self.members: Final[dict[str, Member]] = {}
        self._host: Final = host
        self._exchange: Final = exchange
        self._services: Final = services
        self._sender: Final = sender
        self._counts: Final = counts
        self._verifying: Final[dict[str, deque[MemberSignal]]] = {}
        self._early: Final[BoundedMap[str, deque[MemberSignal]]] = BoundedMap(64, _EARLY_LIFETIME)
        self._invited: Final[BoundedMap[str, float]] = BoundedMap(_MAX_REMEMBERED, 60.0)
        self._returning: Final[dict[str, tuple[Any, MemberSignal]]] = {}
        self._retrying: Final[set[str]] = set()
        self._retries: Final[BoundedMap[str, int]] = BoundedMap(_MAX_REMEMBERED, 300.0)

    async def drain(self) -> None:
        """Waits until all members have what was said to them; see `Connection.drain`."""
        async with trio.open_nursery() as nursery:
            for member in self.members.values():
                if member.link.is_up:
                    nursery.start_soon(member.link.drain)

    # Signals

    def take(self, sender: str, signal: Signal) -> None:
        """A signal has come."""
        match signal:
            case Announce():
                self._on_announce(sender)
            case Invoke(metadata):
                self._on_invite(sender, metadata)
            case Offer(sdp, metadata):
                self._on_offer(sender, MemberOffer(sdp), metadata)
            case Answer(sdp):
                self._on_answer(sender, MemberAnswer(sdp))
            case Candidates(candidates):
                for candidate in candidates:
                    self._on_candidate(sender, MemberCandidate(candidate, True))

    def _on_announce(self, sender: str) -> None:
        now = trio.current_time()
        member = self.members.get(sender)
        spared = _ANSWER_EVERY if member is not None and member.state == "connected" else _INVITE_EVERY
        invited = self._invited.get(sender, now)
        if invited is not None and now - invited < spared:
            self._counts["invitations_spared"] += 1
            return
        self.invite(sender)

    def _on_invite(self, sender: str, metadata: Any) -> None:
        member = self.members.get(sender)
        if member is None:
            self._admit(sender, metadata, None)
        else:
            # It may have lost us. But everybody can announce in its name, and in ours, which is answered so, too.
            # Only an offer of another connection, which nobody else can seal, tells that it begins anew.
            self._counts["invitations_ignored"] += 1

    def _replace(self, member: Member, metadata: Any, first: MemberSignal) -> None:
        """A member has begun anew: so do we."""
        self._counts["members_replaced"] += 1
        self._returning[member.id] = (metadata, first)
        member.link.close()

    def invite(self, id: str) -> None:
        """Tells somebody that we are there."""
        self._invited.set(id, trio.current_time(), trio.current_time())
        self._counts["invitations_sent"] += 1
        self._host.say(Invoke(self._host.own_metadata), id)

    def _on_offer(self, sender: str, offer: MemberOffer, metadata: Any) -> None:
        member = self.members.get(sender)
        if member is not None and member.link.is_up and member.link.is_of_another(offer.sdp):
            self._replace(member, metadata, offer)
        elif member is not None:
            member.link.take(offer)
        elif (waiting := self._verifying.get(sender)) is not None:
            self._hold(waiting, offer)
        else:
            self._admit(sender, metadata, offer)

    def _on_answer(self, sender: str, answer: MemberAnswer) -> None:
        if (member := self.members.get(sender)) is not None:
            member.link.take(answer)
        else:
            self._counts["answers_ignored"] += 1

    def _on_candidate(self, sender: str, candidate: MemberCandidate) -> None:
        now = trio.current_time()
        if (member := self.members.get(sender)) is not None:
            member.link.take(candidate)
        elif (waiting := self._verifying.get(sender)) is not None:
            self._hold(waiting, candidate)
        else:
            early = self._early.get(sender, now) or deque[MemberSignal]()
            self._hold(early, candidate)
            self._early.set(sender, early, now)

    def _hold(self, waiting: deque[MemberSignal], signal: MemberSignal) -> None:
        if len(waiting) >= MAX_HELD:
            waiting.popleft()
            self._counts["candidates_dropped"] += 1
        waiting.append(signal)

    # Members

    def _admit(self, id: str, metadata: Any, first: MemberSignal | None) -> None:
        """Makes a member of somebody, after asking whether to."""
        if id in self._verifying:
            return
        limits, verify = self._host.options.limits, self._host.options.verify
        if len(self.members) + len(self._verifying) >= limits.members:
            self._refuse(id, "members_refused", f"there are {len(self.members)} members already")
            return
        if verify is None:
            self._create(id, metadata, [first] if first is not None else [])
            return
        if len(self._verifying) >= limits.verifications:
            self._refuse(id, "verifications_refused", f"{len(self._verifying)} others are being verified")
            return
        self._verifying[id] = deque([first] if first is not None else [])
        self._services.start_soon(self._verify, id, metadata)

    async def _verify(self, id: str, metadata: Any) -> None:
        """What `verify` raises is a refusal, and told: a stranger's metadata must not end the room."""
        verify, limits = self._host.options.verify, self._host.options.limits
        assert verify is not None
        accepted = False
        try:
            with trio.fail_after(limits.verify_timeout):
                answer = verify(id, metadata)
                accepted = bool(await answer if isawaitable(answer) else answer)
            if not accepted:
                self._counts["members_unverified"] += 1
        except trio.TooSlowError:
            self._refuse(id, "members_unverified", f"verify did not answer within {limits.verify_timeout:g} s")
        except Exception as error:
            self._refuse(id, "members_unverified", f"verify failed: {type(error).__name__}: {error}")
        finally:
            waiting = self._verifying.pop(id)
        if accepted:
            self._create(id, metadata, list(waiting))

    def _refuse(self, id: str, why: str, message: str) -> None:
        self._counts[why] += 1
        error = RoomError("NEGOTIATION_ERROR", f"a member was not let in: {message}")
        self._host.complain(events.ErrorEvent(error, id), None)

    def _create(self, id: str, metadata: Any, signals: list[MemberSignal]) -> None:
        now = trio.current_time()
        try:
            self._exchange.pin(id, now)
        except RemoteProtocolError as error:
            self._refuse(id, "members_refused", str(error))
            return
        member = self.members[id] = Member(id, metadata, self._host, self._sender)
        for signal in (*signals, *(self._early.pop(id) or ())):
            member.link.take(signal)
        self._host.tell(events.ConnectionNew(member))
        self._services.start_soon(self._run, member)

    async def _run(self, member: Member) -> None:
        """A member's whole life."""
        try:
            await member.link.run()
        finally:
            self._remove(member)

    def _remove(self, member: Member) -> None:
        now = trio.current_time()
        link = member.link
        del self.members[member.id]
        self._exchange.unpin(member.id)
        if link.failed:
            member.state = "failed"
            self._host.report(RoomError("NEGOTIATION_ERROR", f"the connection failed: {link.reason}"), member)
            self._host.tell(events.ConnectionFailed(member))
        member.state = "closed"
        self._host.tell(events.ConnectionClosed(member))
        member.end()
        if unclaimed := link.unclaimed():
            self._early.set(member.id, deque(unclaimed, MAX_HELD), now)
        if (returning := self._returning.pop(member.id, None)) is not None:
            self._admit(member.id, *returning)
        elif link.failed and member.id not in self._retrying:
            if link.connected_at is not None and now - link.connected_at >= _STABLE_AFTER:
                self._retries.pop(member.id)
            self._retrying.add(member.id)
            self._services.start_soon(self._retry, member.id)

    async def _retry(self, id: str) -> None:
        """Invites somebody again and again, until there is a connection under way, or it is of no use."""
        try:
            while True:
                tried = self._retries.get(id, trio.current_time()) or 0
                if tried >= self._host.options.limits.retries:
                    return
                self._retries.set(id, tried + 1, trio.current_time())
                await trio.sleep(random.random() * min(_RETRY_AFTER * 2**tried, _MAX_RETRY_AFTER))
                if id in self.members or id in self._verifying:
                    return
                self.invite(id)
        finally:
            self._retrying.discard(id)
