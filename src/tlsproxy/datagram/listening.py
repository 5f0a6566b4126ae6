# -*- test-case-name: tests.datagram.test_listening -*-
"""
Listening for datagrams.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Final

from tlsproxy.datagram.address import UDP
from tlsproxy.datagram.end import DatagramEnd
from tlsproxy.datagram.port import DatagramPort
from tlsproxy.datagram.sharing import Terms
from tlsproxy.wire.cookies import Cookies
from tlsproxy.wire.host import isLiteral

__all__ = ["listenForDatagrams"]

_QUEUE: Final = 4 << 20
"""How much may wait in the kernel, in bytes."""


def listenForDatagrams(
    reactor: Any, where: UDP, terms: Terms, accept: Callable[[DatagramEnd], object]
) -> Sequence[DatagramPort]:
    """
    Listen on an address.

    @param terms: What holds for its associations.
    @param accept: Called with each new association.
    @return: The ports: several where a host has several addresses.
    @raise OSError: It cannot be listened on.
    """
    hosts = [where.host]
    if where.host and not isLiteral(where.host):
        found = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)
        hosts = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    with ExitStack() as undone:
        socks = [undone.enter_context(_bind(host, where.port)) for host in hosts]
        undone.pop_all()  # Unless one of them failed.
    cookies = Cookies(os.urandom, reactor.seconds)
    ports = [DatagramPort(reactor, sock, accept, cookies, terms) for sock in socks]
    for port in ports:
        port.startListening()
    return ports


def _bind(host: str, port: int) -> socket.socket:
    """
    Make a socket.

    @param host: An address; C{""} for all of both families.
    """
    family = socket.AF_INET if host and ":" not in host else socket.AF_INET6
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    except OSError:
        if host:
            raise
        family, sock = socket.AF_INET, socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        # All associations share its queue, and the kernel's default is for one.  It takes what it may have of that.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _QUEUE)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1 if host else 0)
        sock.bind((host or ("::" if family == socket.AF_INET6 else "0.0.0.0"), port))
    except OSError:
        sock.close()
        raise
    return sock
