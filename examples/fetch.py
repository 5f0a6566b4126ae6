"""
Fetch pages by Twisted's HTTP client, over the TLS of a route.  First: tlsproxy devcert certs

Then, with site.py running beside it: python fetch.py https://localhost:8443/
"""

import sys

from twisted.internet.defer import ensureDeferred
from twisted.internet.error import ConnectError
from twisted.internet.task import react
from twisted.python import log
from twisted.web.client import Agent, readBody
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from tlsproxy.address import TCP
from tlsproxy.endpoints import RouteClientEndpoint
from tlsproxy.patterns.encrypt import Encrypt
from tlsproxy.route import Route
from tlsproxy.tls.contexts import ClientTLS
from tlsproxy.tls.policy import ClientPolicy


@implementer(IAgentEndpointFactory)
class Fetching:
    """
    A route to each host that is asked for.
    """

    def __init__(self, reactor):
        self.reactor = reactor
        self.tls = ClientTLS.load(ClientPolicy(ca=("certs/ca.pem",), alpn=("http/1.1",)), "localhost")

    def endpointForURI(self, uri):
        """
        See L{IAgentEndpointFactory}.
        """
        host = uri.host.decode()
        route = Route(name="fetch", pattern=Encrypt(upstream=TCP(host, uri.port), upstreamTLS=self.tls.named(host)))
        return RouteClientEndpoint(route, self.reactor)


async def fetch(reactor, urls):
    """
    Print what is there, or why nothing is.
    """
    # treq.client.HTTPClient(agent) takes it as well.
    agent = Agent.usingEndpointFactory(reactor, Fetching(reactor))
    for url in urls:
        try:
            response = await agent.request(b"GET", url.encode())
        except ConnectError as e:
            sys.exit(f"{url}: {e}")
        print((await readBody(response)).decode(), end="")


log.startLogging(sys.stderr, setStdout=False)
react(lambda reactor: ensureDeferred(fetch(reactor, sys.argv[1:])))
