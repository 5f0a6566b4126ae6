# -*- test-case-name: tests.test_rules -*-
"""
Rules: which upstream a client gets, by what its hello says and where it comes from.

The first rule that matches decides.  All conditions of a rule have to hold; of several values of one condition, any.  A
rule without conditions matches everybody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from attrs import field, frozen
from attrs.validators import optional
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint

from tlsproxy.address import TCP, UDP, Address, Endpoint, Unix, asAddress
from tlsproxy.given import isOneOf, takes
from tlsproxy.tls.contexts import ClientTLS, isClientTLS
from tlsproxy.tls.parameters import parseProtocol
from tlsproxy.wire.clienthello import ClientHello
from tlsproxy.wire.network import isName, parseNamePattern, parseNetwork, plainAddress

__all__ = ["REFUSALS", "Rule", "isUpstream"]

REFUSALS = ("alert", "close")
"""How a rule refuses: with the TLS alert C{unrecognized_name} (RFC 6066, section 3), or by no more than an end."""

isUpstream = takes(
    'an address, as in "127.0.0.1:8080", or a client endpoint', TCP, UDP, Unix, Endpoint, IStreamClientEndpoint, None
)
"""A validator of attrs."""


def _patterns(given: str | Iterable[str]) -> tuple[str, ...]:
    return tuple(parseNamePattern(one) for one in ((given,) if isinstance(given, str) else given))


def _protocols(given: str | bytes | Iterable[str | bytes]) -> tuple[bytes, ...]:
    return tuple(parseProtocol(one) for one in ((given,) if isinstance(given, (str, bytes)) else given))


def _networks(given: Any) -> tuple[IPv4Network | IPv6Network, ...]:
    one = isinstance(given, (str, IPv4Network, IPv6Network, IPv4Address, IPv6Address))
    return tuple(parseNetwork(str(each)) for each in ((given,) if one else given))


@frozen(kw_only=True)
class Rule:
    """
    One rule.

    @ivar sni: Host patterns, of which the server name that the client asks for has to match one: a name, C{*.} and a
        name for one label more, C{**.} and a name for one or more, C{*} for any.
    @ivar alpn: Application protocols, of which the client has to offer one.
    @ivar client: Networks, in one of which the client has to be.
    @ivar upstream: What to dial, as an address, a string or an endpoint; L{None} to refuse.
    @ivar refuse: How to refuse, one of L{REFUSALS}; C{""} where there is an upstream.
    @ivar upstreamTLS: The TLS toward this upstream, where it is not the pattern's.
    """

    sni: tuple[str, ...] = field(default=(), converter=_patterns)
    alpn: tuple[bytes, ...] = field(default=(), converter=_protocols)
    client: tuple[IPv4Network | IPv6Network, ...] = field(default=(), converter=_networks)
    upstream: Address | IStreamClientEndpoint | None = field(default=None, converter=asAddress, validator=isUpstream)
    refuse: str = field(default="", validator=isOneOf("", *REFUSALS))
    upstreamTLS: ClientTLS | None = field(default=None, validator=optional(isClientTLS))
    _names: frozenset[str] = field(init=False, eq=False, repr=False)
    _parents: frozenset[str] = field(init=False, eq=False, repr=False)
    _ancestors: tuple[str, ...] = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if (self.upstream is None) == (not self.refuse):
            raise ValueError('a rule has an upstream, or says how to refuse: "alert" or "close"')
        # Looked at for every client, and there may be many rules.
        found = object.__setattr__
        found(self, "_names", frozenset(one for one in self.sni if one[0] != "*"))
        found(self, "_parents", frozenset(one[2:] for one in self.sni if one.startswith("*.")))
        found(self, "_ancestors", tuple(one[2:] for one in self.sni if one.startswith("**.")))

    @property
    def unconditional(self) -> bool:
        """
        Whether everybody matches.
        """
        return not (self.sni or self.alpn or self.client)

    @property
    def needsHello(self) -> bool:
        """
        Whether it goes by what only a TLS client says.
        """
        return bool(self.sni or self.alpn)

    def matches(self, hello: ClientHello | None, peer: Callable[[], IAddress]) -> bool:
        """
        Tell whether a client matches.

        @param hello: What it said; L{None} where it speaks no TLS.
        @param peer: Tells its address.
        """
        if self.sni and (hello is None or not self._isNamed(hello.serverName)):
            return False
        if self.alpn and (hello is None or not any(one in hello.alpn for one in self.alpn)):
            return False
        return not self.client or self._isFrom(peer())

    def _isNamed(self, name: str | None) -> bool:
        if name is None:
            return False
        bare = name.removesuffix(".")
        if bare in self._names or "*" in self.sni:
            return True
        below = bare.partition(".")[2] in self._parents or any(bare.endswith(one) for one in self._ancestors)
        return below and isName(bare)

    def _isFrom(self, peer: IAddress) -> bool:
        host = getattr(peer, "host", None)
        if not isinstance(host, str):
            return False  # Whoever comes by a Unix socket comes from no network.
        address = plainAddress(host.partition("%")[0])
        return any(address in network for network in self.client)
