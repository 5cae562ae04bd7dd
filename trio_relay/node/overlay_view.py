"""What the gateway to original nodes may know of the overlay: its `OverlayView`, answered by the router."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..wire.ids import NodeId
from ..wire.record import Role
from .runtime import Runtime

__all__ = ["RouterView"]


class RouterView:
    """What the gateway asks about our own kind."""

    def __init__(self, runtime: Runtime) -> None:
        self._own: Final = runtime.identity.id
        self._router: Final = runtime.router

    def is_ours(self, node_id: NodeId) -> bool:
        router = self._router
        known = self.linked(node_id) or router.has_session(node_id) or router.record_of(node_id) is not None
        return known or node_id == self._own

    def reaches(self, node_id: NodeId) -> bool:
        return self._router.first_hop(node_id) is not None

    def gateways_of(self, node_id: NodeId) -> Sequence[NodeId]:
        records = sorted(self._router.gateways_of(node_id), key=lambda record: record.sequence, reverse=True)
        return [record.gateway for record in records if record.gateway != self._own]

    def legacy_nodes(self) -> Sequence[NodeId]:
        neighbours = [n.record for n in self._router.table if n.record is not None]
        records = {record.id: record for record in (*self._router.known_relays(), *neighbours)}
        return [i for i, record in records.items() if record.urls and Role.LEGACY in record.roles]

    def linked(self, node_id: NodeId) -> bool:
        return self._router.table.get(node_id) is not None
