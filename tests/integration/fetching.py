# -*- test-case-name: tests.integration.test_fetching -*-
"""
A program that fetches pages by C{treq}, all through one route.

Run with a file of routes, the name of a route, and what to fetch; C{=} before it posts a megabyte there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import treq
from treq.client import HTTPClient
from twisted.internet.defer import ensureDeferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import deferLater, react
from twisted.python import log
from twisted.web.client import URI, Agent, HTTPConnectionPool
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer


@implementer(IAgentEndpointFactory)
class Always:
    """
    Has everything fetched from the same place.
    """

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """
        See L{IAgentEndpointFactory}.
        """
        return self._endpoint


async def fetch(reactor: Any, file: str, name: str, urls: Sequence[str]) -> None:
    """
    Print what is there, or why nothing is.
    """
    pool = HTTPConnectionPool(reactor)
    endpoint = clientFromString(reactor, f"tlsproxy:{file}:{name}")
    client = HTTPClient(Agent.usingEndpointFactory(reactor, Always(endpoint), pool))
    for url in urls:
        try:
            if url.startswith("="):
                response = await client.post(url[1:], data=b"0123456789" * 100_000)
            else:
                response = await client.get(url)
            content = await treq.content(response)
        except Exception as e:
            print(f"{type(e).__name__}: {e}", flush=True)
        else:
            print(response.code, len(content), content[:40].decode().strip(), flush=True)
    await pool.closeCachedConnections()
    await deferLater(reactor, 0.1)


if __name__ == "__main__":
    log.startLogging(sys.stderr, setStdout=False)
    react(lambda reactor: ensureDeferred(fetch(reactor, sys.argv[1], sys.argv[2], sys.argv[3:])))
