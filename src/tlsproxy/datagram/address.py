# -*- test-case-name: tests.datagram.test_address -*-
"""
Where datagrams are received and sent, as people write it: C{udp:8443}, C{udp:HOST:PORT}, C{udp:[::1]:443}.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

from tlsproxy.hostport import parsePlace, writePlace

__all__ = ["UDP", "parseUDP"]

_PREFIX: Final = "udp:"


@frozen
class UDP:
    """
    A UDP port.

    @ivar host: A name or an address; C{""} for all addresses of this machine.
    @ivar port: 0 to 65535; 0 lets the kernel choose.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return _PREFIX + writePlace(self.host, self.port)


def parseUDP(text: str) -> UDP:
    """
    Read an address of datagrams, for whichever use.

    @raise ValueError: One sentence on what is wrong.
    """
    place = text.removeprefix(_PREFIX)
    if place == text or not place:
        raise ValueError(f"{text!r} is no address of datagrams: give udp:PORT or udp:HOST:PORT")
    return UDP(*parsePlace(place, text))
