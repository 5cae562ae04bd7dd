"""The connections of a peer, by the other peer's id and their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from .data_connection import DataConnection
from .early import Key
from .host import Link
from .media_connection import MediaConnection

__all__ = ["AnyConnection", "LinkTable"]

AnyConnection: TypeAlias = DataConnection | MediaConnection


class LinkTable:
    """Bounded by whoever adds."""

    def __init__(self) -> None:
        self._links: Final[dict[Key, Link]] = {}

    def __len__(self) -> int:
        return len(self._links)

    def __iter__(self) -> Iterator[Link]:
        return iter(list(self._links.values()))

    def get(self, key: Key) -> Link | None:
        """None when there is none."""
        return self._links.get(key)

    def add(self, link: Link) -> None:
        """Adds one; one that it takes the place of is stopped."""
        old = self._links.get(link.key)
        self._links[link.key] = link
        if old is not None:
            old.stop()

    def remove(self, link: Link) -> None:
        """It has ended."""
        if self._links.get(link.key) is link:
            del self._links[link.key]

    def of_peer(self, peer: str) -> list[Link]:
        """Those with one other peer."""
        return [link for (other, _), link in self._links.items() if other == peer]

    def open_connections(self) -> Mapping[str, Mapping[str, AnyConnection]]:
        """A snapshot of those that are open, by the other peer's id and by label.

        A media connection has no label; its id stands for it, and also for a label that was there before.
        """
        found: dict[str, dict[str, AnyConnection]] = {}
        for (peer, connection_id), link in self._links.items():
            connection = link.connection
            if connection.open:
                labels = found.setdefault(peer, {})
                label = connection.label if isinstance(connection, DataConnection) else connection_id
                labels[connection_id if label in labels else label] = connection
        return MappingProxyType({peer: MappingProxyType(labels) for peer, labels in found.items()})
