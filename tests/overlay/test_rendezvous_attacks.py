"""A subscriber and publisher on the bench, and relays that forge, repeat, flood and forget."""

from __future__ import annotations

import itertools

import pytest

from trio_relay.exceptions import TopicUnavailable
from trio_relay.overlay import rendezvous_interests, rendezvous_publishing
from trio_relay.overlay.actions import Acknowledged, Action, Failed, Published, PublishingRoom, Subscribed
from trio_relay.overlay.rendezvous_numbers import Numbers
from trio_relay.wire.frame import Kind
from trio_relay.wire.record import Role, build_record
from trio_relay.wire.rendezvous import (
    Event,
    Gone,
    Publication,
    Publish,
    Subscribe,
    Unsubscribe,
    Untimely,
    parse_rendezvous_untrusted,
    topic_key,
)

from .rendezvous_world import KEY, NOW, RENDEZVOUS, about_topics, publication, say
from .support import WALL, Bench, BenchLink, first_deadline, key, node_id, of, sent, signature, url

OTHER = topic_key("another topic")


def link_keeper(bench: Bench, number: int) -> BenchLink:
    """A relay that keeps subscriptions."""
    own = key(number)
    record = build_record(
        own,
        lambda data: signature(own, data),
        sequence=1,
        expiry=int(WALL + 3000),
        urls=[url(number)],
        roles=Role.RELAY | Role.RENDEZVOUS,
    )
    link = BenchLink(number, record.id, record)
    bench.router.link_up(link, record.id, bench.now, dialled=True, url=url(number), record=record)
    bench.receive(link, bench.status(link, trusts=True))
    return link


def subscribed(bench: Bench, *numbers: int) -> list[BenchLink]:
    """Links with relays, each of which confirmed a subscription."""
    links = [link_keeper(bench, number) for number in numbers]
    frames = sent(bench.router.subscribe(KEY, bench.now))
    assert about_topics(frames) == [Subscribe(KEY).to_bytes()] * len(numbers)
    told: list[Subscribed] = []
    for frame in frames:
        link = next(link for link in links if link.id == frame.to)
        kind, payload = (Kind.FOUND, b"") if frame.kind == Kind.FIND else (Kind.ACK, b"\x10\0")
        told += of(
            bench.receive(link, bench.frame(link, kind, message_id=frame.message_id, payload=payload)), Subscribed
        )
    assert told[-1] == Subscribed(KEY, len(numbers), True, "")
    return links


def came(bench: Bench, link: BenchLink, item: Publication) -> list[bytes]:
    """What the application gets of a publication that a relay brings."""
    frame = say(bench, link, Event(item).to_bytes(), confirm=False)
    return [action.data for action in of(bench.receive(link, frame), Published)]


def test_a_subscriber_takes_a_publication_once_and_only_if_it_is_signed() -> None:
    bench = Bench(relaying=False)
    one, two = subscribed(bench, 1, 2)
    stranger = link_keeper(bench, 3)
    item = publication(9)
    forged = Publication(KEY, item.public_key, item.number, b"HELLO", item.raw.replace(b"hello", b"HELLO"))
    assert came(bench, one, forged) == came(bench, stranger, item) == []
    assert came(bench, one, item) == [b"hello"]
    assert came(bench, two, item) == came(bench, one, item) == []
    assert came(bench, two, publication(9, NOW - 301_000_000)) == []
    assert bench.count("publications_forged") == bench.count("rendezvous_unwanted") == 1
    assert bench.count("publications_untimely") == 1
    assert bench.count("publications_repeated") == 2
    assert came(bench, two, publication(9, NOW - 5)) == [b"hello"]  # of the same publisher, overtaken


def test_nothing_can_be_repeated_when_its_number_is_forgotten() -> None:
    bench = Bench(relaying=False)
    (one,) = subscribed(bench, 1)
    for number in range(200):
        assert came(bench, one, publication(9, NOW + number)) == [b"hello"]
    assert came(bench, one, publication(9, NOW)) == came(bench, one, publication(9, NOW + 199)) == []
    numbers = Numbers(2)
    for publisher in range(5):
        numbers.add(publication(publisher), 0.0)
    assert len(numbers) == 2
    numbers.expire(599.0)
    assert numbers.seen(publication(4), 599.0)
    numbers.expire(601.0)
    assert len(numbers) == 0


def test_publishers_that_are_not_admitted_are_not_heard() -> None:
    bench = Bench(relaying=False, admits=lambda who: who != node_id(9))
    (one,) = subscribed(bench, 1)
    assert came(bench, one, publication(9)) == []
    assert came(bench, one, publication(8)) == [b"hello"]
    assert bench.count("not_admitted") == 1


def test_a_relay_that_makes_us_check_signatures_all_day_is_not_listened_to_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also if it keeps several topics."""
    monkeypatch.setattr(rendezvous_interests, "_CHECKS_BURST", 40.0)
    bench = Bench(relaying=False)
    one, two = subscribed(bench, 1, 2)
    bench.router.subscribe(OTHER, bench.now)
    for under in (KEY, OTHER):
        item = publication(9, under=under)
        forged = Event(Publication(under, item.public_key, item.number, b"", item.raw[:-1] + b"\0")).to_bytes()
        bench.receive(one, *[say(bench, one, forged, confirm=False)] * 30)
    assert bench.count("publications_forged") == 40
    assert bench.count("publications_rate") == 20
    assert came(bench, two, publication(9)) == [b"hello"]


def test_a_relay_whose_answer_was_lost_may_bring_what_it_has() -> None:
    bench = Bench(relaying=False)
    one, *_ = subscribed(bench, 1, 2, 3)
    link_keeper(bench, 4)
    bench.receive(one, say(bench, one, Gone(KEY).to_bytes(), confirm=False))
    assert bench.count("rendezvous_avoided") == 1
    assert came(bench, one, publication(9)) == [b"hello"]
    bench.now += 151.0
    bench.router.handle_timeout(bench.now)
    assert came(bench, one, publication(9, NOW + 151_000_000)) == []


def test_one_relay_that_lies_about_the_time_stops_nothing() -> None:
    bench = Bench(relaying=False)
    links = [link_keeper(bench, number) for number in (1, 2, 3)]
    token, actions = bench.router.publish_under(KEY, b"hello", 10.0, bench.now)
    asked = {frame.to: frame for frame in sent(actions) if frame.flags & RENDEZVOUS}
    liar, quiet, honest = links
    item = parse_rendezvous_untrusted(asked[liar.id].payload)
    assert isinstance(item, Publish)
    lie = Untimely(KEY, item.publication.number, 0).to_bytes()
    for frame in (say(bench, liar, lie, confirm=False), say(bench, liar, lie, confirm=False)):
        assert of(bench.receive(liar, frame), Failed) == []
    assert bench.count("answers_to_nothing") == 1
    retries = [frame.to for frame in sent(bench.advance(1.2)) if frame.flags & RENDEZVOUS]
    assert honest.id in retries
    assert liar.id not in retries
    found = next(frame for frame in sent(actions, kind=Kind.FIND))
    for link in links:
        bench.receive(link, bench.frame(link, Kind.FOUND, message_id=found.message_id))
    frame = bench.frame(honest, Kind.ACK, message_id=asked[honest.id].message_id, payload=b"\x10\0")
    assert [done.message_id for done in of(bench.receive(honest, frame), Acknowledged)] == [token]
    assert quiet.id in asked


def test_what_a_silent_relay_may_have_sent_on_has_an_unknown_outcome() -> None:
    bench = Bench(relaying=False)
    silent, busy = link_keeper(bench, 1), link_keeper(bench, 2)
    token, actions = bench.router.publish_under(KEY, b"hello", 3.0, bench.now)
    ended: list[Failed] = []
    while not ended:
        for frame in sent(actions, busy):
            if frame.flags & RENDEZVOUS:
                answer = bench.frame(busy, Kind.BUSY, message_id=frame.message_id, payload=bytes([frame.attempt]))
                bench.receive(busy, answer)
        actions = bench.advance(0.5)
        ended = of(actions, Failed)
    (failed,) = ended
    assert failed.message_id == token
    assert isinstance(failed.error, TopicUnavailable)
    assert failed.error.outcome == "unknown"
    assert silent.up


def test_a_relay_that_keeps_it_no_more_is_replaced_at_once() -> None:
    bench = Bench(relaying=False)
    one, *_ = subscribed(bench, 1, 2, 3)
    fourth = link_keeper(bench, 4)
    actions = bench.receive(one, say(bench, one, Gone(KEY).to_bytes(), confirm=False))
    assert about_topics(sent(actions)) == about_topics(sent(actions, fourth)) == [Subscribe(KEY).to_bytes()]


def test_relays_of_older_versions_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous_publishing, "_UNTAKEN", 1)
    bench = Bench(relaying=False)
    bench.link(1)
    (frame,) = sent(bench.router.subscribe(KEY, bench.now), kind=Kind.FIND)
    token, _ = bench.router.publish_under(KEY, b"hello", 3.0, bench.now)
    assert not bench.router.has_publishing_room(1)
    assert about_topics(sent(bench.advance(10.0))) == []
    assert bench.router.has_publishing_room(1)
    assert frame.payload == KEY
    assert token
    assert bench.count("publications_failed") == 1


def test_a_relay_that_brings_what_we_do_not_want_is_told() -> None:
    bench = Bench(relaying=False)
    (one,) = subscribed(bench, 1)
    actions = bench.router.unsubscribe(KEY, bench.now)
    assert about_topics(sent(actions, one)) == [Unsubscribe(KEY).to_bytes()]
    actions = bench.receive(one, say(bench, one, Event(publication(9)).to_bytes(), confirm=False))
    assert about_topics(sent(actions, one)) == [Unsubscribe(KEY).to_bytes()]
    assert of(actions, Published) == []


def test_it_is_not_complete_before_the_closest_relays_were_looked_for() -> None:
    bench = Bench(relaying=False)
    link = link_keeper(bench, 1)
    actions = bench.router.subscribe(KEY, bench.now)
    (question,) = sent(actions, kind=Kind.FIND)
    (asked,) = (frame for frame in sent(actions) if frame.flags & RENDEZVOUS)
    ack = bench.frame(link, Kind.ACK, message_id=asked.message_id, payload=b"\x10\0")
    assert of(bench.receive(link, ack), Subscribed) == [Subscribed(KEY, 1, False, "")]
    found = bench.frame(link, Kind.FOUND, message_id=question.message_id, payload=b"")
    assert of(bench.receive(link, found), Subscribed) == [Subscribed(KEY, 1, True, "")]


def test_a_relay_that_is_full_stays_a_place_and_is_asked_again() -> None:
    bench = Bench(relaying=False)
    link = link_keeper(bench, 1)
    actions, told, asked = bench.router.subscribe(KEY, bench.now), list[Subscribed](), list[float]()
    while bench.now < 40.0:
        for frame in sent(actions):
            if frame.kind == Kind.PING:
                bench.receive(link, bench.frame(link, Kind.PONG, message_id=frame.message_id))
            elif frame.flags & RENDEZVOUS:
                asked.append(bench.now)
                busy = bench.frame(link, Kind.BUSY, message_id=frame.message_id, payload=bytes([frame.attempt]))
                bench.receive(link, busy)
        actions = bench.advance(0.5)
        told += of(actions, Subscribed)
    assert told[-1] == Subscribed(KEY, 0, True, "it keeps too many")
    assert max(later - earlier for earlier, later in itertools.pairwise(asked)) < 14.0
    assert max(asked) > 25.0
    assert bench.count("rendezvous_avoided") == 0


@pytest.mark.parametrize("bound", ["_UNTAKEN", "_UNDER_WAY"])
def test_when_a_publication_is_done_there_is_room_for_another(monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    monkeypatch.setattr(rendezvous_publishing, bound, 1)
    bench = Bench(relaying=False)
    links = [link_keeper(bench, 1), link_keeper(bench, 2)]
    token, actions = bench.router.publish_under(KEY, b"hello", 10.0, bench.now)
    assert not bench.router.has_publishing_room(1)
    done: list[Action] = []
    for frame in sent(actions):
        kind, payload = (Kind.FOUND, b"") if frame.kind == Kind.FIND else (Kind.ACK, b"\x10\0")
        link = next(link for link in links if link.id == frame.to)
        done += bench.receive(link, bench.frame(link, kind, message_id=frame.message_id, payload=payload))
    assert of(done, Acknowledged) == [Acknowledged(token, 0.0, 1)]
    assert PublishingRoom() in done
    assert bench.router.has_publishing_room(1)


def test_what_a_message_makes_due_wakes_the_router_in_time() -> None:
    bench = Bench(relaying=False)
    one, *_ = subscribed(bench, 1)
    bench.advance(1.9)
    assert bench.router.next_deadline() > bench.now
    bench.receive(one, say(bench, one, Gone(KEY).to_bytes(), confirm=False))
    assert bench.router.next_deadline() <= first_deadline(bench.router) <= 2.0
