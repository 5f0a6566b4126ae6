"""
A protocol handler that gives PostgreSQL's clients the TLS that they ask for in clear.
"""

from attrs import frozen

from tlsproxy.errors import NegotiationFailed
from tlsproxy.handler import INWARD, NEAR, OUTWARD, HandlerOptions, ProtocolHandler

SSL_REQUEST = bytes.fromhex("0000000804d2162f")


@frozen(kw_only=True)
class PostgresTLS(HandlerOptions):
    name = "postgres-tls"
    startsTLS = frozenset({NEAR})

    def handler(self, session, flow):
        return Answering(session, flow)


class Answering(ProtocolHandler):
    async def negotiate(self, near, far):
        if await near.readExactly(8) != SSL_REQUEST:
            raise NegotiationFailed("the client does not ask for TLS: set its sslmode to require")
        await near.write(b"S")
        await near.startTLS()
        self.flow.done(OUTWARD)
        self.flow.done(INWARD)
