"""Raw generators: processes with blocking sockets that move bytes made beforehand, the same code for every program.

They cost little beside the process between them, which is what is to be measured. Each takes what it shares with the
measuring process as `Shared`. `credit` is an eventfd by which the receiver wakes a sender whose window is full.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import select
import selectors
import socket
import time
from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Final

from .ends import Receiver, Traffic, read
from .ours import RawLink

__all__ = ["RawLink", "Shared", "receive_counted", "receive_timed", "send_paced", "send_windowed"]

_CREDIT_TIMEOUT: Final = 100
"""Milliseconds until a sender that waits for credit looks whether it should stop."""


class Shared:
    """Numbers in memory shared between the measuring process and the generators; each has one writer."""

    def __init__(self, times: int = 0) -> None:
        self.sent = multiprocessing.RawValue(ctypes.c_uint64)
        self.received = multiprocessing.RawValue(ctypes.c_uint64)
        self.ready = multiprocessing.RawValue(ctypes.c_uint64)
        self.stop = multiprocessing.RawValue(ctypes.c_bool)
        self.stopped = multiprocessing.RawValue(ctypes.c_bool)
        self.left = multiprocessing.RawArray(ctypes.c_double, times)
        self.arrived = multiprocessing.RawArray(ctypes.c_double, times)


def send_windowed(traffic: Traffic, url: str, pairs: int, window: int, shared: Shared, credit: int) -> None:
    """Sends over each pair in turn until `shared.stop`, with at most `window` messages under way in all.

    A quarter of the window, or of a pair's part of it, is written at once, as soon as so much of it is free.
    """
    count = max(window // 4 // pairs, 1)
    senders = [traffic.sender(url, pair, count) for pair in range(pairs)]
    waiting = select.poll()
    waiting.register(credit, select.POLLIN)
    shared.ready.value += 1
    sent, received, stop = 0, shared.received, shared.stop
    for turn, sender in enumerate(cycle(senders)):
        while sent - received.value + count > window and not stop.value:
            if waiting.poll(_CREDIT_TIMEOUT):
                os.eventfd_read(credit)
        if stop.value:
            break
        sender.socket.sendall(sender.block(turn // pairs * count))
        sent += count
        shared.sent.value = sent
    _stay(shared)


def receive_counted(traffic: Traffic, url: str, pairs: int, window: int, shared: Shared, credit: int) -> None:
    """Counts what arrives on every pair; gives credit for each quarter of the window."""
    receivers = [traffic.receiver(url, pair) for pair in range(pairs)]
    shared.ready.value += 1
    received, credited, quarter = 0, 0, max(window // 4, 1)
    for number in _count_one(receivers[0]) if pairs == 1 else _count_many(receivers):
        received += number
        shared.received.value = received
        if received - credited >= quarter:
            credited = received
            os.eventfd_write(credit, 1)


def _count_one(receiver: Receiver) -> Iterator[int]:
    """Without a selector, which knows nothing of what TLS has read already."""
    while True:
        yield receiver.count(read(receiver.socket))


def _count_many(receivers: Sequence[Receiver]) -> Iterator[int]:
    with selectors.DefaultSelector() as selector:
        for receiver in receivers:
            selector.register(receiver.socket, selectors.EVENT_READ, receiver)
        while True:
            for key, _ in selector.select():
                assert isinstance(key.fileobj, socket.socket)
                yield key.data.count(read(key.fileobj))


def send_paced(traffic: Traffic, url: str, rate: float, shared: Shared) -> None:
    """Sends one message at a time, `rate` a second, until `shared.stop`; notes when each left."""
    sender = traffic.sender(url, 0, 1)
    shared.ready.value += 1
    start = time.monotonic()
    for number in range(len(shared.left)):
        if shared.stop.value:
            break
        data = sender.block(number)
        time.sleep(max(start + number / rate - time.monotonic(), 0))
        shared.left[number] = time.monotonic()
        sender.socket.sendall(data)
        shared.sent.value = number + 1
    _stay(shared)


def receive_timed(traffic: Traffic, url: str, shared: Shared) -> None:
    """Notes when each message arrived; they come in order."""
    receiver = traffic.receiver(url, 0)
    shared.ready.value += 1
    received = 0
    while True:
        data = read(receiver.socket)
        now = time.monotonic()
        for _ in range(receiver.count(data)):
            shared.arrived[received] = now
            received += 1
        shared.received.value = received


def _stay(shared: Shared) -> None:
    """The measuring process ends this one: a link that ends early is an event for the program, and costs it time."""
    shared.stopped.value = True
    time.sleep(3600)
