# -*- test-case-name: tests.test_address -*-
"""
Where to listen and what to dial, as people write it.

  - C{8443}: a port, on all addresses of both families (listening), or of this host (dialing: C{localhost});
  - C{host:port}, C{[::1]:443}: every address of the host;
  - C{udp:8443}, C{udp:host:port}, C{udp:[::1]:443}: the same for datagrams;
  - C{unix:PATH}: a Unix socket;
  - any other string that starts with the name of a Twisted endpoint: that endpoint, such as C{unix:PATH:mode=660} and
    C{haproxy:tcp:8443}, whose clients are told of by a PROXY header, to listen, and C{tcp:HOST:PORT} to dial.

A known endpoint name beats a host of that name.
"""

from __future__ import annotations

import os
import re
import socket
import stat
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import lru_cache
from typing import Any, Final

from attrs import frozen
from twisted.internet import address, error
from twisted.internet.endpoints import (
    AdoptedStreamServerEndpoint,
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    TCP6ClientEndpoint,
    TCP6ServerEndpoint,
    UNIXClientEndpoint,
    UNIXServerEndpoint,
    clientFromString,
    serverFromString,
)
from twisted.internet.interfaces import IAddress, IListeningPort, IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.protocol import Factory

from tlsproxy.datagram.address import UDP, parseUDP
from tlsproxy.errors import TLSProxyError
from tlsproxy.hostport import parseHost, parsePlace, parsePort, writePlace
from tlsproxy.inherited import adopt, checkInherited
from tlsproxy.tls.printing import printable
from tlsproxy.wire.host import isLiteral
from tlsproxy.wire.network import plainAddress

__all__ = [
    "TCP",
    "UDP",
    "Address",
    "CannotListen",
    "Endpoint",
    "Unix",
    "asAddress",
    "isDirect",
    "listen",
    "parseAddress",
    "parseListen",
    "parseUpstream",
    "tellPeer",
]

_BACKLOG: Final = 4096
_TLS_ENDPOINTS: Final = ("ssl", "tls")
_DIRECT_ENDPOINTS: Final = ("systemd", "tcp", "tcp6", "unix")
"""Twisted's endpoints whose connections are plain sockets."""
_DIRECT_TYPES: Final = frozenset(
    {
        AdoptedStreamServerEndpoint,
        HostnameEndpoint,
        TCP4ClientEndpoint,
        TCP4ServerEndpoint,
        TCP6ClientEndpoint,
        TCP6ServerEndpoint,
        UNIXClientEndpoint,
        UNIXServerEndpoint,
    }
)
"""The same as objects."""
_PROXIED: Final = "haproxy"
"""What stands before an endpoint of those whose clients a balancer speaks for; only for listening."""
_OTHER_ENDPOINTS: Final = ("sni", "stdio", "tlsproxy")
_NAME: Final = re.compile(r"[A-Za-z][\w+-]*", re.ASCII)  # of an endpoint


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
        return writePlace(self.host, self.port)


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


Address = TCP | Unix | Endpoint | UDP


def parseAddress(text: str) -> Address:
    """
    Read an address as people write it, for whichever use.

    @raise ValueError: One sentence on what is wrong.
    """
    if not text or text.strip() != text:
        raise ValueError(f"{text!r} is no address: give a port, HOST:PORT, unix:PATH or a Twisted endpoint")
    prefix, colon, rest = text.partition(":")
    if colon and prefix in _TLS_ENDPOINTS:
        raise ValueError(f"{text!r}: the mode sets up TLS by itself, so give a plain address")
    if colon and prefix == "udp":
        return parseUDP(text)
    if colon and prefix in _OTHER_ENDPOINTS:
        raise ValueError(f"{text!r}: {prefix}: endpoints are not yet supported")
    if colon and prefix == "unix" and ":" not in rest:
        if not rest or "\0" in rest:
            raise ValueError(f"{text!r} names no file")
        return Unix(rest)
    if colon and (prefix in (*_DIRECT_ENDPOINTS, _PROXIED) or _bringsEndpoint(prefix)):
        return Endpoint(text)
    return TCP(*parsePlace(text, text))


def _tryEndpoint(parse: Callable[[Any, str], object], text: str) -> None:
    """
    Have Twisted read the string of an endpoint, so that what it dislikes is told before anything starts.

    @raise ValueError: It does not like it.
    """
    try:
        parse(None, text)
    except (ValueError, TypeError, LookupError) as e:
        why = re.sub(r"^\S+\(\) ", "it ", str(e)).encode("unicode_escape").decode()
        raise ValueError(f"{text!r} is no endpoint that Twisted understands: {why}") from None


@lru_cache(1024)
def _bringsEndpoint(prefix: str) -> bool:
    """
    Tell whether a plugin of somebody else's brings an endpoint of that name, for listening or for dialing.
    """
    return bool(_NAME.fullmatch(prefix)) and (_knows(serverFromString, prefix) or _knows(clientFromString, prefix))


def _knows(parse: Callable[[Any, str], object], prefix: str) -> bool:
    try:
        parse(None, f"{prefix}:")
    except Exception as e:
        # Whatever else the plugin has to say to that, it is there.
        return not (type(e) is ValueError and str(e).startswith("Unknown endpoint type"))
    return True


def isDirect(where: Address | IStreamServerEndpoint | IStreamClientEndpoint | None) -> bool:
    """
    Tell whether all connections by an address are plain sockets.  Of an endpoint that is not Twisted's nobody knows.
    """
    if isinstance(where, Endpoint):
        return where.description.partition(":")[0] in (*_DIRECT_ENDPOINTS, _PROXIED)
    return isinstance(where, (TCP, Unix)) or type(where) in _DIRECT_TYPES


def parseListen(text: str) -> Address:
    """
    Read an address to listen on.

    @raise ValueError: One sentence on what is wrong.
    """
    where = parseAddress(text)
    prefix, _, rest = text.partition(":")
    if isinstance(where, Endpoint) and prefix == _PROXIED:
        wrapped = parseListen(rest)
        if isinstance(wrapped, TCP) or not isDirect(wrapped) or rest.startswith(f"{prefix}:"):
            raise ValueError(f"{text!r}: {prefix}: wraps an endpoint of Twisted's, as in {prefix}:tcp:8443")
    elif prefix == "systemd":
        checkInherited(text)
    elif isinstance(where, Endpoint):
        if prefix in ("tcp", "tcp6"):
            parsePort(_argument(rest, "port", 0), text)
        _tryEndpoint(serverFromString, text)
    return where


def parseUpstream(text: str) -> Address:
    """
    Read an address to dial.

    @raise ValueError: One sentence on what is wrong.
    """
    where = parseAddress(text)
    port = where.port if isinstance(where, (TCP, UDP)) else None
    if isinstance(where, Endpoint):
        prefix, _, rest = text.partition(":")
        if prefix in (*_DIRECT_ENDPOINTS, _PROXIED) and prefix not in ("tcp", "unix"):
            raise ValueError(f"{text!r}: {prefix}: is only for listening; give HOST:PORT or unix:PATH")
        if prefix == "tcp":
            host, port = _argument(rest, "host", 0), parsePort(_argument(rest, "port", -1), text)
            if not re.search(r"[=\\]", rest):
                if rest.count(":") != 1:
                    raise ValueError(f"{text!r}: give tcp:HOST:PORT to dial")
                where = TCP(parseHost(host, text), port)
        if isinstance(where, Endpoint):
            _tryEndpoint(clientFromString, text)
    if port == 0:
        raise ValueError(f"{text!r}: nobody can be reached at port 0")
    return where


def _argument(rest: str, name: str, position: int) -> str:
    """
    Find an argument of an endpoint's string, by its name or else among those without one.
    """
    given = re.split(r"(?<!\\):", rest)
    named = [one.removeprefix(f"{name}=") for one in given if one.startswith(f"{name}=")]
    bare = [one for one in given if not re.match(r"\w+=", one)]
    return named[0] if named else bare[position] if bare else ""


def asAddress(where: Any) -> Any:
    """
    Take an address in whatever form a caller has it.

    @param where: A string, as L{parseAddress} takes it; anything else is returned as it is.
    @raise ValueError: One sentence on what is wrong.
    """
    return parseAddress(where) if isinstance(where, str) else where


def tellPeer(peer: IAddress, otherwise: str = "unix") -> str:
    """
    Write a peer's address as people do: IPv4 in its own form also where a socket of both families took it.  What is no
    address, as another transport than the kernel's may tell, is made fit to stand in a log.

    @param otherwise: What to write for an address that is no IP address.
    """
    if isinstance(peer, (address.IPv4Address, address.IPv6Address)):
        host = str(peer.host)
        if ":" in host:
            with suppress(ValueError):  # It may have a zone.
                host = str(plainAddress(host))
        return printable(str(TCP(host, peer.port))).replace(" ", r"\x20")
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
    hosts = [tcp.host]
    if tcp.host and not isLiteral(tcp.host):
        found = socket.getaddrinfo(tcp.host, tcp.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        hosts = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    with ExitStack() as undone:
        made = [undone.enter_context(_bind(host, tcp.port)) for host in hosts]
        undone.pop_all()  # Unless one of them failed.
    return made


def _removeStale(path: str) -> None:
    """
    Remove the socket that a process left behind which is gone.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        # One whose backlog is full is alive as well, and must not be waited for.
        probe.setblocking(False)
        try:
            # A file of another kind refuses connections, too.
            if stat.S_ISSOCK(os.lstat(path).st_mode):
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
            with ExitStack() as adopted:
                made = map(adopted.enter_context, _sockets(where))
                return [reactor.adoptStreamPort(one.fileno(), one.family, factory) for one in made]
        if isinstance(where, Unix):
            _removeStale(where.path)
            return [reactor.listenUNIX(where.path, factory, backlog=_BACKLOG)]
        if isinstance(where, Endpoint):
            description = where.description.removeprefix(f"{_PROXIED}:")
            if description.startswith("systemd:"):
                return [adopt(reactor, description, factory)]
            return [await serverFromString(reactor, description).listen(factory)]
        if isinstance(where, UDP):
            raise CannotListen(f"cannot listen on {where}: its clients send datagrams, and not streams")
        return [await where.listen(factory)]
    except error.CannotListenError as e:
        raise CannotListen(f"cannot listen on {where}: {getattr(e.socketError, 'strerror', None) or e}") from e
    except OSError as e:
        raise CannotListen(f"cannot listen on {where}: {e.strerror or e}") from e
    except LookupError as e:
        raise CannotListen(f"cannot listen on {where}: systemd has not handed over such a socket") from e
    except (ValueError, TypeError, AttributeError) as e:
        raise CannotListen(f"cannot listen on {where}: {e}") from e
