"""
A protocol handler that lets everything pass: what it costs is what it costs to have one.
"""

from __future__ import annotations

from attrs import frozen

from tlsproxy.handler import Flow, HandlerOptions, ProtocolHandler, Session


@frozen(kw_only=True)
class Passing(HandlerOptions):
    """
    It has no options.
    """

    name = "passing"

    def handler(self, session: Session, flow: Flow) -> ProtocolHandler:
        """
        Make the handler of one session.
        """
        return ProtocolHandler(session, flow)
