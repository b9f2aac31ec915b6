"""The connections that this process accepted, whichever library reads them: how much each sent, to cut and to hold.

Linux only.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import socket
import struct
import termios
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

_TCP_ESTABLISHED, _BYTES_RECEIVED_AT = 1, 128  # of Linux's struct tcp_info
_DESCRIPTORS = "/proc/self/fd"
_AF_UNSPEC = b"\0" * 16
_ATTACH_FILTER, _DETACH_FILTER = 26, 27  # of Linux's socket options, which Python does not name
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
    """Inode of each open connection that this process accepted → the connection."""
    listening, found = set[int](), dict[int, tuple[Accepted, int]]()
    for inode, descriptor, each in _sockets():
        with suppress(OSError):
            port = each.getsockname()[1]
            if each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                listening.add(port)
                continue
            about = each.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            if about[0] == _TCP_ESTABLISHED:
                received = struct.unpack_from("=Q", about, _BYTES_RECEIVED_AT)[0]
                unread = struct.unpack("=i", fcntl.ioctl(each, termios.FIONREAD, bytes(4)))[0]
                found[inode] = Accepted(descriptor, received - unread, unread), port
    return {inode: each for inode, (each, port) in found.items() if port in listening}


def cut(descriptor: int) -> str:
    """Resets a connection, and drops what it has received and nobody has read; returns its peer's address.

    A shutdown would leave what was received to be read: megabytes, each of which becomes hundreds.
    """
    with _borrowed(descriptor) as connection:
        host, port = connection.getpeername()[:2]
        if ctypes.CDLL(None, use_errno=True).connect(connection.fileno(), _AF_UNSPEC, len(_AF_UNSPEC)):
            raise OSError(ctypes.get_errno(), errno.errorcode.get(ctypes.get_errno(), ""))
        return f"{host}:{port}"


def hold(spared: Collection[int] = ()) -> None:
    """Lets no connection be made, and no more data in, until :func:`release`.

    The kernel drops such packets, and the peers send them again, so to them it looks like a slow network.

    Args:
        spared: inodes of connections that this is not done to, or no longer.
    """
    listening = set[int]()
    for takes_servers in (True, False):  # first them, so that no connection is added in between
        for inode, _, each in _sockets():
            with suppress(OSError):
                port, is_server = each.getsockname()[1], bool(each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
                if is_server:
                    listening.add(port)
                if is_server != takes_servers or port not in listening:
                    continue
                if inode in spared:
                    each.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, bytes(4))
                else:
                    program = _OF_SERVERS if is_server else _OF_CONNECTIONS
                    each.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, program.option)


def release() -> None:
    """Ends :func:`hold`."""
    for _, _, each in _sockets():
        with suppress(OSError):
            each.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, bytes(4))


def _sockets() -> Iterator[tuple[int, int, socket.socket]]:
    """Inode, descriptor and socket of TCP's, of connections and servers."""
    for name in os.listdir(_DESCRIPTORS):  # noqa: PTH208 (ten times as fast)
        with suppress(OSError):
            match = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(f"{_DESCRIPTORS}/{name}"))  # noqa: PTH115 (likewise)
            if match is None:
                continue
            with _borrowed(int(name)) as each:
                if each.family in {socket.AF_INET, socket.AF_INET6} and each.type == socket.SOCK_STREAM:
                    yield int(match[1]), int(name), each


@contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    with socket.socket(fileno=os.dup(descriptor)) as each:
        yield each
