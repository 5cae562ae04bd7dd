"""``node`` with a certificate, which is read again on SIGHUP."""

from __future__ import annotations

import signal
import ssl
from pathlib import Path

import pytest
import trio
import trustme

import trio_relay

from .support import DEADLINE, Running, open_readable, run_command, run_here


class Files:
    """A certificate authority, and the files that a node is told to use."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.chain, self.key, self.ca = folder / "chain.pem", folder / "key.pem", folder / "ca.pem"
        self.authority.cert_pem.write_to_path(self.ca)
        self.arguments = ("--tls-cert", str(self.chain), "--tls-key", str(self.key))

    def issue(self, key_type: trustme.KeyType = trustme.KeyType.ECDSA) -> bytes:
        """Writes a new certificate; returns it in DER form."""
        certificate = self.authority.issue_cert("127.0.0.1", key_type=key_type)
        certificate.cert_chain_pems[0].write_to_path(self.chain)
        certificate.private_key_pem.write_to_path(self.key)
        return ssl.PEM_cert_to_DER_cert(self.chain.read_text())


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


async def served(url: str, files: Files) -> bytes:
    """The certificate that a client gets, in DER form."""
    context = ssl.create_default_context(cafile=files.ca)
    port = int(url.rpartition(":")[2])
    with trio.fail_after(DEADLINE):
        stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", port, ssl_context=context, https_compatible=True)
        async with stream:
            await stream.do_handshake()
            certificate: bytes = stream.getpeercert(binary_form=True)
            return certificate


async def hang_up(running: Running) -> str:
    """Sends SIGHUP; returns what the node says to that."""
    running.process.send_signal(signal.SIGHUP)
    with trio.fail_after(DEADLINE):
        said = b""
        while not said.endswith(b"\n"):
            said += await running.stderr.receive_some()
    return said.decode()


async def test_certificates_are_read_again(files: Files) -> None:
    first = files.issue()
    async with open_readable(*files.arguments) as running:
        url = (await running.line("listening on ")).removeprefix("listening on ")
        assert url.startswith("wss://127.0.0.1:")
        assert await served(url, files) == first
        # Another kind of key: OpenSSL would keep the former certificate beside it.
        second = files.issue(trustme.KeyType.RSA)
        assert await hang_up(running) == "trio-relay: certificate reloaded\n"
        assert await served(url, files) == second
        files.issue()
        files.key.write_bytes(b"not a key")
        assert (await hang_up(running)).startswith("trio-relay: certificate not reloaded: can't load certificate ")
        assert await served(url, files) == second
        third = files.issue()
        assert await hang_up(running) == "trio-relay: certificate reloaded\n"
        assert await served(url, files) == third
        assert await running.stop() == 0


async def test_sending_to_a_node_with_a_certificate(files: Files) -> None:
    files.issue()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files.chain, files.key)
    async with trio_relay.open_node(tls=context) as node:
        arguments = ("send", "--bootstrap", *node.urls, node.id.hex(), "hello")
        assert await run_here(*arguments, "--ca", str(files.ca)) == 0
        untrusting = await run_command(*arguments, "--timeout", "0.1", "--verbose")
        assert untrusting.returncode == 1
        assert b"not trusted: " in untrusting.stderr
