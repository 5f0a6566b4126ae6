# -*- test-case-name: tests.test_endpointstrings -*-
"""
The words C{tlsproxy:FILE:NAME}, by which any Twisted program may listen and connect through a route of a file.

Every Twisted program that reads the string of an endpoint imports this module, so the rest is imported only when a
string starts with C{tlsproxy:}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import (
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import IPlugin
from zope.interface import implementer

__all__ = ["RouteEndpointParser"]


@implementer(IPlugin, IStreamServerEndpointStringParser, IStreamClientEndpointStringParserWithReactor)
class RouteEndpointParser:
    """
    Reads C{tlsproxy:FILE:NAME}.

    @cvar prefix: What such a string starts with.
    """

    prefix = "tlsproxy"

    def parseStreamServer(self, reactor: Any, *words: object, **named: object) -> IStreamServerEndpoint:
        """
        Find the route that a program listens by.

        @raise ValueError: With all that is wrong.
        """
        from tlsproxy.endpoints import RouteServerEndpoint
        from tlsproxy.routefile import loadServerRoute

        return RouteServerEndpoint(loadServerRoute(*self._split(words, named)), reactor)

    def parseStreamClient(self, reactor: Any, *words: object, **named: object) -> IStreamClientEndpoint:
        """
        Find the route that a program connects by.

        @raise ValueError: With all that is wrong.
        """
        from tlsproxy.endpoints import RouteClientEndpoint
        from tlsproxy.routefile import loadClientRoute

        return RouteClientEndpoint(loadClientRoute(*self._split(words, named)), reactor)

    def _split(self, words: tuple[object, ...], named: dict[str, object]) -> tuple[str, str]:
        if len(words) != 2 or named or not all(words):
            raise ValueError(
                f"give {self.prefix}:FILE:NAME, a file of routes and the name of one; write a colon in either as \\:, "
                "and an equals sign as \\="
            )
        file, name = map(str, words)
        return file, name
