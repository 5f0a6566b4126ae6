# -*- test-case-name: tests.patterns.test_bridge -*-
"""
C{bridge}: TLS toward the client, and TLS of its own toward the upstream.  Decrypts, and encrypts again.
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
from tlsproxy.tls.contexts import ClientTLS, ServerTLS, isClientTLS, isServerTLS

__all__ = ["Bridge"]


@implementer(IPattern)
@frozen(kw_only=True)
class Bridge:
    """
    End the client's TLS here, and begin another.

    @ivar tls: The TLS toward the client.
    @ivar upstream: Where the TLS server is: an address, as a string too, or an endpoint; L{None} leaves it to the rules
        of the route.
    @ivar upstreamTLS: The TLS toward it; the application protocol is the client's.
    """

    mode = "bridge"
    tls: ServerTLS = field(validator=isServerTLS)
    upstream: Address | IStreamClientEndpoint | None = field(default=None, converter=asAddress, validator=isUpstream)
    upstreamTLS: ClientTLS = field(validator=isClientTLS)

    async def open(self, session: Session) -> tuple[End, End]:
        """
        The client first, all of it; then the upstream, with the one application protocol that the client negotiated.
        """
        return await Opening(
            session, self.upstream, tls=self.tls, upstreamTLS=self.upstreamTLS, sameProtocol=True
        ).run()
