"""Which way an original's envelope goes: over a link, carried over the overlay, or flooded; pure.

Rules of this file:

1. An id that is behind a link of ours gets its envelope there; an id of our own kind over the overlay; an original
   that is linked with other nodes of ours through one of those (its gateway); the rest as originals do it, to the two
   closest links that the envelope has not visited.
2. One envelope in, at most three out, whatever happens; it never goes back where it came from or where it was. For
   each of our nodes that did not confirm one, the next is tried, four times in all.
3. Our application's messages are plain text here, so they are flooded only after a lookup found no key for their
   target. Those of others are flooded at once and also carried when the lookup says where to.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from ..._bounded import BoundedMap
from ...exceptions import LocalProtocolError
from ...limits import Limits
from ...wire.body import Body, Tunnel, User, parse_body_fields_untrusted
from ...wire.envelope import MAX_PATH, Envelope, build_envelope, make_envelope
from ...wire.ids import NodeId, distance
from .actions import GatewayAction, Lookup, OverlayView, SendCarried, SendOverlay, SendText
from .carriage import carry
from .links import LegacyLink, LegacyLinks
from .waiting import Origin, Waiting, WaitingRoom

__all__ = ["FAN_OUT", "EnvelopeRouter"]

FAN_OUT: Final = 2
"""Links that a flooded envelope leaves by, as the original does it."""
_WAYS: Final = 2048
_WAY_FOR: Final = 600.0
"""How long it is remembered where an id was heard."""
_FAILED_FOR: Final = 60.0
_RETRIES: Final = 4
_TALKERS: Final = 2048
_TALKER_FOR: Final = 1800.0


class EnvelopeRouter:
    """Sends envelopes on; knows nothing of what is in them, except what would end an original's process."""

    def __init__(
        self,
        own: NodeId,
        *,
        limits: Limits,
        rng: random.Random,
        now: float,
        overlay: OverlayView,
        links: LegacyLinks,
        counts: Counter[str],
    ) -> None:
        self._own: Final = own
        self._rng: Final = rng
        self._overlay: Final = overlay
        self._links: Final = links
        self._counts: Final = counts
        self.waiting: Final = WaitingRoom(limits, counts, now)
        self._carriers: Final = BoundedMap[NodeId, NodeId](_WAYS, _WAY_FOR)
        self._heard: Final = BoundedMap[NodeId, LegacyLink](_WAYS, _WAY_FOR)
        self._failed: Final = BoundedMap[NodeId, bool](_WAYS, _FAILED_FOR)
        self._tries: Final = BoundedMap[tuple[NodeId, bytes], int](_WAYS, _FAILED_FOR)
        self._talkers: Final = BoundedMap[NodeId, bool](_TALKERS, _TALKER_FOR)

    @property
    def remembered(self) -> int:
        """Ids of which something is remembered."""
        known = len(self._carriers) + len(self._heard) + len(self._failed) + len(self._tries) + len(self._talkers)
        return known + self.waiting.unknown_ids

    # What is learned from envelopes that arrive

    def learn(self, envelope: Envelope, origin: Origin, now: float) -> None:
        """Remembers where an original can be answered, and whether it does WebRTC: it signals, or says so."""
        source = envelope.source
        if origin.carrier is not None and origin.carrier != source:
            self._carriers.set(source, origin.carrier, now)
        elif origin.link is not None:
            entry = self._links.get(origin.link)
            if entry is not None and entry.peer != source:
                self._heard.set(source, entry, now)
        data = envelope.data
        says = envelope.body_type == "handshake-answer" and isinstance(data, dict) and data.get("wrtc") is True
        if says or envelope.body_type == "signal":
            self._talkers.set(source, True, now)

    def knows(self, node_id: NodeId, now: float) -> bool:
        """Whether there is a sign that the id is an original's."""
        if self._overlay.is_ours(node_id):
            return False
        return (
            self._links.of(node_id) is not None
            or bool(self._overlay.gateways_of(node_id))
            or self._carriers.get(node_id, now) is not None
            or self._heard.get(node_id, now) is not None
        )

    # Sending

    def envelope(self, to: NodeId, body: Body) -> Envelope:
        """An envelope of our own.

        Raises:
            LocalProtocolError: an original would throw on it, or it has no JSON form.
        """
        nonce = str(self._rng.randrange(10**15))
        envelope = make_envelope(body, to=to, source=self._own, nonce=nonce)
        build_envelope(envelope)
        return envelope

    def reply(self, envelope: Envelope, body: Body, origin: Origin, now: float) -> list[GatewayAction]:
        """Answers an envelope, the way it came."""
        actions = self._back(self.envelope(envelope.source, body), origin, now)
        if actions is None:
            self._counts["legacy_no_way"] += 1
        return actions or []

    def send_back(self, to: NodeId, body: Body, origin: Origin, now: float) -> list[GatewayAction]:
        """Sends a word of ours to an id whose last envelope came from `origin`, some time ago."""
        try:
            envelope = self.envelope(to, body)
            actions = self._back(envelope, origin, now)
            if actions is not None:
                return actions
            return self.send(envelope, Origin(size=len(build_envelope(envelope))), now)
        except LocalProtocolError:
            self._counts["legacy_unsafe"] += 1
            return []

    def _back(self, answer: Envelope, origin: Origin, now: float) -> list[GatewayAction] | None:
        """None: there is no way back."""
        entry = self._links.of(answer.to)
        if entry is None and origin.link is not None:
            entry = self._links.get(origin.link)
        if entry is not None:
            return self._texts([entry], answer, Origin(), now)
        if origin.carrier is not None:
            return self._carry([origin.carrier], answer, Origin(), now)
        return None

    def forward(self, envelope: Envelope, origin: Origin, now: float) -> list[GatewayAction]:
        """Sends an envelope that is not for us on its way, with us in its path."""
        if len(envelope.path) >= MAX_PATH:
            self._counts["legacy_hop_limit"] += 1
            return []
        return self.send(replace(envelope, path=(*envelope.path, self._own)), origin, now)

    def send(self, envelope: Envelope, origin: Origin, now: float) -> list[GatewayAction]:
        """Sends an envelope whose path ends with us.

        A message of our application is plain text: whoever claims to be its target, or to speak for it, gets it only
        after a lookup found no key of that id.
        """
        to = envelope.to
        ready = self._overlay.is_ours(to) or self.waiting.is_keyless(to, now)
        if origin.own and envelope.body_type == "user" and not ready:
            return self._wait(envelope, origin, now)
        return self._send(envelope, origin, now)

    def _wait(self, envelope: Envelope, origin: Origin, now: float) -> list[GatewayAction]:
        waits, ask = self.waiting.add(Waiting(envelope, origin), now)
        if not waits:
            self._counts["legacy_dropped"] += 1
        return [Lookup(envelope.to)] if ask else []

    def _send(self, envelope: Envelope, origin: Origin, now: float) -> list[GatewayAction]:
        entry = self._links.of(envelope.to)
        if self._overlay.is_ours(envelope.to) and (origin.own or entry is None):
            return self._send_to_ours(envelope, origin, now)
        gateways = self._gateways(envelope.to, envelope.path, origin, now)
        if entry is not None:
            texts = self._texts([entry], envelope, origin, now)
            # Who has said nothing yet may never read: an original ignores what it gets twice.
            return texts if entry.spoken or not texts else [*texts, *self._carry(gateways[:1], envelope, origin, now)]
        if gateways:
            return self._carry(gateways, envelope, origin, now)
        if self.waiting.is_unknown(envelope.to, now):
            return self._send_blindly(envelope, origin, now)
        flooded = [] if origin.own else self._flood(envelope, origin, now)
        waits, ask = self.waiting.add(Waiting(envelope, origin), now)
        if not waits and not flooded:
            self._counts["legacy_dropped"] += 1
        return [*flooded, Lookup(envelope.to)] if ask else flooded

    def looked_up(self, target: NodeId, now: float) -> list[GatewayAction]:
        """The lookup of a target ended: whoever waited for it goes."""
        actions: list[GatewayAction] = []
        for waiting in self.waiting.take(target):
            actions += self._send_waiting(waiting.envelope, waiting.origin, now)
        return actions

    def _send_waiting(self, envelope: Envelope, origin: Origin, now: float) -> list[GatewayAction]:
        """Strangers' envelopes were flooded already, so they are carried once at most."""
        if origin.own:
            return self._send_own(envelope, now)
        if self._links.of(envelope.to) is not None:
            return self.send(envelope, origin, now)
        if self._overlay.is_ours(envelope.to):
            reached = self._overlay.reaches(envelope.to)
            return self._carry([envelope.to], envelope, origin, now) if reached else []
        gateways = self._gateways(envelope.to, envelope.path, origin, now)[:1]
        if gateways:
            return self._carry(gateways, envelope, origin, now)
        carried = self._carry_blindly(envelope, origin, now)
        self._counts["legacy_not_found"] += not carried
        return carried

    def carry_failed(self, envelope: Envelope, carrier: NodeId, now: float) -> list[GatewayAction]:
        """One of our nodes did not confirm what it was to carry: it is avoided for a while, and another is tried."""
        self._failed.set(carrier, True, now)
        if envelope.to == carrier:
            return []
        key = envelope.source, envelope.nonce.encode()
        tries = (self._tries.get(key, now) or 0) + 1
        self._tries.set(key, tries, now)
        if tries > _RETRIES:
            self._counts["legacy_carry_given_up"] += 1
            return []
        origin = Origin() if envelope.source == self._own else Origin(carrier=carrier)
        ways = self._gateways(envelope.to, envelope.path, origin, now) or self._blind_carriers(envelope, now)
        if not ways or self._links.of(envelope.to) is not None or self._overlay.is_ours(envelope.to):
            return self.send(envelope, origin, now)
        return self._carry(ways[:1], envelope, origin, now)

    def tunnel(self, frame: bytes, to: NodeId, now: float) -> list[GatewayAction]:
        """Sends a frame of ours through originals."""
        return self._flood(self.envelope(to, Tunnel(frame)), Origin(), now)

    def _send_own(self, envelope: Envelope, now: float) -> list[GatewayAction]:
        known = self._links.of(envelope.to) is not None or self._overlay.is_ours(envelope.to)
        if known or self._gateways(envelope.to, envelope.path, Origin(), now):
            return self._send(envelope, Origin(), now)
        return self._send_blindly(envelope, Origin(), now)

    def _send_blindly(self, envelope: Envelope, origin: Origin, now: float) -> list[GatewayAction]:
        """A lookup found no trace of the target; where there is nobody to ask, the overlay does what it can."""
        actions = self._flood(envelope, origin, now) + self._carry_blindly(envelope, origin, now)
        return actions if actions or not origin.own else self._over_overlay(envelope)

    def _send_to_ours(self, envelope: Envelope, origin: Origin, now: float) -> list[GatewayAction]:
        if origin.own:
            return self._over_overlay(envelope)
        if not self._overlay.reaches(envelope.to):
            return self._flood(envelope, origin, now)
        return self._carry([envelope.to], envelope, origin, now)

    def _over_overlay(self, envelope: Envelope) -> list[GatewayAction]:
        """Our own message, in our own protocol; what originals say among themselves has no meaning there."""
        body = parse_body_fields_untrusted(envelope.body_type, envelope.data, envelope.has_data)
        if isinstance(body, User):
            return [SendOverlay(envelope.to, body.value)]
        self._counts["legacy_no_way"] += 1
        return []

    # Ways

    def carrier_of(self, to: NodeId, now: float) -> NodeId | None:
        """Which of our nodes an own message for an original is given to first, None if to none."""
        return next(iter(self._gateways(to, (), Origin(), now)), None)

    def has_room(self, to: NodeId, now: float) -> bool:
        """Whether an own message has a way, or may wait for a lookup."""
        if self.waiting.has_room or self._overlay.is_ours(to):
            return True
        if not self.waiting.is_keyless(to, now):
            return False
        known = self.waiting.is_unknown(to, now) or self._links.of(to) is not None
        return known or self.carrier_of(to, now) is not None

    def _gateways(self, to: NodeId, path: Iterable[NodeId], origin: Origin, now: float) -> list[NodeId]:
        """Whom to give it to: one if it is known to be alive, else two."""
        excluded = {*path, origin.carrier, to}
        gateways = self._alive(self._overlay.gateways_of(to), excluded, now)
        carrier = self._carriers.get(to, now)
        if carrier is not None and self._alive([carrier], excluded, now) and (carrier in gateways or not gateways):
            return [carrier]
        linked = [node_id for node_id in gateways if self._overlay.linked(node_id)]
        return linked[:1] or gateways[:FAN_OUT]

    def _alive(self, nodes: Iterable[NodeId], excluded: set[NodeId | None], now: float) -> list[NodeId]:
        return [n for n in nodes if n not in excluded and n != self._own and self._failed.get(n, now) is None]

    def _flood(self, envelope: Envelope, origin: Origin, now: float) -> list[GatewayAction]:
        entries = self._links.closest(envelope.to, FAN_OUT, without=frozenset(envelope.path))
        heard = self._heard.get(envelope.to, now)
        if heard is not None and self._links.get(heard.link) is heard and heard.peer not in envelope.path:
            entries = [heard, *(entry for entry in entries if entry is not heard)][:FAN_OUT]
        return self._texts(entries, envelope, origin, now)

    def _carry_blindly(self, envelope: Envelope, origin: Origin, now: float) -> list[GatewayAction]:
        """Nobody knows the target; originals link with those closest to them, so ask the closest that admits some."""
        if origin.carrier is not None:
            return []
        nodes = self._blind_carriers(envelope, now)
        return self._carry(nodes[: FAN_OUT if origin.own and not len(self._links) else 1], envelope, origin, now)

    def _blind_carriers(self, envelope: Envelope, now: float) -> list[NodeId]:
        """Nodes of ours that admit originals, the closest to the target first."""
        nodes = self._alive(self._overlay.legacy_nodes(), {*envelope.path, envelope.to}, now)
        return sorted(nodes, key=lambda node_id: distance(node_id, envelope.to))

    # Writing

    def _texts(self, entries: list[LegacyLink], envelope: Envelope, origin: Origin, now: float) -> list[GatewayAction]:
        usable = [entry for entry in entries if entry.link is not origin.link]
        if not usable or not self._is_harmless(envelope, now):
            return []
        try:
            text = build_envelope(envelope)
        except LocalProtocolError:
            self._counts["legacy_unsafe"] += 1
            return []
        return [SendText(entry.link, text, origin.link) for entry in usable]

    def _is_harmless(self, envelope: Envelope, now: float) -> bool:
        """A signal ends the process of an original without WebRTC."""
        to = envelope.to
        if envelope.body_type != "signal" or self._talkers.get(to, now) is not None or self._overlay.is_ours(to):
            return True
        self._counts["legacy_unsafe"] += 1
        return False

    def _carry(self, nodes: list[NodeId], envelope: Envelope, origin: Origin, now: float) -> list[GatewayAction]:
        if not nodes or not self._is_harmless(envelope, now):
            return []
        try:
            payload = carry(envelope)
        except LocalProtocolError:
            self._counts["legacy_not_carried"] += 1
            return []
        return [SendCarried(node_id, payload, origin.link) for node_id in nodes]

    def expire(self, now: float) -> None:
        """Forgets what is old."""
        for known in (self._carriers, self._heard, self._failed, self._tries, self._talkers):
            known.expire(now)
