"""What strangers send to a signalling hub: queries, forms, and packets of Socket.IO."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import urlencode

from hypothesis import given
from hypothesis import strategies as st

from trio_relay.exceptions import RemoteProtocolError
from trio_relay.peerix.hub.config import HubConfig
from trio_relay.peerix.hub.core import HubCore
from trio_relay.peerix.hub.forms import parse_publication_untrusted, parse_query_untrusted
from trio_relay.peerix.hub.handshakes import EngineRefused, parse_engine_query_untrusted
from trio_relay.peerix.hub.sessions import Sessions
from trio_relay.peerix.hub.updates import Update
from trio_relay.peerix.socketio.engineio import parse_payload_untrusted

names = st.sampled_from(["topic", "data", "id", "type", "retry", "private", "authorization", "EIO", "transport", "sid"])
values = st.sampled_from(["", "a", "*", "AA==", "#", "{", "\n", "4", "polling", "500"]) | st.text(max_size=3)
forms = st.lists(st.tuples(names, values), max_size=4).map(urlencode)
broken = st.text(st.sampled_from("topicdata=&;%+#*A0fF\x00\u20ac"), max_size=30)


@given(forms | broken)
def test_queries(query: str) -> None:
    with suppress(RemoteProtocolError):
        parsed = parse_query_untrusted(query, 16)
        assert all(0 < len(topic) <= 16 for topic in parsed.topics)
    with suppress(EngineRefused):
        parse_engine_query_untrusted(query, "polling")


@given(forms.map(str.encode) | st.binary(max_size=20) | broken.map(str.encode))
def test_forms(body: bytes) -> None:
    with suppress(RemoteProtocolError):
        said = parse_publication_untrusted(body, 16, 64)
        update = Update(said.topics, said.id or "x", data=said.data, type=said.type, retry=said.retry)
        # What a publisher writes can not end the event, nor begin another one.
        event = update.event().decode()
        assert event.endswith("\n\n")
        assert "\n\n" not in event[:-2]
        assert "\r" not in event
        lines = event.split("\n")
        assert all(line.startswith(("id: ", "event: ", "retry: ", "data: ")) for line in lines[:-2])
        heard = "\n".join(line[6:] for line in lines if line.startswith("data: "))
        assert heard == said.data.replace("\r\n", "\n").replace("\r", "\n")
        update.message("m", said.topics[0])


PIECES = ["40", "42", "421", "41", "43", "44", "3", "1", "6", '["peerix:subscribe","a"]', '["publish","a",[1,2]]']
PIECES += [
    '["peerix:unsubscribe","a"]',
    '["',
    '"]',
    "[",
    "]",
    "{",
    "}",
    ",",
    "/a,",
    '"token":',
    "256",
    "\x1e",
    "b",
    "null",
]
bodies = st.lists(st.sampled_from(PIECES), max_size=5).map("".join) | st.text(max_size=5)


@given(st.lists(bodies, min_size=1, max_size=4))
async def test_sessions(sent: list[str]) -> None:
    core = HubCore(HubConfig(listen=None, max_subscriptions=2, max_topic=8))
    sessions = Sessions(core)
    other = sessions.open("192.0.2.2", None)
    session = sessions.open("192.0.2.1", None)
    for body in ["40", *sent]:
        try:
            for packet in parse_payload_untrusted(body.encode("utf-8", "surrogatepass"), 16):
                session.receive(packet)
        except RemoteProtocolError:
            session.close()
            break
    assert len(core.topics.of(session)) <= 2
    assert other.outlet.size == 0
    session.close()
    assert core.topics.topics == 0
    assert sessions.find(session.sid) is None
