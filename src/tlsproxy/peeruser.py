# -*- test-case-name: tests.test_peeruser -*-
"""
Which user of this machine has the other end of a connection.
"""

from __future__ import annotations

import secrets
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tlsproxy.wire.network import plainAddress
from tlsproxy.wire.sockdiag import Connection, SockDiagError, question, readAnswer

__all__ = ["PeerUnknown", "isHere", "userOf"]

_NETLINK_SOCK_DIAG: Final = 4
_PATIENCE: Final = 1.0
"""How long the kernel may take, in seconds; it answers before the question has been sent."""
_LARGEST: Final = 8192
_CREDENTIALS: Final = struct.Struct("=iII")  # ucred: process, user, group (unix(7))
_OVERFLOW: Final = "/proc/sys/kernel/overflowuid"
_NOBODY: Final = 65534
_MAP: Final = "/proc/self/uid_map"
_ALL: Final = ["0", "0", "4294967295"]
"""What that file has where no namespace is in between."""
_CONNECTED: Final = frozenset({1, 8})  # established, close_wait: <net/tcp_states.h>


class PeerUnknown(ValueError):
    """
    It cannot be told whose the other end is.  The sentence says why.
    """


def userOf(sock: socket.socket, ask: Callable[[bytes], bytes] | None = None) -> int:
    """
    Tell the user id of the process at the other end.

    @param sock: A connected socket, Unix or TCP on loopback.
    @param ask: Sends a question of L{tlsproxy.wire.sockdiag} to the kernel and takes the answer; L{None} for the real
        one.
    @raise PeerUnknown: It cannot be told.
    """
    try:
        if sock.family == socket.AF_UNIX:
            return _known(_ofUnix(sock))
        here, there = sock.getsockname()[:2], sock.getpeername()[:2]
        return _known(_ofLoopback(sock, here, there, ask or _kernel))
    except (OSError, SockDiagError) as e:
        raise PeerUnknown(f"it cannot be told whose process connects: {getattr(e, 'strerror', None) or e}") from None


def _known(user: int) -> int:
    """
    See that a user id is one user's: in a user namespace, all who are not in it look like the same one
    (user_namespaces(7)).
    """
    if user == int(_read(_OVERFLOW) or _NOBODY) and _read(_MAP).split() != _ALL:
        raise SockDiagError("it is a user of another user namespace, or looks like one")
    return user


def _read(path: str) -> str:
    try:
        return Path(path).read_text("ascii")
    except OSError:
        return ""


def isHere(sock: socket.socket) -> bool:
    """
    Tell whether the other end of a connected socket is on this machine: a Unix socket, or TCP on loopback.
    """
    try:
        return sock.family == socket.AF_UNIX or all(
            plainAddress(host).is_loopback for host in (sock.getsockname()[0], sock.getpeername()[0])
        )
    except (OSError, ValueError):
        return False


def _ofUnix(sock: socket.socket) -> int:
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        raise SockDiagError("this system has no SO_PEERCRED")
    _, user, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size))
    return int(user)


def _ofLoopback(
    sock: socket.socket, here: tuple[str, int], there: tuple[str, int], ask: Callable[[bytes], bytes]
) -> int:
    if not isHere(sock):
        raise SockDiagError("it comes from elsewhere than this machine's loopback")
    connection = Connection.of(there, here)
    sequence = secrets.randbits(32)
    user = readAnswer(ask(question(connection, sequence)), connection, sequence)
    # Had the other end been reset, another process could have its port by now.
    if sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] not in _CONNECTED:
        raise SockDiagError("it is gone")
    return user


def _kernel(asked: bytes) -> bytes:
    family: Any = getattr(socket, "AF_NETLINK", None)
    if family is None:
        raise SockDiagError("this system has no NETLINK_SOCK_DIAG")
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(_PATIENCE)
        kernel.bind((0, 0))
        kernel.sendto(asked, (0, 0))
        answer, sender = kernel.recvfrom(_LARGEST)
    if sender[0] != 0:
        raise SockDiagError("another than the kernel has answered")
    return answer
