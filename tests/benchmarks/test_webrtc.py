"""A short run of the WebRTC benchmark: everything is measured, under the names that the goals have."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import pytest
import trio

from benchmarks import endurance, peerjs_transfer, set_ups, webrtc
from benchmarks.memory import MIB
from benchmarks.report import Options, Report
from benchmarks.results import Results
from benchmarks.set_ups import BARE, NODES
from benchmarks.summary import GOALS, summary
from trio_relay import open_node
from trio_relay.wire.ids import NodeId


@pytest.fixture
def report() -> Report:
    return Report("a test")


def results(report: Report) -> Results:
    return Results(report.about, report.tables, report.ratios, report.notes)


def test_a_short_run_records_what_the_goals_ask_for(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webrtc, "WARM_UP", 0.02)
    monkeypatch.setattr(set_ups, "SET_UPS", 1)
    webrtc.run(report, Options(seconds=0.05, repeat=1, sizes=(1024,)))
    throughput, opened = report.tables
    assert throughput.title == "webrtc, 1,024 B"
    assert [row.name for row in throughput.rows] == [BARE, webrtc.CONNECTION, NODES]
    for row in throughput.rows:
        assert row.values["MB/s"][0] > 0
        assert row.sent > row.lost == 0
    assert [row.name for row in opened.rows] == [BARE, NODES]
    assert all(row.values["p50 ms"][0] > 0 for row in opened.rows)
    measured = {(ratio.title, ratio.column, ratio.one, ratio.other) for ratio in report.ratios}
    wanted = {
        (goal.title.replace("20 set-ups", "1 set-ups"), goal.column, goal.one, goal.other)
        for goal in GOALS
        if goal.title in ("webrtc, 1,024 B", "webrtc, 20 set-ups")
    }
    assert len(wanted) == 3
    assert wanted <= measured
    assert "WebRTC, two nodes, 1,024 B, MB/s, to bare aiortc" in summary(results(report))


def test_connections_that_come_and_go_leave_no_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endurance, "_SETTLE", 0.02)
    monkeypatch.setattr(endurance, "_PAUSE", 0.0)
    samples = endurance.cycles(NODES, 2)
    assert list(samples) == ["after 0", "after 1", "after 2"]
    first, *rest = (sample.values for (sample,) in samples.values())
    assert [values["descriptors"] for values in rest] == [first["descriptors"]] * 2


def test_the_goal_about_descriptors_names_the_rows_of_a_run() -> None:
    (goal,) = (goal for goal in GOALS if goal.column == "descriptors")
    moments = [endurance.moment(point) for point in endurance.points(1000)]
    assert [goal.other, goal.one] == moments[1:]
    assert goal.title == endurance.growth(NODES)


async def test_a_transfer_is_whole() -> None:
    ends = [multiprocessing.Pipe(duplex=False) for _ in range(2)]
    (receiver, receiver_said), (sender, sender_said) = ends

    async def said(pipe: Connection) -> Any:
        while not pipe.poll():
            await trio.sleep(0.005)
        return pipe.recv()

    async with open_node() as relay, trio.open_nursery() as nursery:
        with trio.fail_after(20):
            nursery.start_soon(endurance.receive_all, receiver_said, relay.urls[0])
            to = NodeId(await said(receiver))
            nursery.start_soon(endurance.send_all, sender_said, relay.urls[0], to, 6)
            sent, came = await said(sender), await said(receiver)
        nursery.cancel_scope.cancel()
    for pipe in (*ends[0], *ends[1]):
        pipe.close()
    sample = endurance.transferred(sent, came)
    assert (sample.sent, sample.lost) == (6, 0)
    assert sample.values["MB/s"] > 0
    for side in ("sender", "receiver"):
        assert sample.values[f"{side} peak MiB"] >= sample.values[f"{side} before MiB"] > 0
    with pytest.raises(RuntimeError, match="the digests differ"):
        endurance.transferred(replace(sent, digest="other"), came)
    assert endurance.transferred(sent, replace(came, pieces=4, digest="other")).lost == 2


def test_a_value_that_two_peers_agree_on_is_a_sample() -> None:
    sent = peerjs_transfer.Side(1.0, "digest", 5 * MIB, 6 * MIB, "relay")
    came = replace(sent, at=3.0, peak=7 * MIB)
    sample = peerjs_transfer.transferred(4_000_000, "relay", sent, came)
    assert (sample.values["MB/s"], sample.values["receiver peak MiB"]) == (2.0, 7.0)
    with pytest.raises(RuntimeError, match="the digests differ"):
        peerjs_transfer.transferred(1, "relay", sent, replace(came, digest="other"))
    with pytest.raises(RuntimeError, match="expected a connection over webrtc, not relay and webrtc"):
        peerjs_transfer.transferred(1, "webrtc", sent, replace(came, transport="webrtc"))


def test_without_aiortc_the_report_says_so(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webrtc, "find_spec", lambda name: None)
    webrtc.run(report, Options())
    assert report.tables == []
    assert report.notes == ["webrtc: not measured: aiortc and trio_asyncio not installed"]
