# -*- test-case-name: tests.test_inherited -*-
"""
Sockets that systemd listens on, and hands over to the process (sd_listen_fds(3)).

They stay systemd's.  Twisted's own endpoint closes the descriptor once it is used, so that it could be used only once,
and for a Unix socket makes everybody able to write to it, and removes its file at the end.
"""

from __future__ import annotations

import os
import re
import socket
from typing import Any, Final, cast

from twisted.internet import unix
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory

__all__ = ["adopt", "checkInherited"]

_BACKLOG: Final = 4096
_NOWHERE: Final = b"\0"
"""A name that stands for no file, so that none is changed."""
_DOMAIN: Final = r"(?:INET6?|UNIX)"
_WHICH: Final = r"(?:index=\d+|name=(?:[^:\\]|\\.)+)"
_DESCRIPTION: Final = re.compile(
    rf"systemd:(?:(?:domain=)?{_DOMAIN}:(?:{_WHICH}|\d+)|{_WHICH}:(?:domain=)?{_DOMAIN})", re.ASCII
)


def checkInherited(description: str) -> None:
    """
    Check that the string of an endpoint says which socket of systemd's is meant.  Which of them there are is known only
    in the process that systemd starts.

    @raise ValueError: It does not.
    """
    if not _DESCRIPTION.fullmatch(description):
        raise ValueError(f"{description!r} is no socket of systemd's: write systemd:domain=INET:name=NAME, or index=0")


def adopt(reactor: Any, description: str, factory: Factory[Any]) -> IListeningPort:
    """
    Accept on a socket of systemd's, as often as one likes.

    @param description: A Twisted endpoint, as in C{systemd:domain=INET:name=https} or C{systemd:domain=UNIX:index=0}.
    @raise LookupError: There is no such socket.
    @raise OSError: It cannot be used.
    @raise ValueError: It is none of that kind.
    """
    endpoint = cast(AdoptedStreamServerEndpoint, serverFromString(reactor, description))
    descriptor = endpoint.fileno
    with socket.socket(fileno=os.dup(descriptor)) as found:
        if found.type != socket.SOCK_STREAM or not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise ValueError("systemd has handed over a socket there that takes no connections")
        if found.family != endpoint.addressFamily:
            domain = socket.AddressFamily(found.family).name.removeprefix("AF_")
            raise ValueError(f"systemd has handed over a socket of domain {domain} there")
    os.set_blocking(descriptor, False)
    os.set_inheritable(descriptor, False)
    if endpoint.addressFamily != socket.AF_UNIX:
        return cast(IListeningPort, reactor.adoptStreamPort(descriptor, endpoint.addressFamily, factory))
    port = unix.Port._fromListeningDescriptor(reactor, descriptor, factory)
    port._bindPath = _NOWHERE
    port.backlog = _BACKLOG
    port.startListening()
    return cast(IListeningPort, port)
