# -*- test-case-name: tests.datagram.test_source -*-
"""
By which of its addresses a machine was reached, where a socket listens on all of them.

A client takes an answer only from where it has sent to.  Left to itself, the kernel sends it from whichever address it
likes best.  So the kernel is asked to tell, and told in turn (RFC 3542, section 6).
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Final

__all__ = ["ROOM", "Ancillary", "asksForSource", "sourceOf"]

Ancillary = Sequence[tuple[int, int, bytes]]

ROOM: Final = socket.CMSG_SPACE(20)
"""What the kernel's answer takes, in bytes."""
_IP_PKTINFO: Final = 8  # <linux/in.h>
_EVERYWHERE: Final = ("0.0.0.0", "::")
_LINK_LOCAL: Final = b"\xfe\x80"
_ANY_INTERFACE: Final = bytes(4)


def asksForSource(sock: socket.socket) -> bool:
    """
    Have the kernel tell with each datagram where it was sent to, if the socket listens on several addresses.

    @return: Whether it does.
    """
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.getsockname()[0] not in _EVERYWHERE:
        return False
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    return True


def sourceOf(told: Ancillary) -> Ancillary:
    """
    Make of what came with a datagram what an answer has to be sent with.
    """
    for level, kind, data in told:
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            # Only a link-local address means nothing without its link; otherwise the way back may be another.
            link = data[16:20] if data.startswith(_LINK_LOCAL) else _ANY_INTERFACE
            return ((level, kind, data[:16] + link),)
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            return ((level, kind, _ANY_INTERFACE + data[4:8] + bytes(4)),)
    return ()
