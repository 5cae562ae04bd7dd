from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.wire.descriptions import (
    CHROMIUM_ANSWER,
    CHROMIUM_CANDIDATE,
    CHROMIUM_OFFER,
    DESCRIPTIONS,
    FIREFOX_OFFER,
    LEGACY_OFFER,
)
from trio_relay.exceptions import RemoteProtocolError
from trio_relay.wire.description import (
    MAX_CANDIDATES,
    MAX_DESCRIPTION,
    Candidate,
    binding,
    check_description_untrusted,
    parse_candidate_untrusted,
)
from trio_relay.wire.json import JSONValue

HOST = "candidate:1 1 udp 2113937151 192.0.2.1 4000 typ host"
OTHER = "EF:" * 31 + "EF"


def without(name: str) -> Callable[[str], str]:
    return lambda sdp: re.sub(rf"a={name}.*\r\n", "", sdp)


def with_line(line: str) -> Callable[[str], str]:
    return lambda sdp: sdp + line + "\r\n"


def replacing(old: str, new: str) -> Callable[[str], str]:
    def replace(sdp: str) -> str:
        assert re.search(old, sdp)
        return re.sub(old, new, sdp)

    return replace


@pytest.mark.parametrize("sdp", DESCRIPTIONS)
def test_descriptions_of_browsers_are_good(sdp: str) -> None:
    check_description_untrusted(sdp)
    assert re.fullmatch("webrtc:[0-9a-f]{64}", binding(sdp, sdp))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda sdp: "", "one data channel, got 0 media sections"),
        (with_line("a=x:" + "x" * MAX_DESCRIPTION), "at most 16384 characters"),
        (lambda sdp: sdp + "a=x\r\n" * 256, "at most 256 lines"),
        (with_line("nonsense"), "lines like"),
        (with_line("a=\u00fc"), "printable ASCII"),
        (with_line("a=\ud800"), "printable ASCII"),
        (with_line("a=x\u2028a=setup:active"), "printable ASCII"),
        (with_line("a=x\x0ba=setup:active"), "printable ASCII"),
        (with_line("m=application 9 UDP/DTLS/SCTP webrtc-datachannel"), "got 2 media sections"),
        (with_line("m=audio 9 UDP/TLS/RTP/SAVPF 111"), "got 2 media sections"),
        (replacing("m=application", "m=video"), "data channel over SCTP"),
        (replacing("UDP/DTLS/SCTP", "UDP/TLS/RTP/SAVPF"), "data channel over SCTP"),
        (replacing("m=application 9 ", "m=application 0 "), "with a port"),
        (replacing("m=application 9 ", "m=application 65536 "), "with a port"),
        (replacing("webrtc-datachannel", "bfcp"), "data channel of WebRTC"),
        (replacing("UDP/DTLS/SCTP", "DTLS/SCTP"), "data channel of WebRTC"),
        (without("ice-ufrag"), "one ice-ufrag in a description, got 0"),
        (without("ice-pwd"), "one ice-pwd in a description, got 0"),
        (without("setup"), "one setup in a description, got 0"),
        (with_line("a=setup:active"), "one setup in a description, got 2"),
        (replacing("setup:actpass", "setup:holdconn"), "active, actpass, passive as setup, got 'holdconn'"),
        (replacing("ice-ufrag:.*", "ice-ufrag:a b\r"), "user name as ice-ufrag"),
        (replacing("ice-pwd:.*", "ice-pwd:short\r"), "ice-pwd"),
        (without("fingerprint"), "sha-256, sha-384, sha-512, got 0 others"),
        (replacing("fingerprint:sha-256", "fingerprint:sha-1"), "got 1 others"),
        (replacing("fingerprint:sha-256", "fingerprint:sha-512"), "64 bytes in a fingerprint"),
        (replacing("fingerprint:sha-256 ", "fingerprint:sha-256 X"), "fingerprint of a certificate"),
        (lambda sdp: sdp + "".join(f"a=fingerprint:sha-{n} AA\r\n" for n in range(8)), "at most 8 fingerprints"),
        (without("sctp-port"), "one SCTP port"),
        (with_line("a=sctp-port:5001"), "one SCTP port"),
        (replacing("sctp-port:5000", "sctp-port:0"), "one SCTP port"),
        (replacing("max-message-size:262144", "max-message-size:-1"), "max-message-size"),
        (with_line("a=max-message-size:1"), "max-message-size"),
        (lambda sdp: sdp + f"a={HOST}\r\n" * MAX_CANDIDATES, "at most 64 candidates, got 66"),
        (with_line("a=candidate:"), "ICE candidate"),
        (with_line("a=candidate:1 1 udp 1 192.0.2.1 99999 typ host"), "numbers in their range"),
    ],
)
def test_what_is_not_one_data_channel_is_refused(change: Callable[[str], str], complaint: str) -> None:
    with pytest.raises(RemoteProtocolError, match=re.escape(complaint)):
        check_description_untrusted(change(CHROMIUM_OFFER))


def test_a_legacy_description_names_a_port() -> None:
    with pytest.raises(RemoteProtocolError, match="data channel of WebRTC"):
        check_description_untrusted(LEGACY_OFFER.replace("DTLS/SCTP 5000", "DTLS/SCTP webrtc-datachannel"))


@given(st.text(max_size=300))
@example("m=\r\n")
@example("a=fingerprint:\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel")
def test_any_text_is_good_or_refused(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        check_description_untrusted(text)


@given(st.data())
def test_a_changed_description_is_good_or_refused(data: st.DataObject) -> None:
    sdp = data.draw(st.sampled_from(DESCRIPTIONS))
    lines = sdp.splitlines(keepends=True)
    for _ in range(data.draw(st.integers(1, 3))):
        where = data.draw(st.integers(0, len(lines) - 1))
        line = lines[where]
        start = data.draw(st.integers(0, len(line)))
        garbage = data.draw(st.text(max_size=5) | st.sampled_from(["\r\n", " ", "9" * 5000, "\ud800", "m=application"]))
        lines[where : where + 1] = data.draw(
            st.sampled_from(
                [[], [line, line], [line[:start] + garbage + line[start + len(garbage) :]], [line[:start], garbage]]
            )
        )
    try:
        check_description_untrusted("".join(lines))
    except RemoteProtocolError as error:
        assert str(error).isascii()
        assert len(str(error)) < 200
    else:
        assert len(binding("".join(lines), sdp)) < 100


# Candidates


def test_a_candidate_of_a_browser() -> None:
    text = CHROMIUM_CANDIDATE["candidate"]
    assert parse_candidate_untrusted(CHROMIUM_CANDIDATE) == Candidate(str(text), "0", 0)


@pytest.mark.parametrize("more", [{}, {"sdpMid": "0", "sdpMLineIndex": 0}, {"usernameFragment": None}])
def test_an_empty_candidate_is_the_end_of_them(more: dict[str, JSONValue]) -> None:
    assert parse_candidate_untrusted({"candidate": "", **more}) is None


@pytest.mark.parametrize(
    "text",
    [
        HOST,
        "candidate:1 1 tcp 2105524479 192.0.2.1 9 typ host tcptype active",
        "candidate:2 1 udp 1 2001:db8::1 4000 typ relay raddr 192.0.2.1 rport 4000 generation 0 ufrag x network-id 1",
        "candidate:3 1 ssltcp 0 a-name.local 0 typ surprise",
    ],
)
def test_good_candidates(text: str) -> None:
    assert parse_candidate_untrusted({"candidate": text}) == Candidate(text, None, None)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "candidate:",
        [],
        {},
        {"candidate": None},
        {"candidate": {"candidate": HOST}},
        {"candidate": HOST, "sdpMid": 0},
        {"candidate": HOST, "sdpMid": "a" * 65},
        {"candidate": HOST, "sdpMid": "\ud800"},
        {"candidate": HOST, "sdpMid": "a\n"},
        {"candidate": HOST, "sdpMLineIndex": -1},
        {"candidate": HOST, "sdpMLineIndex": 256},
        {"candidate": HOST, "sdpMLineIndex": 0.0},
        {"candidate": HOST, "sdpMLineIndex": True},
        {"candidate": "candidate:"},
        {"candidate": HOST.removeprefix("candidate:")},
        {"candidate": HOST + " odd"},
        {"candidate": HOST + "\r\na=setup:active"},
        {"candidate": HOST.replace("udp", "u\u00fcp")},
        {"candidate": HOST.replace(" 1 udp", " 0 udp")},
        {"candidate": HOST.replace("2113937151", "4294967296")},
        {"candidate": HOST.replace("4000", "65536")},
        {"candidate": HOST.replace("4000", "4e3")},
        {"candidate": HOST + " raddr 192.0.2.1 rport many"},
        {"candidate": HOST + " generation 99999999999"},
        {"candidate": HOST + " x y" * 200},
    ],
)
def test_bad_candidates(value: JSONValue) -> None:
    with pytest.raises(RemoteProtocolError, match="expected"):
        parse_candidate_untrusted(value)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80)


@given(st.fixed_dictionaries({}, optional={"candidate": scalars, "sdpMid": scalars, "sdpMLineIndex": scalars}))
def test_any_candidate_is_good_or_refused(value: dict[str, JSONValue]) -> None:
    try:
        candidate = parse_candidate_untrusted(value)
    except RemoteProtocolError:
        return
    assert candidate is None
    assert value["candidate"] == ""


# The binding


def test_the_binding_is_as_documented() -> None:
    offered = [f"sha-{bits} {':'.join(['EF'] * (bits // 8))}" for bits in (256, 384, 512)]
    offer = without("fingerprint")(CHROMIUM_OFFER) + "".join(
        f"a=fingerprint:{line}\r\n" for line in reversed([*offered, "A-1 00"])
    )
    found = re.search("a=fingerprint:(.*)\r\n", CHROMIUM_ANSWER)
    assert found is not None
    text = "\n".join(["offer", "a-1 00", *offered, "answer", found[1], ""])
    assert binding(offer, CHROMIUM_ANSWER) == "webrtc:" + hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        replacing("a=fingerprint:sha-256 .*", f"a=fingerprint:sha-256 {OTHER}\r"),
        with_line(f"a=fingerprint:sha-256 {OTHER}"),
        with_line(f"a=fingerprint:sha-1 {OTHER}"),
    ],
    ids=["changed", "added", "added-unknown"],
)
def test_another_certificate_is_another_binding(change: Callable[[str], str]) -> None:
    bound = binding(CHROMIUM_OFFER, CHROMIUM_ANSWER)
    assert bound != binding(change(CHROMIUM_OFFER), CHROMIUM_ANSWER)
    assert bound != binding(CHROMIUM_OFFER, change(CHROMIUM_ANSWER))
    assert bound != binding(CHROMIUM_ANSWER, CHROMIUM_OFFER)
    assert bound != binding(CHROMIUM_OFFER, FIREFOX_OFFER)


def test_fingerprints_cannot_move_from_one_side_to_the_other() -> None:
    more = f"a=fingerprint:sha-384 {'EF:' * 47}EF\r\n"
    assert binding(CHROMIUM_OFFER + more, CHROMIUM_ANSWER) != binding(CHROMIUM_OFFER, CHROMIUM_ANSWER + more)


@pytest.mark.parametrize(
    "change",
    [
        lambda sdp: re.sub("fingerprint:.*", lambda line: line[0][:12] + line[0][12:].lower(), sdp),
        lambda sdp: sdp.replace("sha-256", "SHA-256"),
        lambda sdp: sdp.replace("\r\n", "\n"),
        lambda sdp: "".join(reversed(sdp.splitlines(keepends=True))),
        lambda sdp: sdp + "".join(line + "\r\n" for line in re.findall("a=fingerprint:.*", sdp)),
        with_line(f"a={HOST}"),
        without("candidate"),
    ],
    ids=["lower-case", "name", "line-ends", "order", "twice", "more-candidates", "fewer-candidates"],
)
def test_other_forms_have_the_same_binding(change: Callable[[str], str]) -> None:
    two = CHROMIUM_OFFER + f"a=fingerprint:sha-384 {'EF:' * 47}EF\r\n"
    for offer in (CHROMIUM_OFFER, two):
        assert binding(change(offer), change(CHROMIUM_ANSWER)) == binding(offer, CHROMIUM_ANSWER)


def test_nothing_is_bound_to_nothing() -> None:
    with pytest.raises(RemoteProtocolError, match="fingerprint"):
        binding(CHROMIUM_OFFER, without("fingerprint")(CHROMIUM_ANSWER))
