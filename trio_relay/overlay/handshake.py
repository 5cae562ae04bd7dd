"""Proof of a link: both ends show that they own the key behind their id; pure.

Rules of this file:

1. The acceptor speaks first; a dialler says nothing before it has seen a hello of ours.
2. A signature covers a domain string, the signer's role and everything exchanged before it, so it can be neither
   replayed, reflected, nor carried to another address: the dialled authority is under the dialler's signature.
3. Cheap checks come before signatures; whoever refuses says why.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final

from ..exceptions import HandshakeError, LocalProtocolError, RemoteProtocolError
from ..wire import hello
from ..wire.hello import Field, Reason, Reply
from ..wire.ids import NodeId, short
from ..wire.record import PeerRecord, Role, Sign, Verify, id_of_key, parse_record_untrusted

__all__ = ["Acceptor", "Admit", "Dialler", "Proven", "Refused"]

_DOMAIN: Final = b"trio-relay link 1\0"

Admit = Callable[[NodeId, bool, bool], "tuple[Reason, bytes] | None"]
"""(id, whether it only probes, whether it says that it relays) -> None, or the reason to refuse it and the relays to
try instead (joined records)."""


class Refused(HandshakeError):
    """One side does not want the link.

    Attributes:
        reason: a `Reason`, or the number of one of a later version.
        by_us: whether this side refuses.
        message: what to send before closing, empty when the other side refused.
        records: relays to try instead, joined as in FOUND; not yet verified.
    """

    def __init__(self, text: str, reason: int, *, message: bytes = b"", records: bytes = b"") -> None:
        super().__init__(text)
        self.reason: Final = reason
        self.message: Final = message
        self.by_us: Final = bool(message)
        self.records: Final = records


@dataclass(frozen=True, slots=True)
class Proven:
    """The other end of a link, its key proven.

    Attributes:
        authority: as acceptor, the ``host:port`` that the dialler says it dialled.
        probe: as acceptor, whether the dialler only checks reachability.
    """

    id: NodeId
    public_key: bytes
    record: PeerRecord | None = None
    authority: str = ""
    probe: bool = False


def _refuse(reason: Reason, text: str, records: bytes = b"") -> Refused:
    fields: dict[int, bytes] = {Field.TEXT: text.encode()}
    if records:
        fields[Field.RECORDS] = records
    return Refused(f"refused: {text}", reason, message=hello.Refusal(reason, fields).to_bytes())


def _refused_untrusted(data: bytes) -> Refused | None:
    refusal = hello.parse_refusal_untrusted(data)
    if refusal is None:
        return None
    text = refusal.fields.get(Field.TEXT, b"")[:200].decode("utf-8", "replace")
    words = f"refused by the other side: {refusal.name}" + (f" ({text})" if text.isprintable() and text else "")
    return Refused(words, refusal.reason, records=refusal.fields.get(Field.RECORDS, b""))


def _own_record_untrusted(raw: bytes | None, public_key: bytes, verify: Verify) -> PeerRecord | None:
    if raw is None:
        return None
    record = parse_record_untrusted(raw, verify)
    if record.public_key != public_key or record.id != record.gateway:
        raise RemoteProtocolError(f"expected the record of {id_of_key(public_key).hex()}, not of {record.id.hex()}")
    return record


def _transcript(role: bytes, *messages: bytes) -> bytes:
    digest = hashlib.sha256()
    for message in messages:
        digest.update(len(message).to_bytes(4, "big"))
        digest.update(message)
    return _DOMAIN + role + b"\0" + digest.digest()


@dataclass(slots=True)
class Acceptor:
    """Our end of a link that the other side dialled.

    Args:
        nonce: 32 random bytes, used once.
        record: our own record, told to the dialler once it is proven.
        authorities: every ``host:port`` that we advertise.
        admit: the last word on an id, asked after the cheap checks and before its signature is verified.
    """

    public_key: bytes
    sign: Sign
    verify: Verify
    nonce: bytes
    record: bytes
    authorities: Collection[str]
    admit: Admit
    _hello: bytes = field(init=False, default=b"")

    def greet(self) -> bytes:
        """The first message of the link."""
        self._hello = hello.Hello(self.nonce, self.public_key).to_bytes()
        return self._hello

    def receive(self, data: bytes) -> tuple[bytes, Proven]:
        """Takes the dialler's reply.

        Returns:
            The proof to send, and who the dialler is.

        Raises:
            RemoteProtocolError: malformed.
            Refused: by either side; send its `message`, if any, and close.
            LocalProtocolError: `greet` was not called, or this was called before: a nonce is good for one reply.
        """
        offer, self._hello = self._hello, b""
        if not offer:
            raise LocalProtocolError("expected one reply, after greet")
        refused = _refused_untrusted(data)
        if refused is not None:
            raise refused
        reply = hello.parse_reply_untrusted(data)
        if not hello.FIRST_VERSION <= reply.version <= hello.LAST_VERSION:
            raise _refuse(Reason.VERSION, f"version {reply.version} is not spoken here")
        peer = id_of_key(reply.public_key)
        self._check(peer, reply)
        unsigned = data[: -len(reply.signature)]
        if not self.verify(reply.public_key, reply.signature, _transcript(b"dialler", offer, unsigned)):
            raise _refuse(Reason.BAD_PROOF, f"the signature of {short(peer)} is wrong")
        record = _own_record_untrusted(reply.fields.get(Field.RECORD), reply.public_key, self.verify)
        proof = hello.Proof({Field.RECORD: self.record}).to_bytes()
        proof += self.sign(_transcript(b"acceptor", offer, data, proof))
        authority = reply.fields.get(Field.AUTHORITY, b"").decode("ascii", "replace")
        return proof, Proven(peer, reply.public_key, record, authority, Field.PROBE in reply.fields)

    def _check(self, peer: NodeId, reply: Reply) -> None:
        if reply.public_key == self.public_key:
            raise _refuse(Reason.SELF, "a link with oneself")
        authority = reply.fields.get(Field.AUTHORITY, b"").decode("ascii", "replace")
        if Field.FROM_RECORD in reply.fields and authority not in self.authorities:
            raise _refuse(Reason.WRONG_AUTHORITY, f"{authority[:80]!r} is not an address of ours")
        roles = reply.fields.get(Field.RECORD, b"")[2:3]
        claims_relay = bool(roles) and bool(roles[0] & Role.RELAY)
        verdict = self.admit(peer, Field.PROBE in reply.fields, claims_relay)
        if verdict is not None:
            reason, records = verdict
            raise _refuse(reason, reason.name.lower().replace("_", " "), records)


@dataclass(slots=True)
class Dialler:
    """Our end of a link that we dialled.

    Args:
        nonce: 32 random bytes, used once.
        record: our own record.
        authority: ``host:port`` that we dialled.
        expected: the id that must answer, if it is known.
        from_record: whether the address came from a record.
        probe: whether this only checks reachability.
    """

    public_key: bytes
    sign: Sign
    verify: Verify
    nonce: bytes
    record: bytes
    authority: str
    expected: NodeId | None = None
    from_record: bool = False
    probe: bool = False
    _hello: bytes = field(init=False, default=b"")
    _reply: bytes = field(init=False, default=b"")
    _key: bytes = field(init=False, default=b"")

    def receive_hello(self, data: bytes) -> bytes:
        """Takes the acceptor's hello and returns the reply to send.

        Raises:
            RemoteProtocolError: malformed.
            Refused: no common version, ourselves, or another id than the expected one.
        """
        refused = _refused_untrusted(data)
        if refused is not None:
            raise refused
        offer = hello.parse_hello_untrusted(data)
        version = min(offer.last_version, hello.LAST_VERSION)
        if version < max(offer.first_version, hello.FIRST_VERSION):
            text = f"versions {offer.first_version}-{offer.last_version} are not spoken here"
            raise _refuse(Reason.VERSION, text)
        if offer.public_key == self.public_key:
            raise _refuse(Reason.SELF, "a link with oneself")
        peer = id_of_key(offer.public_key)
        if self.expected is not None and peer != self.expected:
            raise _refuse(Reason.BAD_PROOF, f"expected {short(self.expected)} at {self.authority}, not {short(peer)}")
        authority = self.authority.encode("ascii", "replace")
        fields: dict[int, bytes] = {Field.RECORD: self.record, Field.AUTHORITY: authority}
        fields |= {Field.FROM_RECORD: b""} if self.from_record else {}
        fields |= {Field.PROBE: b""} if self.probe else {}
        reply = Reply(version, self.nonce, self.public_key, fields).to_bytes()
        self._hello, self._key = data, offer.public_key
        self._reply = reply + self.sign(_transcript(b"dialler", data, reply))
        return self._reply

    def receive_proof(self, data: bytes) -> Proven:
        """Takes the acceptor's proof; the link is then open.

        Raises:
            RemoteProtocolError: malformed.
            Refused: by the other side, or its signature is wrong.
            LocalProtocolError: `receive_hello` has not returned a reply.
        """
        if not self._reply:
            raise LocalProtocolError("expected a proof after the reply")
        refused = _refused_untrusted(data)
        if refused is not None:
            raise refused
        proof = hello.parse_proof_untrusted(data)
        peer = id_of_key(self._key)
        unsigned = data[: -len(proof.signature)]
        signed = _transcript(b"acceptor", self._hello, self._reply, unsigned)
        if not self.verify(self._key, proof.signature, signed):
            raise _refuse(Reason.BAD_PROOF, f"the signature of {short(peer)} is wrong")
        record = _own_record_untrusted(proof.fields.get(Field.RECORD), self._key, self.verify)
        return Proven(peer, self._key, record, self.authority)
