"""Streams of a member: what the application is told when tracks come and go. Shared streams of our own."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from tests.peerix.support import World, next_event
from tests.transports.fake_bundle import FakeTrack
from trio_relay.exceptions import RoomError
from trio_relay.peerix import events
from trio_relay.peerix.members.streams import Change, RemoteStreams
from trio_relay.peerix.options import RoomLimits
from trio_relay.transports.bundle import StreamTrack


def track(id: str, stream: str = "s", kind: str = "video") -> StreamTrack:
    return StreamTrack(cast(Any, FakeTrack(kind, id)), stream)


def shown(changes: list[Change]) -> list[tuple[str, str, bool, bool]]:
    return [(change.stream.label, change.track.id, change.added, change.edge) for change in changes]


def test_tracks_come_and_go() -> None:
    streams = RemoteStreams(4, Counter())
    streams.relabel({"s": "camera"})
    one, two = track("1"), track("2", kind="audio")
    assert shown(streams.update([one])) == [("camera", "1", True, True)]
    assert shown(streams.update([one, two])) == [("camera", "2", True, False)]
    assert streams.by_label["camera"].tracks == (one.track, two.track)
    assert shown(streams.update([two])) == [("camera", "1", False, False)]
    assert shown(streams.update([])) == [("camera", "2", False, True)]
    assert not streams.by_label


def test_labels_hold_for_streams_that_come_after_them() -> None:
    streams = RemoteStreams(4, Counter())
    one = track("1", "s")
    assert shown(streams.update([one])) == [("s", "1", True, True)]
    streams.relabel({"s": "late", "t": "screen"})
    assert shown(streams.update([one, track("2", "t")])) == [("screen", "2", True, True)]


def test_two_streams_of_one_label_stay_apart() -> None:
    counts: Counter[str] = Counter()
    streams = RemoteStreams(4, counts)
    streams.relabel({"s": "camera", "t": "camera"})
    streams.update([track("1", "s"), track("2", "t")])
    assert sorted(streams.by_label) == ["camera", "t"]
    assert counts == {"labels_repeated": 1}


def test_too_many_streams_are_left_and_counted() -> None:
    counts: Counter[str] = Counter()
    streams = RemoteStreams(2, counts)
    tracks = [track(str(number), f"s{number}") for number in range(3)]
    assert len(streams.update(tracks)) == 2
    assert len(streams.update(tracks)) == 0
    assert counts == {"streams_refused": 1}
    assert len(streams.update([])) == 2


def test_a_track_without_a_stream_is_one_of_its_own() -> None:
    streams = RemoteStreams(4, Counter())
    assert shown(streams.update([track("1", "")])) == [("1", "1", True, True)]


async def test_a_stream_is_shared_with_all_and_with_who_comes_later(autojump_clock: MockClock) -> None:
    world = World()
    async with world.room() as alice, world.room() as bob, bob.events() as seen:
        await alice.wait_members()
        camera, microphone = FakeTrack("video", "v"), FakeTrack("audio", "a")
        shared = alice.share([camera, microphone], label="camera")
        added = await next_event(seen, events.StreamAdded)
        assert added.label == "camera"
        assert added.member is not None
        assert added.id == added.member.id
        await next_event(seen, events.TrackAdded, lambda event: event.track.kind == "audio")
        async with world.room() as carol, carol.events() as seen_by_carol:
            assert (await next_event(seen_by_carol, events.StreamAdded)).label == "camera"
            await trio.sleep(1)
            assert alice.me is not None
            assert sorted(t.kind for t in carol.members[alice.me.id].streams["camera"].tracks) == ["audio", "video"]
        alice.unshare("camera")
        await next_event(seen, events.StreamRemoved)
        assert camera.stopped
        assert microphone.stopped
        assert shared.label == "camera"


async def test_a_stream_that_is_shared_again_replaces_its_tracks_and_managed_ones_go_on(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with world.room() as alice, world.room() as bob, bob.events() as seen:
        await alice.wait_members()
        first, second, third = (FakeTrack("video", name) for name in "123")
        alice.share(first)
        await next_event(seen, events.StreamAdded)
        await trio.sleep(1)
        negotiations = sum(bundle.negotiations for bundle in world.bundles.bundles)
        alice.share(second, managed=True)
        await trio.sleep(1)
        assert first.stopped
        assert sum(bundle.negotiations for bundle in world.bundles.bundles) == negotiations
        alice.share([third])
        alice.unshare()
        await next_event(seen, events.StreamRemoved)
        assert not second.stopped
        assert third.stopped


async def test_both_share_at_once(autojump_clock: MockClock) -> None:
    world = World()
    async with world.room() as alice, world.room() as bob:
        await alice.wait_members()
        for number in range(4):
            alice.share(FakeTrack("video", f"a{number}"), label=f"a{number}")
            bob.share(FakeTrack("video", f"b{number}"), label=f"b{number}")
        await trio.sleep(20)
        assert [sorted(member.streams) for member in alice.members.values()] == [["b0", "b1", "b2", "b3"]]
        assert [sorted(member.streams) for member in bob.members.values()] == [["a0", "a1", "a2", "a3"]]


async def test_a_stream_for_one_member_alone(autojump_clock: MockClock) -> None:
    world = World()
    async with world.room() as alice, world.room() as bob, world.room() as carol:
        for room in (alice, bob, carol):
            await room.wait_members(2)
        assert bob.me is not None
        assert alice.me is not None
        alice.members[bob.me.id].share(FakeTrack("audio", "whisper"), label="whisper")
        await trio.sleep(2)
        assert list(bob.members[alice.me.id].streams) == ["whisper"]
        assert not carol.members[alice.me.id].streams
        alice.members[bob.me.id].unshare("whisper")
        await trio.sleep(2)
        assert not bob.members[alice.me.id].streams


async def test_what_can_not_be_shared(autojump_clock: MockClock) -> None:
    world = World()
    async with world.room(limits=RoomLimits(streams=1)) as room, room.events() as seen:
        for nothing in ([], [FakeTrack("smell", "s")], object()):
            with pytest.raises(RoomError) as failed:
                room.share(nothing)
            assert failed.value.code == "MEDIASTREAM_ERROR"
        room.share(FakeTrack("video", "v"))
        assert (await next_event(seen, events.StreamAdded)).member is None
        with pytest.raises(ValueError, match="at most 1"):
            room.share(FakeTrack("video", "w"), label="another")
