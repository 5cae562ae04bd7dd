"""Peerix for Trio: rooms whose members are connected by WebRTC, in browsers and in Python.

`open_room` is an async context manager around a `Room`. Wire-compatible with Peerix 0.5 to 0.7.
"""

from ..exceptions import DriverError, RoomError, TransferFailed
from .addons import Addon
from .drivers.connected import BrokerSession, ConnectedDriver
from .drivers.driver import Driver, DriverActive, DriverEvent, DriverFailed, DriverInactive
from .drivers.memory import MemoryDriver
from .drivers.mqtt import MqttDriver
from .drivers.nats import NatsDriver
from .drivers.overlay import RelayDriver
from .drivers.socketio import SocketIoDriver
from .drivers.sse import SseDriver
from .events import (
    ChannelClosed,
    ChannelError,
    ChannelEvent,
    ChannelMessage,
    ChannelNew,
    ChannelOpen,
    ConnectionClosed,
    ConnectionConnected,
    ConnectionConnecting,
    ConnectionDisconnected,
    ConnectionEvent,
    ConnectionFailed,
    ConnectionNew,
    ErrorEvent,
    RoomEvent,
    StreamAdded,
    StreamEvent,
    StreamRemoved,
    TrackAdded,
    TrackEvent,
    TrackRemoved,
)
from .members.channel import Channel
from .members.member import Member
from .members.streams import RemoteStream
from .opening import open_room
from .options import ChannelOptions, RoomLimits
from .room import Me, Room, RoomStatistics
from .sharing import LocalStream
from .transfers.limits import TransferLimits
from .transfers.message import Message
from .transfers.transfer import Progress, Transfer

__all__ = [
    "Addon",
    "BrokerSession",
    "Channel",
    "ChannelClosed",
    "ChannelError",
    "ChannelEvent",
    "ChannelMessage",
    "ChannelNew",
    "ChannelOpen",
    "ChannelOptions",
    "ConnectedDriver",
    "ConnectionClosed",
    "ConnectionConnected",
    "ConnectionConnecting",
    "ConnectionDisconnected",
    "ConnectionEvent",
    "ConnectionFailed",
    "ConnectionNew",
    "Driver",
    "DriverActive",
    "DriverError",
    "DriverEvent",
    "DriverFailed",
    "DriverInactive",
    "ErrorEvent",
    "LocalStream",
    "Me",
    "Member",
    "MemoryDriver",
    "Message",
    "MqttDriver",
    "NatsDriver",
    "Progress",
    "RelayDriver",
    "RemoteStream",
    "Room",
    "RoomError",
    "RoomEvent",
    "RoomLimits",
    "RoomStatistics",
    "SocketIoDriver",
    "SseDriver",
    "StreamAdded",
    "StreamEvent",
    "StreamRemoved",
    "TrackAdded",
    "TrackEvent",
    "TrackRemoved",
    "Transfer",
    "TransferFailed",
    "TransferLimits",
    "open_room",
]
