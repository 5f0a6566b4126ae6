# -*- test-case-name: tests.test_balancers -*-
"""
Balancers in front of a route, which tell by a PROXY header who their clients are.

Whoever is believed such a header can claim any address.  So a route says from where it is taken; from there it has to
come, and from anywhere else nobody gets in.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Final

from attrs import field, frozen
from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IAddress

from tlsproxy.end import End
from tlsproxy.errors import AdmissionRefused
from tlsproxy.wire.network import parseNetwork, plainAddress
from tlsproxy.wire.proxyheader import ProxyHeader, ProxyHeaderError

__all__ = ["ANYBODY", "NO_HEADER", "Balancers", "Proxied", "asBalancers", "readHeader"]

UNIX: Final = "unix"
"""The word for whoever comes by a Unix socket."""

NO_HEADER: Final = "the balancer did not send a whole PROXY header"

Network = IPv4Network | IPv6Network


def _networks(given: Iterable[Any]) -> tuple[Network, ...]:
    return tuple(parseNetwork(str(one)) for one in given)


@frozen
class Balancers:
    """
    From where PROXY headers are taken.

    @ivar networks: Networks.
    @ivar unix: Whether from whoever comes by a Unix socket.
    """

    networks: tuple[Network, ...] = field(default=(), converter=_networks)
    unix: bool = False

    @property
    def unbounded(self) -> bool:
        """
        Whether that is from everywhere.
        """
        return any(network.prefixlen == 0 for network in self.networks)

    def trusts(self, peer: IAddress) -> bool:
        """
        Tell whether a header is taken from there.
        """
        host = getattr(peer, "host", None)
        if not isinstance(host, str):
            return self.unix and isinstance(peer, UNIXAddress)
        try:
            address = plainAddress(host.partition("%")[0])
        except ValueError:
            return False  # Another transport than the kernel's may tell anything.
        return any(address in network for network in self.networks)


ANYBODY: Final = Balancers(("0.0.0.0/0", "::/0"), True)


def asBalancers(given: Any) -> Any:
    """
    Take what a program gives: networks and addresses, and the word C{unix}.

    @return: L{Balancers}; L{None} for none, and anything else as it is.
    @raise ValueError: One of them is no network.
    """
    if isinstance(given, (str, IPv4Network, IPv6Network, IPv4Address, IPv6Address)):
        given = (given,)
    if isinstance(given, (bytes, Balancers)) or not isinstance(given, Iterable):
        return given
    texts = [str(one) for one in given]
    if not texts:
        raise ValueError("Route(acceptProxy=...): give one network at least, or None")
    return Balancers([text for text in texts if text != UNIX], UNIX in texts)


@frozen
class Proxied:
    """
    How a client has come that a balancer speaks for.

    @ivar header: The header.
    @ivar by: Where the balancer is.
    """

    header: ProxyHeader
    by: IAddress


async def readHeader(near: End, balancers: Balancers) -> Proxied:
    """
    Take the PROXY header.  From then on the End tells the client's address, and the one that the client has reached.

    @raise AdmissionRefused: None is taken from there, or what comes is none.
    """
    by = near.peer()
    if not balancers.trusts(by):
        raise AdmissionRefused("the client comes from where accept_proxy names no balancer")
    try:
        header = await near.readProxyHeader()
    except ProxyHeaderError as e:
        raise AdmissionRefused(str(e)) from e
    if header.source is not None and header.destination is not None:
        near.speaksFor(header.source, header.destination)
    return Proxied(header, by)
