# -*- test-case-name: tests.patterns.test_offload -*-
"""
C{offload}: TLS toward the client, plain toward the upstream.  Puts TLS in front of a server that has none.
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
from tlsproxy.tls.contexts import ServerTLS, isServerTLS, mirrorsNobody

__all__ = ["Offload"]


@implementer(IPattern)
@frozen(kw_only=True)
class Offload:
    """
    Take the client's TLS off.

    @ivar tls: The TLS toward the client.
    @ivar upstream: Where the plain server is: an address, as a string too, or an endpoint; L{None} leaves it to the
        rules of the route.
    """

    mode = "offload"
    tls: ServerTLS = field(validator=[isServerTLS, mirrorsNobody])
    upstream: Address | IStreamClientEndpoint | None = field(default=None, converter=asAddress, validator=isUpstream)

    async def open(self, session: Session) -> tuple[End, End]:
        """
        The client first, all of it; then the upstream.
        """
        return await Opening(session, self.upstream, tls=self.tls).run()
