# -*- test-case-name: tests.datagram.test_circles -*-
"""
Routes that lead back to themselves.

Each association is dialed from an address of its own.  So one that goes in a circle would make another, and that one
the next, for as long as there are descriptors, and all that by one datagram of somebody.
"""

from __future__ import annotations

from weakref import WeakValueDictionary

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress

from tlsproxy.datagram.end import DatagramEnd
from tlsproxy.wire.network import plainAddress

__all__ = ["Circles"]

Place = tuple[str, int]


def _placeOf(address: IAddress) -> Place | None:
    if isinstance(address, (IPv4Address, IPv6Address)):
        return str(plainAddress(address.host.partition("%")[0])), address.port
    return None


class Circles:
    """
    Knows through which of our routes associations have come.
    """

    def __init__(self) -> None:
        self._dialed: WeakValueDictionary[Place, DatagramEnd] = WeakValueDictionary()

    def behind(self, client: IAddress) -> tuple[str, ...]:
        """
        Tell which routes a client has come through already.

        @return: Their names, none for a client that is not ourselves.
        """
        place = _placeOf(client)
        dialed = self._dialed.get(place) if place is not None else None
        return dialed.through if dialed is not None and not dialed.gone else ()

    def dialed(self, end: DatagramEnd, through: tuple[str, ...]) -> None:
        """
        Note the side of an upstream.

        @param through: The routes up to there.
        """
        end.through = through
        place = _placeOf(end.host())
        if place is not None:
            self._dialed[place] = end
