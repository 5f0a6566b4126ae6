# -*- test-case-name: tests.integration.test_other_endpoints -*-
"""
Connections that are no plain sockets are as good: whoever comes by an endpoint of somebody else's is served as if they
came straight.
"""

from __future__ import annotations

import os

from tests.integration.running import IntegrationTestCase, freePort
from tests.integration.talking import Listener, clientContext, connect, serverContext

PLUGIN = """
from twisted.internet.endpoints import clientFromString, serverFromString, wrapClientTLS
from twisted.internet.interfaces import (
    IStreamClientEndpointStringParserWithReactor, IStreamServerEndpointStringParser
)
from twisted.internet.ssl import CertificateOptions, optionsForClientTLS
from twisted.internet.ssl import Certificate
from twisted.plugin import IPlugin
from twisted.protocols.policies import ThrottlingFactory, WrappingFactory
from zope.interface import implementer

class Wrapping:
    def __init__(self, endpoint):
        self.endpoint = endpoint

    def listen(self, factory):
        return self.endpoint.listen(WrappingFactory(factory))

@implementer(IPlugin, IStreamServerEndpointStringParser)
class Server:
    prefix = "pigeon"

    def parseStreamServer(self, reactor, port):
        return Wrapping(serverFromString(reactor, f"tcp:{port}:interface=127.0.0.1"))

@implementer(IPlugin, IStreamClientEndpointStringParserWithReactor)
class Client:
    prefix = "sealed"

    def parseStreamClient(self, reactor, port, ca):
        authority = Certificate.loadPEM(open(ca, "rb").read())
        options = optionsForClientTLS("localhost", authority)
        return wrapClientTLS(options, clientFromString(reactor, f"tcp:127.0.0.1:{port}"))

server, client = Server(), Client()
"""


class OtherEndpointsTests(IntegrationTestCase):
    """
    Endpoints that somebody else's plugin brings.
    """

    def setUp(self) -> None:
        """
        Install the plugin.
        """
        super().setUp()
        plugins = self.folder / "lib" / "twisted" / "plugins"
        plugins.mkdir(parents=True)
        (plugins / "pigeons.py").write_text(PLUGIN)
        before = os.environ.get("PYTHONPATH", "")
        os.environ["PYTHONPATH"] = f"{plugins.parent.parent}:{before}"
        self.addCleanup(os.environ.__setitem__, "PYTHONPATH", before)

    def test_listening(self) -> None:
        """
        They can be listened on.
        """
        upstream = Listener(self)
        number = freePort()
        self.proxy(self.offload(upstream.port, listen=f"pigeon:{number}"))
        client = connect(self, number, clientContext(self.certificates.ca))
        server = upstream.accept()
        client.send(b"question")
        client.endWrite()
        self.assertEqual((b"question", "ended"), (server.readAll(), server.how))
        server.send(b"answer")
        server.endWrite()
        self.assertEqual((b"answer", "ended"), (client.readAll(), client.how))

    def test_proxied(self) -> None:
        """
        Whoever comes by them may be told of by a PROXY header.
        """
        upstream = Listener(self)
        number = freePort()
        proxy = self.proxy(self.offload(upstream.port, listen=f"pigeon:{number}", accept_proxy="127.0.0.1"))
        client = connect(self, number)
        client.send(b"PROXY TCP4 192.0.2.7 198.51.100.1 50112 443\r\n")
        client.startTLS(clientContext(self.certificates.ca))
        client.send(b"question")
        server = upstream.accept()
        self.assertEqual(b"question", server.read(8))
        client.close()
        server.close()
        line = proxy.session(0)
        self.assertEqual(("192.0.2.7:50112", "127.0.0.1"), (line["client"], line["via"].partition(":")[0]))

    def test_dialing(self) -> None:
        """
        They can be dialed, and where their TLS is Twisted's own, an end is told from a truncated stream.
        """
        upstream = Listener(self)
        dialed = f"sealed:{upstream.port}:{self.certificates.ca}"
        proxy = self.proxy({**self.offload(0), "upstream": dialed})
        for number, outcome in enumerate(("closed", "truncated")):
            client = connect(self, proxy.port("offload"), clientContext(self.certificates.ca))
            server = upstream.accept(serverContext(self.pem))
            client.send(b"question")
            self.assertEqual(b"question", server.read(8))
            server.send(b"answer" * 100000)
            if outcome == "closed":
                server.endWrite()
            else:
                server.close()
            self.assertEqual(b"answer" * 100000, client.read(600000))
            # OpenSSL lets nobody write who has read a truncated end.
            client.endWrite()
            self.assertEqual((b"", "ended" if outcome == "closed" else "truncated"), (client.readAll(), client.how))
            line = proxy.session(number)
            self.assertEqual(outcome, line["outcome"])
            reason = "the upstream ended the stream without ending TLS" if outcome == "truncated" else ""
            self.assertEqual(reason, line["reason"])
