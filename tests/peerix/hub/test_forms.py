"""What clients of the Mercure door write, and the forms in which subscribers get what was said."""

from __future__ import annotations

import base64
from urllib.parse import urlencode

import pytest

from trio_relay.exceptions import RemoteProtocolError
from trio_relay.peerix.hub.forms import Publication, Query, parse_publication_untrusted, parse_query_untrusted
from trio_relay.peerix.hub.handshakes import EngineRefused, Reason, parse_engine_query_untrusted
from trio_relay.peerix.hub.updates import Update


@pytest.mark.parametrize(
    ("query", "parsed"),
    [
        ("topic=a&topic=b&topic=a", Query(("a", "b"), None, False)),
        ("topic=https%3A%2F%2Fx%2F1&authorization=t.t.t", Query(("https://x/1",), "t.t.t", False)),
        ("topic=*&lastEventID=x", Query(("*",), None, True)),
        ("topic=a&Last-Event-ID=", Query(("a",), None, True)),
        ("", Query((), None, False)),
        ("x=%ff", Query((), None, False)),
    ],
)
def test_queries(query: str, parsed: Query) -> None:
    assert parse_query_untrusted(query, 64) == parsed


@pytest.mark.parametrize(
    "query", ["topic=", f"topic={'a' * 65}", "topic=a%0Ab", "topic=a/{id}", "&".join(["x=1"] * 1025)]
)
def test_queries_that_are_refused(query: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_query_untrusted(query, 64)


def form(*fields: tuple[str, str]) -> bytes:
    return urlencode(fields).encode()


def test_a_form_of_the_original() -> None:
    # What its URLSearchParams makes of a namespace and three bytes.
    parsed = parse_publication_untrusted(b"topic=dcjHO465&data=%2B%2F8%3D", 64, 64)
    assert parsed == Publication(("dcjHO465",), "+/8=", "", "", None, False)


def test_all_fields_of_a_form() -> None:
    body = form(("topic", "a"), ("topic", "b"), ("data", "x\ny é"), ("id", "urn:1"), ("type", "t"), ("retry", "500"))
    assert parse_publication_untrusted(body + b"&private", 64, 64) == Publication(
        ("a", "b"), "x\ny é", "urn:1", "t", 500, True
    )
    assert parse_publication_untrusted(b"topic=a", 64, 64).data == ""


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"data=x",
        b"topic=*",
        b"topic=",
        b"topic=a&data=" + b"x" * 65,
        b"topic=a&id=%23x",
        b"topic=a&id=a%0Ab",
        b"topic=a&id=" + b"x" * 257,
        b"topic=a&type=a%0Db",
        b"topic=a&type=" + b"x" * 65,
        b"topic=a&retry=1.5",
        b"topic=a&retry=-1",
        b"topic=a&retry=1000000000",
        b"topic=a&data=\xff",
        b"&".join([b"topic=a"] * 1025),
    ],
)
def test_forms_that_are_refused(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_publication_untrusted(body, 64, 64)


def test_events() -> None:
    assert Update(["a"], "1", data="x").event() == b"id: 1\ndata: x\n\n"
    whole = Update(["a"], "1", data="x\r\ny\rz\n", type="t", retry=5)
    assert whole.event() == b"id: 1\nevent: t\nretry: 5\ndata: x\ndata: y\ndata: z\ndata: \n\n"
    assert Update(["a"], "1", packet=b"\xfb\xff").event() == b"id: 1\ndata: +/8=\n\n"
    assert Update(["a"], "1", packet=b"").event() == b"id: 1\ndata: \n\n"


def test_messages() -> None:
    update = Update(["a"], "1", data=base64.b64encode(bytes([0, 255])).decode())
    assert update.packet == bytes([0, 255])
    assert update.message("peerix:message", "a") == '2["peerix:message","a",[0,255]]'
    assert update.message("message", "b") == '2["message","b",[0,255]]'
    assert update.message("message", "b") is update.message("message", "b")
    assert Update(["a"], "1", data="").message("m", "a") == '2["m","a",[]]'


@pytest.mark.parametrize("text", ["hello", "AQ", "AQ=", "A Q==", "é", "-_8="])
def test_text_that_is_no_packet(text: str) -> None:
    update = Update(["a"], "1", data=text)
    assert update.packet is None
    assert update.message("m", "a") is None
    assert update.event() == f"id: 1\ndata: {text}\n\n".encode()


def test_an_update_is_one_thing() -> None:
    with pytest.raises(ValueError, match="either text or a packet"):
        Update(["a"], "1")
    with pytest.raises(ValueError, match="either text or a packet"):
        Update(["a"], "1", data="", packet=b"")


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("EIO=4", Reason.UNKNOWN_TRANSPORT),
        ("EIO=4&transport=webtransport", Reason.UNKNOWN_TRANSPORT),
        ("EIO=4&transport=websocket", Reason.BAD_REQUEST),
        ("EIO=3&transport=polling", Reason.UNSUPPORTED_PROTOCOL),
        ("transport=polling", Reason.UNSUPPORTED_PROTOCOL),
        ("&".join(["EIO=4"] * 65), Reason.BAD_REQUEST),
    ],
)
def test_engine_queries_that_are_refused(query: str, reason: Reason) -> None:
    with pytest.raises(EngineRefused) as refused:
        parse_engine_query_untrusted(query, "polling")
    assert refused.value.reason is reason


def test_engine_queries() -> None:
    assert parse_engine_query_untrusted("EIO=4&transport=polling&t=abc", "polling") == (None, None)
    assert parse_engine_query_untrusted("EIO=4&transport=polling&sid=x&token=k", "polling") == ("x", "k")
    assert parse_engine_query_untrusted("EIO=4&transport=websocket&sid=&authorization=k", "websocket") == (None, "k")
    # As the original answers; a browser shows it nobody, but a log does.
    response = EngineRefused(Reason.UNKNOWN_SID).response()
    assert (response.status, response.body) == (400, b'{"code":1,"message":"Session ID unknown"}')
    assert EngineRefused(Reason.FORBIDDEN).response().status == 403
