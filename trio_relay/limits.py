"""The bounds that an application may want to know or change: value, unit, and the reason for it.

One `Limits` value is passed down from `open_node`. What only one file needs, and nobody has a reason to change (the
capacity of a backoff table, the rate of hints), is a named constant at the head of that file.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]

KIB = 1024
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of one node. Sizes are bytes, times are seconds.

    Raises:
        ValueError: a value is not positive.
    """

    payload: int = 60 * KIB
    """Application bytes in one message: with the header and sealing it fits a 16-bit length field and a
    65,536-byte data channel message."""
    hops: int = 16
    """Hop limit set by the origin: greedy routing needs 4 hops for 10,000 peers, so 16 is never reached by
    honest frames and stops dishonest ones."""
    detours: int = 2
    """How many neighbours a relay that is stuck may try: 2 covers every loss of one link at the target's end."""
    read_size: int = 64 * KIB
    """Bytes taken from a socket at once: more does not raise throughput, less costs more checkpoints."""
    inbound_batches: int = 64
    """Batches between the readers and the router task; a full channel makes readers wait (TCP pushes back)."""

    backlog_frames: int = 4096
    """Frames waiting for a slow link, in all."""
    backlog_bytes: int = 1 * MIB
    """Bytes waiting for a slow link, in all; one eighth is kept free for control frames."""
    unlinked_messages: int = 256
    """Messages that wait for the first link."""
    unlinked_wait: float = 10.0
    """How long a message waits for the first link before it expires (counted)."""
    mailbox_messages: int = 1024
    """Messages received and not yet taken by the application; a confirmed one beyond that is answered busy."""
    mailbox_bytes: int = 8 * MIB
    """Bytes of those messages."""
    subscription_messages: int = 256
    """Publications waiting in one `Node.subscribe()` subscription; the newest are dropped (counted)."""
    subscription_bytes: int = 4 * MIB
    """Bytes of those publications; half of them for one publisher at most."""
    event_buffer: int = 256
    """Events waiting in one `Node.events()` subscription; what does not fit is reported as `EventsLost(n)`."""

    handshake_timeout: float = 5.0
    """From the accepted or dialled connection to the proven link, TLS and HTTP included."""
    connect_timeout: float = 15.0
    """For `Node.connect`: a lookup, a request through the overlay and a dial."""
    close_timeout: float = 2.0
    """How long shutdown waits for backlogs to drain and for close frames to be answered."""
    ping_after: float = 5.0
    """A link that was silent so long is asked for a sign of life."""
    dead_after: float = 10.0
    """A link that does not answer so long after the ping is dead."""

    connections: int = 4096
    """Accepted sockets, all kinds together; the next one is closed at once."""
    unproven_connections: int = 512
    """Accepted sockets whose peer has not proven an id yet; the oldest is closed for a newer one, so that
    silent connections never keep honest peers out."""
    leaves: int = 1024
    """Leaf links of a relay; a full relay refuses and names its nearest relays."""
    relay_links: int = 256
    """Relay links of a relay: simulated relays in a 10,000-peer network hold 79 (benchmark `overlay`)."""
    legacy_links: int = 256
    """Links with original peer-relay nodes."""
    dials: int = 8
    """Concurrent outgoing connection attempts: dials, probes of neighbours, bootstrap addresses."""

    http_head: int = 16 * KIB
    """Request line and headers of one HTTP request."""
    http_timeout: float = 5.0
    """From an accepted connection (or the previous response) to a complete HTTP head."""
    websocket_message: int = 128 * KIB
    """One WebSocket message on an overlay link; it carries several frames, and other nodes send up to this default."""
    websocket_fragments: int = 64
    """Fragments of one message: more than any implementation sends, too few to hold memory by headers."""
    legacy_message: int = 512 * KIB
    """One WebSocket message on a link with an original node: its JSON form of bytes is four times as large."""

    records: int = 4096
    """Peer records in the directory beside those of neighbours; those farthest from our id go first."""
    record_lifetime: float = 3600.0
    """Longest validity of a signed record."""
    lookup_timeout: float = 5.0
    """One iterative lookup."""
    lookups: int = 64
    """Concurrent lookups; one more is refused."""
    pending_deliveries: int = 1024
    """Confirmed messages waiting for their acknowledgement; `deliver` waits for room."""
    pending_deliveries_bytes: int = 16 * MIB
    """Payload bytes kept for their retries."""
    seen_messages: int = 65536
    """Received message ids remembered for 120 s, so that a retry is delivered once."""
    seen_messages_per_sender: int = 4096
    """The same for one sender, so that none can push out another's."""
    seen_for: float = 120.0
    """Longer than any retry of `deliver`."""

    sessions: int = 4096
    """Peers with end-to-end sessions, and twice as many sessions; one that is silent for a minute makes room
    for another, and a quarter is kept for peers that we write to."""
    session_openings: int = 256
    """Sessions that we are opening, half of them in place of old ones at most; one more waits."""
    half_open: int = 512
    """Sessions that others are opening with us; of the link that has most of them, the oldest makes room."""
    session_timeout: float = 10.0
    """How long we try to open a session, and how long a message waits for one."""
    session_lifetime: float = 600.0
    """Age at which a session is replaced: who steals a node's memory reads no more than its last sessions."""
    session_waiting: int = 1024
    """Messages that wait for a session; those for one receiver a quarter at most."""
    session_waiting_bytes: int = 4 * MIB
    """Bytes of those messages."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not value > 0:
                raise ValueError(f"limits.{name} must be positive, not {value!r}")
