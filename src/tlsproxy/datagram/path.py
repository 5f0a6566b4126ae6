# -*- test-case-name: tests.datagram.test_path -*-
"""
What the kernel knows of the way that datagrams take.

Datagrams are sent with "don't fragment" (RFC 8899, section 3): a router that cannot pass one on says so, and then the
kernel knows how much it can.  Only Linux is asked.
"""

from __future__ import annotations

import socket
import sys
from typing import Any, Final

from twisted.internet.address import IPv4Address, IPv6Address

from tlsproxy.tls.datagrams import LARGEST_MTU

__all__ = ["Address", "addressOf", "carries", "dontFragment", "probe"]

Address = tuple[Any, ...]
"""A UDP address as the socket module has it."""

# <linux/in.h> and <linux/in6.h>
_DISCOVER: Final = {socket.AF_INET: (socket.IPPROTO_IP, 10), socket.AF_INET6: (socket.IPPROTO_IPV6, 23)}
_ALWAYS: Final = 2
_MTU: Final = {socket.AF_INET: (socket.IPPROTO_IP, 14), socket.AF_INET6: (socket.IPPROTO_IPV6, 24)}
_HEADERS: Final = {socket.AF_INET: 28, socket.AF_INET6: 48}  # those of IP and of UDP


def dontFragment(sock: socket.socket) -> None:
    """
    Have no datagram of a socket be fragmented.
    """
    if sys.platform == "linux" and sock.family in _DISCOVER:
        sock.setsockopt(*_DISCOVER[sock.family], _ALWAYS)
        if sock.family == socket.AF_INET6:
            # What goes to IPv4 from there has its own.
            sock.setsockopt(*_DISCOVER[socket.AF_INET], _ALWAYS)


def carries(sock: socket.socket) -> int:
    """
    Tell how much a datagram of a connected socket may carry.  The kernel goes by the first link of the way until it
    hears of a smaller one.

    @return: Bytes; 0 where nobody knows.
    """
    if sys.platform != "linux" or sock.family not in _MTU:
        return 0
    try:
        mtu = sock.getsockopt(*_MTU[sock.family])
    except OSError:
        return 0
    return min(mtu - _HEADERS[sock.family], LARGEST_MTU)


def probe(family: int, address: Address) -> int:
    """
    As L{carries}, for an address.
    """
    if family not in _MTU:
        return 0
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect(address)
            return carries(sock)
    except OSError:
        return 0


def addressOf(address: Address) -> IPv4Address | IPv6Address:
    """
    Tell an address as Twisted has it.
    """
    if len(address) == 4:
        return IPv6Address("UDP", *address)
    return IPv4Address("UDP", *address)
