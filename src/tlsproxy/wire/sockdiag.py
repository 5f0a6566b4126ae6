# -*- test-case-name: tests.wire.test_sockdiag -*-
"""
The question to the Linux kernel whose a TCP socket of this machine is, and its answer: NETLINK_SOCK_DIAG
(sock_diag(7)), by the one connection, and not by a dump of all.

The kernel falls back to a listening socket, and to what is left of a closed one, whose owner it gives as 0.  So an
answer counts only if it is of the very connection that was asked for, and that is still some process's.
"""

from __future__ import annotations

import os
import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from attrs import frozen

from tlsproxy.wire.network import plainAddress

__all__ = ["Connection", "SockDiagError", "question", "readAnswer"]

# <linux/netlink.h>, <linux/sock_diag.h>, <linux/inet_diag.h>; integers are the machine's own, ports and addresses the
# network's.
_HEADER: Final = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ID: Final = struct.Struct("!HH16s16s")  # inet_diag_sockid, but for the interface and the cookie
_REQUEST: Final = struct.Struct("=BBBBI")  # inet_diag_req_v2, before its id
_TAIL: Final = struct.Struct("=III")  # interface and cookie
_MESSAGE: Final = struct.Struct("=BBBB")  # inet_diag_msg, before its id
_OWNER: Final = struct.Struct("=IIIII")  # expires, receive queue, send queue, uid, inode
_ERROR: Final = struct.Struct("=i")
_ANSWER: Final = _HEADER.size + _MESSAGE.size + _ID.size + _TAIL.size + _OWNER.size

_NLMSG_ERROR: Final = 2
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1
_ANY: Final = 0xFFFFFFFF  # INET_DIAG_NOCOOKIE

# <net/tcp_states.h>: the states in which the connection is some process's, which may have ended its own direction.
_OPEN: Final = frozenset({1, 4, 5})  # established, fin_wait1, fin_wait2


class SockDiagError(ValueError):
    """
    Whose it is cannot be told.  Its text is a sentence without an end: C{"the kernel ..."}.
    """


@frozen
class Connection:
    """
    A TCP connection of two sockets, seen from the one that is asked for.

    @ivar local: The address of that one, and its port.
    @ivar remote: Those of the other.
    """

    local: tuple[IPv4Address | IPv6Address, int]
    remote: tuple[IPv4Address | IPv6Address, int]

    @classmethod
    def of(cls, local: tuple[str, int], remote: tuple[str, int]) -> Connection:
        """
        Make one of texts; IPv4-mapped addresses become IPv4 ones, as they are to the kernel.

        @raise ValueError: One of them is no plain address, or they are of two families.
        """
        one, other = plainAddress(local[0]), plainAddress(remote[0])
        if one.version != other.version:
            raise ValueError(f"{one} and {other} are of two families")
        return cls((one, local[1]), (other, remote[1]))


def question(connection: Connection, sequence: int) -> bytes:
    """
    Ask for one connection.

    @param sequence: What the answer has to repeat, 32 bits.
    """
    local, remote = connection.local, connection.remote
    family = socket.AF_INET if local[0].version == 4 else socket.AF_INET6
    # The kernel does not look at the states where it is asked for one connection.
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _ANY)
    body += _ID.pack(local[1], remote[1], *(one.packed.ljust(16, b"\0") for one in (local[0], remote[0])))
    body += _TAIL.pack(0, _ANY, _ANY)
    return _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, sequence, 0) + body


def readAnswer(data: bytes, connection: Connection, sequence: int) -> int:
    """
    Read the answer.

    @param data: All that the kernel sent at once.
    @param connection: What was asked for.
    @param sequence: With which number.
    @return: The user id of the socket's owner.
    @raise SockDiagError: There is no such connection, or the answer is another than it should be.
    """
    if len(data) < _HEADER.size:
        raise SockDiagError("the kernel's answer is cut off")
    length, kind, _, repeated, _ = _HEADER.unpack_from(data)
    if not _HEADER.size <= length <= len(data) or repeated != sequence:
        raise SockDiagError("the kernel's answer is not one to this question")
    if kind == _NLMSG_ERROR:
        if length < _HEADER.size + _ERROR.size:
            raise SockDiagError("the kernel's answer is cut off")
        code = -_ERROR.unpack_from(data, _HEADER.size)[0]
        raise SockDiagError(f"the kernel does not tell: {os.strerror(code) if code > 0 else 'it does not say why'}")
    if kind != _SOCK_DIAG_BY_FAMILY or length < _ANSWER:
        raise SockDiagError("the kernel's answer is of another kind than the question")
    family, state, _, _ = _MESSAGE.unpack_from(data, _HEADER.size)
    at = _HEADER.size + _MESSAGE.size
    ports = _ID.unpack_from(data, at)
    try:
        size = {socket.AF_INET: 4, socket.AF_INET6: 16}[socket.AddressFamily(family)]
        found = [plainAddress(socket.inet_ntop(family, packed[:size])) for packed in ports[2:]]
    except (KeyError, ValueError):
        raise SockDiagError("the kernel's answer is of another family of addresses") from None
    if ((found[0], ports[0]), (found[1], ports[1])) != (connection.local, connection.remote):
        raise SockDiagError("the kernel knows no such connection any more")
    uid, inode = _OWNER.unpack_from(data, at + _ID.size + _TAIL.size)[3:]
    if state not in _OPEN or not inode:
        raise SockDiagError("the kernel knows that connection as one that no process holds any more")
    return int(uid)
