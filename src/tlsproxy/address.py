# -*- test-case-name: tests.test_address -*-
"""
Where to listen and what to dial, as people write it.

  - C{8443}: a port, on all addresses of both families (listening), or of this host (dialing: C{localhost});
  - C{host:port}, C{[::1]:443}: every address of the host;
  - C{unix:PATH}: a Unix socket;
  - any other string that starts with the name of a Twisted endpoint: that endpoint.

A known endpoint name beats a host of that name.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Sequence
from typing import Any, Final

from attrs import frozen
from twisted.internet import address, error
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IAddress, IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import Factory

from tlsproxy.errors import TLSProxyError

__all__ = ["Address", "CannotListen", "Endpoint", "TCP", "Unix", "isLiteral", "listen", "parseAddress", "tellPeer"]

_BACKLOG: Final = 4096
_TLS_ENDPOINTS: Final = ("ssl", "tls")
_DIRECT_ENDPOINTS: Final = ("fd", "systemd", "tcp", "tcp4", "tcp6", "unix")
"""Twisted's endpoints whose connections are plain sockets."""
_OTHER_ENDPOINTS: Final = ("haproxy", "sni", "stdio", "tlsproxy", "udp")


class CannotListen(TLSProxyError):
    """
    An address cannot be listened on.
    """


@frozen
class TCP:
    """
    A TCP port.

    @ivar host: A name or an address; C{""} for all addresses of this machine.
    @ivar port: 0 to 65535; 0 lets the kernel choose.
    """

    host: str
    port: int

    def __str__(self) -> str:
        if not self.host:
            return str(self.port)
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@frozen
class Unix:
    """
    A Unix socket.

    @ivar path: Its file.
    """

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@frozen
class Endpoint:
    """
    A Twisted endpoint.

    @ivar description: Its string.
    """

    description: str

    def __str__(self) -> str:
        return self.description


Address = TCP | Unix | Endpoint


def isLiteral(host: str) -> bool:
    """
    Tell whether a host is an IP address.
    """
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _port(text: str, whole: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 5 or int(text) > 65535:
        raise ValueError(f"{whole!r}: {text!r} is no port; ports go from 0 to 65535")
    return int(text)


def parseAddress(text: str) -> Address:
    """
    Read an address as people write it.

    @raise ValueError: One sentence on what is wrong.
    """
    if not text or text.strip() != text:
        raise ValueError(f"{text!r} is no address: give a port, HOST:PORT, unix:PATH or a Twisted endpoint")
    if text.isascii() and text.isdigit():
        return TCP("", _port(text, text))
    prefix, colon, rest = text.partition(":")
    if colon and prefix in _TLS_ENDPOINTS:
        raise ValueError(f"{text!r}: the mode sets up TLS by itself, so give a plain address")
    if colon and prefix in _OTHER_ENDPOINTS:
        raise ValueError(f"{text!r}: {prefix}: endpoints are not yet supported")
    if colon and prefix == "unix" and ":" not in rest:
        if not rest:
            raise ValueError(f"{text!r} names no file")
        return Unix(rest)
    if colon and prefix in _DIRECT_ENDPOINTS:
        return Endpoint(text)
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]:")
        if not bracket or ":" not in host or not isLiteral(host):
            raise ValueError(f"{text!r}: brackets hold an IPv6 address, and a port follows, as in [::1]:443")
        return TCP(host, _port(port, text))
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise ValueError(f"{text!r} names no port: give HOST:PORT")
    if ":" in host:
        raise ValueError(f"{text!r}: put an IPv6 address in brackets, as in [::1]:443")
    return TCP(host, _port(port, text))


def _plain(host: str) -> str:
    mapped = ipaddress.ip_address(host) if ":" in host and "%" not in host else None
    v4 = mapped.ipv4_mapped if isinstance(mapped, ipaddress.IPv6Address) else None
    return str(v4) if v4 is not None else host


def tellPeer(peer: IAddress, otherwise: str = "unix") -> str:
    """
    Write a peer's address as people do: IPv4 in its own form also where a socket of both families took it.

    @param otherwise: What to write for an address that is no IP address.
    """
    if isinstance(peer, (address.IPv4Address, address.IPv6Address)):
        return str(TCP(_plain(peer.host), peer.port))
    return otherwise


def _bind(host: str, port: int) -> socket.socket:
    """
    Make a listening socket.

    @param host: An address; C{""} for all of both families.
    """
    family = socket.AF_INET if host and ":" not in host else socket.AF_INET6
    try:
        listening = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        if host:
            raise
        family, listening = socket.AF_INET, socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setblocking(False)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1 if host else 0)
            listening.bind((host or "::", port))
        else:
            listening.bind((host or "0.0.0.0", port))
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def _sockets(tcp: TCP) -> list[socket.socket]:
    if not tcp.host or isLiteral(tcp.host):
        hosts = [tcp.host]
    else:
        found = socket.getaddrinfo(tcp.host, tcp.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        hosts = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    made: list[socket.socket] = []
    try:
        for host in hosts:
            made.append(_bind(host, tcp.port))
    except OSError:
        for one in made:
            one.close()
        raise
    return made


def _removeStale(path: str) -> None:
    """
    Remove the socket that a process left behind which is gone.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:
            pass


async def listen(
    reactor: Any, where: Address | IStreamServerEndpoint, factory: Factory[Any]
) -> Sequence[IListeningPort]:
    """
    Listen on an address.

    @param reactor: The reactor, with all that Twisted's POSIX reactors provide.
    @param where: The address, or an endpoint object.
    @return: The ports: several where a host has several addresses.
    @raise CannotListen: With a sentence on why.
    """
    try:
        if isinstance(where, TCP):
            ports = []
            for one in _sockets(where):
                with one:
                    ports.append(reactor.adoptStreamPort(one.fileno(), one.family, factory))
            return ports
        if isinstance(where, Unix):
            _removeStale(where.path)
            return [reactor.listenUNIX(where.path, factory, backlog=_BACKLOG)]
        endpoint = serverFromString(reactor, where.description) if isinstance(where, Endpoint) else where
        return [await endpoint.listen(factory)]
    except error.CannotListenError as e:
        raise CannotListen(f"cannot listen on {where}: {getattr(e.socketError, 'strerror', None) or e}") from e
    except OSError as e:
        raise CannotListen(f"cannot listen on {where}: {e.strerror or e}") from e
    except ValueError as e:
        raise CannotListen(f"cannot listen on {where}: {e}") from e
