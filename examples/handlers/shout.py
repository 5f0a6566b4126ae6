"""
A protocol handler that shouts at the upstream.
"""

from attrs import frozen

from tlsproxy.handler import OUTWARD, HandlerOptions, ProtocolHandler


@frozen(kw_only=True)
class Shout(HandlerOptions):
    name = "shout"

    def handler(self, session, flow):
        return Shouting(session, flow)


class Shouting(ProtocolHandler):
    def received(self, direction, data):
        return data.upper() if direction == OUTWARD else data
