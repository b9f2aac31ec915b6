"""The connections that this process accepted, whichever library reads them: how much each sent, to cut and to hold.

Linux only. C functions are called directly: they do not block, so the interpreter's lock can be kept, for which this
thread would wait after each call in a process that is flooded; and a look each second costs a tenth.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import termios
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_TCP_ESTABLISHED, _TCP_LISTEN, _BYTES_RECEIVED_AT = 1, 10, 128  # of Linux's struct tcp_info
_ATTACH_FILTER, _DETACH_FILTER, _COOKIE = 26, 27, 57  # of Linux's socket options, which Python does not name
_DESCRIPTORS = "/proc/self/fd"
_AF_UNSPEC = b"\0" * 16

_c = ctypes.PyDLL(None, use_errno=True)
_INFO, _ADDRESS, _NUMBER, _UNREAD = (
    ctypes.create_string_buffer(256),
    ctypes.create_string_buffer(128),
    ctypes.c_uint64(),
    ctypes.c_int(),
)

_DROP = (0x06, 0, 0, 0)
# Of the packet from TCP's header on: dropped if it is longer than that header. So connections take answers, and end.
_DROP_DATA = (
    (0x30, 0, 0, 12),  # load the byte with the header's length
    (0x54, 0, 0, 0xF0),  # and its upper half,
    (0x74, 0, 0, 2),  # in bytes,
    (0x07, 0, 0, 0),  # kept aside
    (0x80, 0, 0, 0),  # load the packet's length
    (0x2D, 0, 1, 0),  # if it is greater
    _DROP,
    (0x06, 0, 0, 0xFFFFFFFF),  # else keep the packet
)


class _Filter:
    """A program of Linux's classic packet filter, as a socket takes it."""

    def __init__(self, *instructions: tuple[int, int, int, int]) -> None:
        self._code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in instructions))
        self.option = struct.pack("@HP", len(instructions), ctypes.addressof(self._code))


_OF_SERVERS, _OF_CONNECTIONS = _Filter(_DROP), _Filter(*_DROP_DATA)


@dataclass(frozen=True, slots=True)
class Accepted:
    """An open connection.

    Attributes:
        descriptor: its socket's.
        read: bytes of it that were read.
        unread: bytes of it that wait in the kernel.
    """

    descriptor: int
    read: int
    unread: int


def open_connections() -> dict[int, Accepted]:
    """Number of each open connection that this process accepted, see :func:`number_of` → the connection."""
    servers, connections = _sockets()
    found = {}
    for port, descriptor, received in connections:
        if port in servers and not _c.ioctl(descriptor, termios.FIONREAD, ctypes.byref(_UNREAD)):
            found[number_of(descriptor)] = Accepted(descriptor, received - _UNREAD.value, _UNREAD.value)
    return found


def number_of(descriptor: int) -> int:
    """The kernel's number of a socket, which no other ever has; 0 of one that is closed."""
    length = ctypes.c_uint32(8)
    failed = _c.getsockopt(descriptor, socket.SOL_SOCKET, _COOKIE, ctypes.byref(_NUMBER), ctypes.byref(length))
    return 0 if failed else _NUMBER.value


def cut(descriptor: int) -> str:
    """Resets a connection, and drops what it has received and nobody has read; returns its peer's address.

    A shutdown would leave what was received to be read: megabytes, each of which becomes hundreds.
    """
    with _borrowed(descriptor) as connection:
        host, port = connection.getpeername()[:2]
        if _c.connect(connection.fileno(), _AF_UNSPEC, len(_AF_UNSPEC)):
            raise OSError(ctypes.get_errno(), errno.errorcode.get(ctypes.get_errno(), ""))
        return f"{host}:{port}"


def hold(spared: Collection[int] = ()) -> None:
    """Lets no connection be made, and no more data in, until :func:`release`.

    The kernel drops such packets, and the peers send them again, so to them it looks like a slow network.

    Args:
        spared: numbers of connections that this is not done to, or no longer.
    """
    servers, _ = _sockets()
    for descriptor in servers.values():  # first, so that no connection is added in between
        _set(descriptor, _ATTACH_FILTER, _OF_SERVERS.option)
    for port, descriptor, _ in _sockets()[1]:
        if port in servers:
            if number_of(descriptor) in spared:
                _set(descriptor, _DETACH_FILTER, bytes(4))
            else:
                _set(descriptor, _ATTACH_FILTER, _OF_CONNECTIONS.option)


def release() -> None:
    """Ends :func:`hold`."""
    servers, connections = _sockets()
    for descriptor in (*servers.values(), *(descriptor for _, descriptor, _ in connections)):
        _set(descriptor, _DETACH_FILTER, bytes(4))


def _set(descriptor: int, option: int, value: bytes) -> None:
    _c.setsockopt(descriptor, socket.SOL_SOCKET, option, value, len(value))  # the socket may be closed by now


def _sockets() -> tuple[dict[int, int], list[tuple[int, int, int]]]:
    """Port → descriptor of this process's TCP servers; and port, descriptor and bytes received of open connections."""
    servers, connections = dict[int, int](), list[tuple[int, int, int]]()
    for name in os.listdir(_DESCRIPTORS):  # noqa: PTH208 (ten times as fast)
        descriptor, length = int(name), ctypes.c_uint32(len(_INFO))
        if _c.getsockopt(descriptor, socket.IPPROTO_TCP, socket.TCP_INFO, _INFO, ctypes.byref(length)):
            continue  # no socket of TCP's
        state, length.value = _INFO.raw[0], len(_ADDRESS)
        if state not in {_TCP_ESTABLISHED, _TCP_LISTEN} or _c.getsockname(descriptor, _ADDRESS, ctypes.byref(length)):
            continue
        [port] = struct.unpack_from("!H", _ADDRESS, 2)
        if state == _TCP_LISTEN:
            servers[port] = descriptor
        else:
            connections.append((port, descriptor, struct.unpack_from("=Q", _INFO, _BYTES_RECEIVED_AT)[0]))
    return servers, connections


@contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    with socket.socket(fileno=os.dup(descriptor)) as each:
        yield each
