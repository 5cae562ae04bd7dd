"""How long a client waits for its server. Pure."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Pace"]


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a session waits for what; seconds.

    Attributes:
        accept: until it believes that a server which does not answer the first question took it in.
        idle: until it asks a silent server for a sign of life.
        dead: until the server is dead, after that.
        close: until a goodbye is given up.
    """

    accept: float
    idle: float
    dead: float
    close: float

    @property
    def patience(self) -> float:
        """How long a server may take nothing, while what it sent cannot be looked at because the inbox is full."""
        return self.idle + self.dead
