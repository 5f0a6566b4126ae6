# -*- test-case-name: tests.datagram.test_sharing -*-
"""
How the associations of a port share its socket, and on what terms.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol

from attrs import frozen
from twisted.internet.interfaces import IAddress

from tlsproxy.datagram.end import SHAKING_MTU, DatagramEnd
from tlsproxy.datagram.path import Address, addressOf, probe
from tlsproxy.datagram.source import Ancillary
from tlsproxy.wire.network import plainAddress

__all__ = ["Network", "Port", "Shared", "Terms"]

Network = tuple[int, int]
"""The version of IP, and the prefix."""


class Port(Protocol):
    """
    What is shared.

    @ivar socket: The socket.
    """

    socket: socket.socket

    def getHost(self) -> IAddress:
        """
        Tell where it listens.
        """

    def settled(self, address: Address, end: DatagramEnd) -> None:
        """
        A peer has shown where it is, and that it means it.
        """

    def forget(self, address: Address, end: DatagramEnd) -> None:
        """
        An association is over.
        """


@frozen
class Terms:
    """
    What holds for the associations of a port.

    @ivar dtls: Whether the clients speak DTLS with us.
    @ivar hellos: Whether they speak it with somebody else, so that only their hellos are looked at.
    @ivar mtu: As for L{DatagramEnd}.
    @ivar most: How many associations there may be.
    @ivar halfOpen: How many of them may be in their handshakes.
    @ivar pace: How many new ones a second there may be of one network, where the clients are others' to be asked to
        show where they are.
    @ivar prefixes: The lengths of the prefixes that make a network of IPv4 and of IPv6.
    """

    dtls: bool = True
    hellos: bool = False
    mtu: int = SHAKING_MTU
    most: int = 4096
    halfOpen: int = 256
    pace: int = 25
    prefixes: tuple[int, int] = (32, 64)

    def network(self, address: Address) -> Network:
        """
        Tell which network an address belongs to.
        """
        plain = plainAddress(str(address[0]).partition("%")[0])
        return plain.version, int(plain) >> (plain.max_prefixlen - self.prefixes[plain.version == 6])


class Shared:
    """
    How an association uses the port's socket.
    """

    def __init__(self, port: Port, address: Address, source: Ancillary) -> None:
        """
        @param source: As L{sourceOf<tlsproxy.datagram.source.sourceOf>} tells.
        """
        self.address = address
        self._port = port
        sendto, sendmsg = port.socket.sendto, port.socket.sendmsg
        self.send: Callable[[memoryview | bytes], object] = lambda datagram: sendto(datagram, address)
        if source:
            self.send = lambda datagram: sendmsg((datagram,), source, 0, address)

    def peer(self) -> IAddress:
        """
        See L{Wire}.
        """
        return addressOf(self.address)

    def host(self) -> IAddress:
        """
        See L{Wire}.
        """
        return self._port.getHost()

    def pathMTU(self) -> int:
        """
        See L{Wire}.
        """
        return probe(self._port.socket.family, self.address)

    def watch(self) -> None:
        """
        The port looks for all of them.
        """

    def settled(self, end: DatagramEnd) -> None:
        """
        See L{Wire}.
        """
        self._port.settled(self.address, end)

    def close(self, end: DatagramEnd) -> None:
        """
        See L{Wire}.
        """
        self._port.forget(self.address, end)
