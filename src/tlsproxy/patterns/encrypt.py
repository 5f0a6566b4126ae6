# -*- test-case-name: tests.patterns.test_encrypt -*-
"""
C{encrypt}: plain toward the client, TLS toward the upstream.  Gives a client that has no TLS a TLS connection; with
C{offload} at the other end, a pair of gateways over a network that is not trusted.
"""

from __future__ import annotations

from attrs import field, frozen
from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface import implementer

from tlsproxy.address import Address, asAddress
from tlsproxy.end import End
from tlsproxy.interfaces import IPattern
from tlsproxy.opening import Opening
from tlsproxy.rules import isUpstream
from tlsproxy.session import Session
from tlsproxy.tls.contexts import ClientTLS, isClientTLS

__all__ = ["Encrypt"]


@implementer(IPattern)
@frozen(kw_only=True)
class Encrypt:
    """
    Put TLS on for the client.

    @ivar upstream: Where the TLS server is: an address, as a string too, or an endpoint; L{None} leaves it to the rules
        of the route.
    @ivar upstreamTLS: The TLS toward it.
    """

    mode = "encrypt"
    upstream: Address | IStreamClientEndpoint | None = field(default=None, converter=asAddress, validator=isUpstream)
    upstreamTLS: ClientTLS = field(validator=isClientTLS)

    async def open(self, session: Session) -> tuple[End, End]:
        """
        Anything that can connect may, unless a rule refuses it.
        """
        return await Opening(session, self.upstream, upstreamTLS=self.upstreamTLS).run()
