"""How commands in the foreground are ended."""

from __future__ import annotations

import signal

import trio

__all__ = ["stop_on_signal"]


async def stop_on_signal(
    stop: trio.CancelScope, received: list[int], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Cancels `stop` on the first SIGTERM or Ctrl-C; the next one does what it does to any program."""
    # A shell without job control starts background jobs with SIGINT ignored: Ctrl-C is meant for others then.
    wanted = [number for number in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(number) is not signal.SIG_IGN]
    with trio.open_signal_receiver(*wanted) as signals:
        task_status.started()
        async for number in signals:
            received.append(number)
            break
    stop.cancel()
