# -*- test-case-name: tests.datagram.test_listening -*-
"""
Listening for datagrams.

A port that is stopped keeps its socket for as long as some of its associations go on, since each of them is an address
of the one socket.  Whoever listens on the same address again meanwhile takes that socket over, and them with it.  Where
the address is another one, and both cannot be, they are ended.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Collection, Sequence
from ipaddress import ip_address
from typing import Any, Final

from twisted.logger import Logger

from tlsproxy.datagram.address import UDP
from tlsproxy.datagram.end import DatagramEnd
from tlsproxy.datagram.port import DatagramPort
from tlsproxy.datagram.sharing import Terms
from tlsproxy.wire.cookies import Cookies
from tlsproxy.wire.host import isLiteral

__all__ = ["listenForDatagrams"]

_log = Logger()

_QUEUE: Final = 4 << 20
"""How much may wait in the kernel, in bytes."""


def listenForDatagrams(
    reactor: Any,
    where: UDP,
    terms: Terms,
    accept: Callable[[DatagramEnd], object],
    left: Collection[DatagramPort] = (),
) -> Sequence[DatagramPort]:
    """
    Listen on an address.

    @param terms: What holds for its associations.
    @param accept: Called with each new association.
    @param left: Ports that were stopped, and may not be closed yet.
    @return: The ports: several where a host has several addresses.
    @raise OSError: It cannot be listened on.
    """
    hosts = [where.host]
    if where.host and not isLiteral(where.host):
        found = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)
        hosts = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    ports: list[DatagramPort] = []
    try:
        for host in hosts:
            ports.append(_portAt(reactor, host, where.port, terms, accept, left))
    except OSError:
        for port in ports:
            port.stopListening()
        raise
    for port in ports:
        port.startListening()
    return ports


def _portAt(
    reactor: Any,
    host: str,
    number: int,
    terms: Terms,
    accept: Callable[[DatagramEnd], object],
    left: Collection[DatagramPort],
) -> DatagramPort:
    """
    Make a port, or find the one that is there still.
    """
    sock = _socket(host)
    wanted = host or ("::" if sock.family == socket.AF_INET6 else "0.0.0.0")
    try:
        try:
            sock.bind((wanted, number))
        except OSError as e:
            inTheWay = [one for one in left if not one.listening and _meet(one.socket, sock, wanted, number)]
            if e.errno != errno.EADDRINUSE or not inTheWay:
                raise
            for port in inTheWay:
                if _isSame(port.socket, sock, wanted):
                    sock.close()
                    port.accept, port.terms = accept, terms
                    return port
            _log.info(
                "the port of an earlier route is in the way of {where}, so its associations are ended: {count}",
                count=sum(port.end() for port in inTheWay),
                where=UDP(host, number),
            )
            sock.bind((wanted, number))
    except OSError:
        sock.close()
        raise
    return DatagramPort(reactor, sock, accept, Cookies(os.urandom, reactor.seconds), terms)


def _isSame(bound: socket.socket, sock: socket.socket, host: str) -> bool:
    """
    Tell whether a socket is what another would become on a host.
    """
    return (
        bound.family == sock.family
        and _takesBoth(bound) == _takesBoth(sock)
        and ip_address(bound.getsockname()[0]) == ip_address(host)
    )


def _meet(bound: socket.socket, sock: socket.socket, host: str, number: int) -> bool:
    """
    Tell whether a socket keeps another from a host and a port.
    """
    if bound.fileno() < 0 or bound.getsockname()[1] != number:
        return False
    if bound.family != sock.family and not _takesBoth(bound) and not _takesBoth(sock):
        return False
    one, other = ip_address(bound.getsockname()[0]), ip_address(host)
    return one == other or one.is_unspecified or other.is_unspecified


def _takesBoth(sock: socket.socket) -> bool:
    """
    Tell whether IPv4 comes to a socket as well as IPv6.
    """
    return sock.family == socket.AF_INET6 and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def _socket(host: str) -> socket.socket:
    """
    Make a socket.

    @param host: The address that it is for; C{""} for all of both families.
    """
    family = socket.AF_INET if host and ":" not in host else socket.AF_INET6
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    except OSError:
        if host:
            raise
        family, sock = socket.AF_INET, socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    # All associations share its queue, and the kernel's default is for one.  It takes what it may have of that.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _QUEUE)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1 if host else 0)
    return sock
