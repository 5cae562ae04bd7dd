from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_relay.serving.client_address import UNKNOWN, client_ip, is_local, parse_networks, rate_name
from trio_relay.wire.addresses import join_host_port

TRUSTED = parse_networks(["10.0.0.0/8", "127.0.0.1", "fd00::/8"])
PROXY = "10.0.0.1:4000"

client_addresses = st.sampled_from(["203.0.113.5", "198.51.100.7", "2001:db8::5", "10.1.2.3", "127.0.0.1", "fd00::1"])
bad_entries = st.sampled_from(
    ["", "unknown", "_hidden", "unix:", "10.0.0.1.example", "10.0.0", "127.1", "[::1", "1.2.3.4%a"]
)


@pytest.mark.parametrize(
    ("remote", "forwarded", "expected"),
    [
        # Nobody else is believed.
        ("203.0.113.5:80", None, "203.0.113.5"),
        ("203.0.113.5:80", b"1.2.3.4", "203.0.113.5"),
        ("127.0.0.2:80", b"1.2.3.4", "127.0.0.2"),
        # A trusted proxy is, for what it wrote itself.
        (PROXY, None, "10.0.0.1"),
        (PROXY, b"1.2.3.4", "1.2.3.4"),
        (PROXY, b"1.2.3.4, 203.0.113.5", "203.0.113.5"),
        (PROXY, b"1.2.3.4,203.0.113.5 , 10.9.9.9\t,  fd00::7", "203.0.113.5"),
        (PROXY, b"10.1.1.1, 10.2.2.2", "10.1.1.1"),
        ("[fd00::1]:80", b"2001:DB8:0::5", "2001:db8::5"),
        # Entries that are no addresses end the walk.
        (PROXY, b"", "10.0.0.1"),
        (PROXY, b"1.2.3.4, unknown", "10.0.0.1"),
        (PROXY, b"1.2.3.4, bad, 10.2.2.2", "10.2.2.2"),
        (PROXY, b"1.2.3.4,", "10.0.0.1"),
        (PROXY, b"\xff\xb2", "10.0.0.1"),
        # Spellings.
        (PROXY, b"1.2.3.4:5678", "1.2.3.4"),
        (PROXY, b"[2001:db8::5]:80", "2001:db8::5"),
        (PROXY, b"[2001:db8::5]", "2001:db8::5"),
        (PROXY, b"::ffff:1.2.3.4", "1.2.3.4"),
        (PROXY, b"fe80::1%eth0", "fe80::1"),
        ("[::ffff:10.0.0.1]:80", b"1.2.3.4", "1.2.3.4"),
        ("[fd00::1%eth0]:80", b"1.2.3.4", "1.2.3.4"),
        ("[2001:DB8::0:5]:80", None, "2001:db8::5"),
        # No address at all.
        ("", b"1.2.3.4", UNKNOWN),
        ("a b:80", None, UNKNOWN),
        ("memory.example:0", b"1.2.3.4", "memory.example"),
    ],
)
def test_client_ip(remote: str, forwarded: bytes | None, expected: str) -> None:
    assert client_ip(remote, forwarded, TRUSTED) == expected


@given(st.one_of(client_addresses), st.lists(client_addresses | bad_entries, max_size=6))
def test_the_walk_is_that_of_a_list(socket: str, entries: list[str]) -> None:
    chain = [*entries, socket]
    while len(chain) > 1 and any(ipaddress.ip_address(chain[-1]) in network for network in TRUSTED):
        try:
            ipaddress.ip_address(chain[-2])
        except ValueError:
            break
        chain.pop()
    forwarded = ", ".join(entries).encode() if entries else None
    assert client_ip(join_host_port(socket, 80), forwarded, TRUSTED) == chain[-1]


@given(st.binary(), st.sampled_from([PROXY, "127.0.0.1:1", "203.0.113.5:80"]))
def test_whatever_is_forwarded_the_answer_is_an_address(forwarded: bytes, remote: str) -> None:
    assert str(ipaddress.ip_address(client_ip(remote, forwarded, TRUSTED))) == client_ip(remote, forwarded, TRUSTED)


@given(st.lists(client_addresses | bad_entries, max_size=4), st.lists(client_addresses, max_size=2))
def test_what_a_client_writes_itself_changes_nothing(spoofed: list[str], proxies: list[str]) -> None:
    """Behind proxies that append who came to them."""
    added = ["203.0.113.5", *[proxy for proxy in proxies if proxy.startswith("10.")]]
    forwarded = ",".join([*spoofed, *added]).encode()
    assert client_ip(PROXY, forwarded, TRUSTED) == "203.0.113.5"
    assert not is_local("127.0.0.1:80", forwarded, False, TRUSTED)


@pytest.mark.parametrize(
    ("remote", "forwarded", "expected"),
    [
        ("127.0.0.1:80", None, True),
        ("127.9.9.9:80", None, True),
        ("[::1]:80", None, True),
        ("[::ffff:127.0.0.1]:80", None, True),
        (PROXY, None, False),
        ("203.0.113.5:80", None, False),
        ("localhost:80", None, False),
        ("", None, False),
        # Through a proxy on this machine that is trusted
        ("127.0.0.1:80", b"127.0.0.1", True),
        ("127.0.0.1:80", b"::1", True),
        ("127.0.0.1:80", b"127.0.0.1, 127.0.0.1", True),
        ("127.0.0.1:80", b"203.0.113.5", False),
        ("127.0.0.1:80", b"127.0.0.1, 203.0.113.5", False),
        ("127.0.0.1:80", b"203.0.113.5, 127.0.0.1", False),
        ("127.0.0.1:80", b"", False),
        ("127.0.0.1:80", b"unix:", False),
        ("127.0.0.1:80", b"127.0.0.1, unix:", False),
        ("127.0.0.1:80", b"127.0.0.1, bad, 127.0.0.1", False),
        # or that is not, or elsewhere.
        ("127.0.0.2:80", b"127.0.0.1", False),
        ("[::1]:80", b"127.0.0.1", False),
        (PROXY, b"127.0.0.1", False),
    ],
)
def test_is_local(remote: str, forwarded: bytes | None, expected: bool) -> None:
    assert is_local(remote, forwarded, False, TRUSTED) is expected
    assert is_local(remote, forwarded, True, TRUSTED) is False


@pytest.mark.parametrize(
    ("ip", "name"),
    [
        ("203.0.113.5", "203.0.113.5"),
        ("::ffff:203.0.113.5", "203.0.113.5"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        *[
            ("127.0.0.1", "127.0.0.1"),
            ("127.8.8.8", "127.0.0.1"),
            ("::1", "127.0.0.1"),
            ("::ffff:127.0.0.5", "127.0.0.1"),
        ],
        *[(UNKNOWN, UNKNOWN), ("memory.example", "memory.example"), ("", "")],
    ],
)
def test_names_for_limits(ip: str, name: str) -> None:
    assert rate_name(ip) == name


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.1.2.3", "10.1.2.3/32"),
        ("fd00::/8", "fd00::/8"),
        ("::1", "::1/128"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:10.1.2.3", "10.1.2.3/32"),
        ("::/0", "::/0"),
    ],
)
def test_networks(text: str, network: str) -> None:
    assert parse_networks([text]) == (ipaddress.ip_network(network),)


@pytest.mark.parametrize("text", ["", "10.0.0.1/8", "10.0.0.0/33", "proxy.example", "10.0.0.0/8, fd00::/8", 5])
def test_what_is_no_network(text: str) -> None:
    with pytest.raises(ValueError, match=r"^expected a network like .* or an address: "):
        parse_networks(["::1", text])


remotes = st.builds("{}:{}".format, client_addresses | bad_entries, st.integers(0, 99999) | st.text(max_size=3))


@given(remotes | st.text(max_size=12))
def test_without_a_header_the_client_is_whom_an_empty_chain_leads_to(remote: str) -> None:
    assert client_ip(remote, None, ()) == client_ip(remote, b"", ())
