"""``trio-relay node``: a peer in the foreground, for people or (``--jsonl``) for programs.

The output outlives the node: what was in the mailbox when it closed was acknowledged, so it is still written.
"""

from __future__ import annotations

import signal
import sys

import trio

from ..node.node import Node
from ..node.values import LinkUp
from . import jsonl
from .options import NodeOptions, UsageError, open_from
from .reports import JsonReport, ReadableReport, Report
from .signals import stop_on_signal
from .stdio import Out, open_output, wait_reader_gone
from .tls import Certificate

__all__ = ["run"]


async def run(options: NodeOptions, certificate: Certificate | None, machine: bool) -> int:
    """Runs until terminated, or (machine) the end of input; raises KeyboardInterrupt after an orderly end by Ctrl-C."""
    received: list[int] = []
    async with open_output() as (out, reporters), trio.open_nursery() as services:
        stop = services.cancel_scope
        await services.start(stop_on_signal, stop, received)
        services.start_soon(wait_reader_gone)
        if certificate is not None:
            await services.start(_reload_on_hangup, certificate)
        async with open_from(options) as node:
            report: Report = JsonReport() if machine else ReadableReport(sys.stdout.encoding)
            await out.send(report.started(node))
            reporters.start_soon(_report_messages, node, report, out.clone())
            await reporters.start(_report_links, node, report, out.clone())
            if machine:
                await jsonl.serve(node, out)
            else:
                await trio.sleep_forever()
        stop.cancel()
    if signal.SIGINT in received:
        raise KeyboardInterrupt
    return 0


async def _report_links(
    node: Node, report: Report, out: Out, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Links that are up, then whatever happens to them until the node is closed; it must not be closed yet."""
    async with out, node.events() as events:
        links = node.links.values()
        task_status.started()
        for info in links:
            await out.send(report.event(LinkUp(info.id, info.transport, info.rtt, info.candidates)))
        async for event in events:
            await out.send(report.event(event))


async def _report_messages(node: Node, report: Report, out: Out) -> None:
    """Messages until the node is closed and its mailbox empty. While nobody reads them they stay in the mailbox."""
    async with out:
        async for message in node:
            await out.send(report.message(message))


async def _reload_on_hangup(
    certificate: Certificate, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Reads certificate and key again on SIGHUP; bad files keep the old ones and say so."""
    if sys.platform == "win32":
        task_status.started()
        return
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            try:
                certificate.reload()
            except UsageError as error:
                print(f"trio-relay: certificate not reloaded: {error}", file=sys.stderr, flush=True)
            else:
                print("trio-relay: certificate reloaded", file=sys.stderr, flush=True)
