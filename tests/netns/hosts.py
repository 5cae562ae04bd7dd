"""Hosts and the wires between them, made of Linux namespaces; needs no privileges.

    with open_network() as net:
        lan = net.bridge("lan")
        alice, bob = net.host("alice"), net.host("bob")
        net.plug(alice, lan, "10.1.0.2/24")
        net.plug(bob, lan, "10.1.0.3/24")
        print(alice.run("ip", "-brief", "address"))
        net.isolate(alice, bob)  # they hear nothing of each other any more

A host is a network namespace and a process namespace; all hosts of a network are in one user namespace, where whoever
runs the tests is root. One more such host, the switch, holds the bridges. What keeps a host alive is a program that
ends when its standard input does: at the end of the block, or when the tests are killed, the kernel ends everything
that runs on the host, and removes the host's addresses and wires.

Hosts have no IPv6, not even on a wire: what has addresses at once needs no waiting.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

__all__ = ["Host", "HostError", "Network", "can_open_network", "find_program", "open_network"]

PATIENCE: Final = 10.0
"""Seconds for what takes milliseconds."""

NEW_HOST: Final = ("unshare", "--net", "--pid", "--fork", "--kill-child")
KEEPER: Final = ("sh", "-c", "echo ready && exec cat")
"""It is the first process of its host, so the host ends with it."""


class HostError(Exception):
    """A program that makes a host, or runs on one, failed."""


class Host:
    """A machine of its own, as far as network and processes are concerned.

    Attributes:
        name: for messages, and for the names of its wires: at most 9 characters.
        pid: what ``ip link ... netns PID`` takes for this host.
    """

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self.name: Final = name
        self.pid: Final = process.pid
        self._process: Final = process

    def command(self, *arguments: str) -> list[str]:
        """What to run for a program to run here; its directory, files and environment are the tests'.

        The process that this makes waits for the program and has its exit code, but does not pass signals on: send
        them to the group of both.
        """
        return _enter(self.pid, ("user", "net", "pid"), arguments)

    def run(self, *arguments: str, stdin: str = "") -> str:
        """Runs a short program to its end and returns what it wrote. It sees the process numbers of the tests.

        Raises:
            HostError: it failed: how, and what it said.
        """
        command = _enter(self.pid, ("user", "net"), arguments)
        ended = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=PATIENCE, check=False)
        if ended.returncode:
            said = f"{ended.stdout}{ended.stderr}".strip()
            raise HostError(f"{' '.join(arguments)} on {self.name}: exit code {ended.returncode}: {said}")
        return ended.stdout

    def ip(self, *lines: str) -> None:
        """Commands of ``ip``, without the name of the program."""
        self.run(find_program("ip") or "ip", "-batch", "-", stdin="\n".join(lines))

    def forward(self, wanted: bool = True) -> None:
        """Whether it passes on packets that are not for itself."""
        self.run("sh", "-c", f"echo {wanted:d} >/proc/sys/net/ipv4/ip_forward")

    def translate(self, interface: str, *flags: str) -> None:
        """What it passes on to that interface gets the interface's address for a source; strangers there are not heard.

        The source port stays where it is free; with the flag ``"fully-random"`` each destination sees another one.
        """
        commands = [
            "add table ip home",
            "add chain ip home out { type nat hook postrouting priority 100; }",
            f"add rule ip home out oifname {interface} masquerade {' '.join(flags)}",
            # Without this, what comes before we have sent something would take the port that it was sent to.
            "add chain ip home in { type filter hook prerouting priority 0; }",
            f"add rule ip home in iifname {interface} ct state new drop",
        ]
        self.run(find_program("nft") or "nft", "-f", "-", stdin="\n".join(commands) + "\n")

    def ports(self, protocol: str = "udp") -> set[int]:
        """The local ports of its sockets."""
        lines = Path("/proc", str(self.pid), "net", protocol).read_text().splitlines()[1:]
        return {int(line.split()[1].rpartition(":")[2], 16) for line in lines}

    def end(self) -> None:
        """Ends everything that runs here, and the host."""
        self._process.kill()
        self._process.communicate()


class Network:
    """Hosts, and bridges that connect whoever is plugged in. Made by `open_network`."""

    def __init__(self, stack: ExitStack, switch: Host) -> None:
        self._stack: Final = stack
        self._switch: Final = switch

    def host(self, name: str) -> Host:
        """A host without wires."""
        # In the user namespace of the switch, whose root may put wires into this host.
        command = _enter(self._switch.pid, ("user",), NEW_HOST)
        host = self._stack.enter_context(_open_host(name, command))
        host.ip("link set lo up")
        return host

    def bridge(self, name: str) -> str:
        """A bridge without wires. It passes on everything, multicast too."""
        self._switch.ip(f"link add {name} type bridge mcast_snooping 0", f"link set {name} up")
        return name

    def plug(self, host: Host, bridge: str, address: str, *, interface: str = "eth0", gateway: str = "") -> None:
        """Lays a wire from a host to a bridge; `address` is like ``10.1.0.2/24``."""
        port = self._port(host, interface)
        self._switch.ip(
            f"link add {port} type veth peer name {interface} netns {host.pid}",
            f"link set {port} master {bridge} up",
        )
        host.ip(
            f"link set {interface} addrgenmode none up",
            f"address add {address} dev {interface}",
            *([f"route add default via {gateway}"] if gateway else []),
        )

    def isolate(self, *hosts: Host, interface: str = "eth0", wanted: bool = True) -> None:
        """Whether they hear nothing of each other any more, though they hear everybody else on their bridge."""
        state = "on" if wanted else "off"
        self._switch.ip(*(f"link set {self._port(h, interface)} type bridge_slave isolated {state}" for h in hosts))

    @staticmethod
    def _port(host: Host, interface: str) -> str:
        return f"{host.name}-{interface}"


@contextmanager
def open_network() -> Iterator[Network]:
    """A network without hosts; the end of the block ends whatever runs on its hosts.

    Raises:
        HostError: this system gives no namespaces.
    """
    with ExitStack() as stack:
        new_user = [NEW_HOST[0], "--user", "--map-root-user", *NEW_HOST[1:]]
        yield Network(stack, stack.enter_context(_open_host("switch", new_user)))


def can_open_network() -> bool:
    """Whether this system lets us make hosts, wires, and routers."""
    try:
        with open_network() as net:
            router = net.host("router")
            net.plug(router, net.bridge("lan"), "10.1.0.1/24")
            router.forward()
    except HostError:
        return False
    return True


@contextmanager
def _open_host(name: str, command: Sequence[str]) -> Iterator[Host]:
    try:
        process = subprocess.Popen(
            [*command, *KEEPER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the tests, which end the host in their order
        )
    except OSError as error:
        raise HostError(f"no host {name}: {error}") from error
    host = Host(name, process)
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        if not process.stdout.readline():
            raise HostError(f"no host {name}: {process.stderr.read().strip()}")
        yield host
    finally:
        host.end()


def find_program(name: str) -> str | None:
    """Its path, also where only the administrator's path has it; None if it is not installed."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def _enter(pid: int, spaces: Iterable[str], arguments: Sequence[str]) -> list[str]:
    """The program `arguments` in these namespaces of a process that has made them."""
    files = {"user": "user", "net": "net", "pid": "pid_for_children"}
    chosen = [f"--{space}=/proc/{pid}/ns/{files[space]}" for space in spaces]
    return ["nsenter", "--preserve-credentials", *chosen, *arguments]
