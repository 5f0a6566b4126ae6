# -*- test-case-name: tests.patterns.test_passthrough -*-
"""
C{passthrough}: the bytes go through as they are.  Chooses an upstream by what the client's hello says, without a key
and without reading any further: end to end encryption through a host that cannot read it.
"""

from __future__ import annotations

from typing import cast

from attrs import field, frozen
from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface import implementer

from tlsproxy.address import Address, asAddress
from tlsproxy.datagram.end import DatagramEnd
from tlsproxy.datagram.passed import PassedEnd
from tlsproxy.end import End
from tlsproxy.given import takes
from tlsproxy.interfaces import IPattern
from tlsproxy.opening import Opening
from tlsproxy.rules import isUpstream
from tlsproxy.session import Session

__all__ = ["Passthrough"]


@implementer(IPattern)
@frozen(kw_only=True)
class Passthrough:
    """
    Pass everything on as it is.

    @ivar upstream: Where to: an address, as a string too, or an endpoint; L{None} leaves it to the rules of the route.
    @ivar requireTLS: Whether to wait for the client's hello, and refuse who sends none.  Otherwise nothing is looked
        at, and the upstream may speak first.
    """

    mode = "passthrough"
    upstream: Address | IStreamClientEndpoint | None = field(default=None, converter=asAddress, validator=isUpstream)
    requireTLS: bool = field(default=True, validator=takes("True or False", bool))

    async def open(self, session: Session) -> tuple[End, End]:
        """
        The hello, and what the rules make of it; then the upstream, which gets the hello as it came.
        """
        client: End | PassedEnd = session.near
        if isinstance(client, PassedEnd):
            client.onEnd = session.cut  # It may have to give way to others before anything is dialed.
        near, far = await Opening(session, self.upstream, hello=self.requireTLS).run()
        if isinstance(client, PassedEnd):
            client.upstream = cast(DatagramEnd, far)
            client.upstream.doubted = True
        return near, far
