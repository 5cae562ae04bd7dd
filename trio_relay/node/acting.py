"""What the router wants done now and then: told to the application, or given to the part of the node that does it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from ..overlay.actions import (
    Acknowledged,
    Action,
    Answered,
    CloseLink,
    Connected,
    DeliverLegacy,
    Dial,
    EndNegotiation,
    Failed,
    Found,
    Linked,
    Negotiate,
    NotConnected,
    Relinked,
    SessionReady,
    Tunnel,
    Unlinked,
)
from ..transports.connection import TransportName
from ..wire.ids import short
from .desk import Waiter
from .link import Link
from .values import CandidateTypes, LinkChanged, LinkDown, LinkUp, Receipt

if TYPE_CHECKING:
    from .runtime import Runtime

__all__ = ["act_rarely"]

logger: Final = logging.getLogger("trio_relay")


def act_rarely(runtime: Runtime, action: Action) -> None:
    """Carries out any action but those that a node does all the time."""
    match action:
        case Acknowledged():
            runtime.desk.settle(action.message_id, Receipt(action.rtt, action.hops))
        case Failed():
            runtime.desk.settle(action.message_id, action.error)
        case Dial():
            runtime.dial(action)
        case CloseLink(link=Link() as link):
            link.close_soon(action.reason)
        case Linked(link=Link() as link):
            logger.debug("%s linked with %s", short(runtime.identity.id), short(action.id))
            runtime.desk.events.publish(LinkUp(action.id, *_details(runtime, link)))
            if runtime.router.connecting(action.id) is None:
                runtime.desk.grant(action.id, link)
            runtime.desk.change()
            if runtime.legacy is not None:
                runtime.legacy.overlay_changed()
        case Unlinked(link=Link() as link):
            logger.debug("%s lost %s: %s", short(runtime.identity.id), short(action.id), action.reason)
            runtime.desk.events.publish(LinkDown(action.id, action.reason.replace("_", " ")))
            if not runtime.router.table.relay_count:
                runtime.lonely.set()
                runtime.lonely = trio.Event()
            runtime.desk.change()
        case Relinked(link=Link() as link, old=Link() as old):
            old.hand_over(link)
            runtime.desk.events.publish(LinkChanged(action.id, *_details(runtime, link)))
        case NotConnected() if runtime.legacy is not None and runtime.legacy.claims(action.id):
            pass  # the gateway knows more of an id without a key
        case Connected() | NotConnected():
            runtime.desk.grant(action.id, action, action.only if isinstance(action, Connected) else None)
        case Negotiate() | Answered() | EndNegotiation():
            runtime.negotiate(action)
        case SessionReady():
            runtime.desk.change()
        case Found(query=Waiter() as waiter):
            waiter.put(action)
        case Found() if runtime.legacy is not None:
            runtime.legacy.found(action)
        case DeliverLegacy() if runtime.legacy is not None:
            runtime.legacy.carried(action)
        case Tunnel() if runtime.legacy is not None:
            runtime.legacy.tunnel(action)
        case DeliverLegacy():
            runtime.counts["legacy_refused"] += 1
        case _ if not runtime.topics(action):
            raise AssertionError(f"unexpected action {action!r}")


def _details(runtime: Runtime, link: Link) -> tuple[TransportName, float | None, CandidateTypes | None]:
    """What an event tells about a link that is in use."""
    neighbour = runtime.router.table.get(link.peer)
    return link.connection.transport, None if neighbour is None else neighbour.rtt, link.candidates
