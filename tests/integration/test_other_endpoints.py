# -*- test-case-name: tests.integration.test_other_endpoints -*-
"""
Connections that are no plain sockets are as good: clients that come through a load balancer and are told of by its
PROXY header are served as if they came straight, and so is whoever comes by an endpoint of somebody else's.
"""

from __future__ import annotations

import os
import random
import socket
import struct
import threading
from typing import Any

from OpenSSL import SSL

from tests.integration.running import PATIENCE, IntegrationTestCase, Proxy, freePort
from tests.integration.talking import Listener, Talker, clientContext, connect, serverContext

CLIENT = "192.0.2.7:50112"
HEADER = b"PROXY TCP4 192.0.2.7 198.51.100.1 50112 443\r\n"
HEADER_2 = (
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x11"
    + struct.pack("!H", 12)
    + socket.inet_aton("192.0.2.7")
    + socket.inet_aton("198.51.100.1")
    + struct.pack("!HH", 50112, 443)
)


class ProxiedClientsTests(IntegrationTestCase):
    """
    C{haproxy:} endpoints.
    """

    listening = "haproxy:tcp:0:interface=127.0.0.1"

    def serve(self, **more: Any) -> tuple[Proxy, Listener]:
        """
        Start a proxy in front of a listener.
        """
        upstream = Listener(self)
        return self.proxy(self.offload(upstream.port, listen=self.listening, **more)), upstream

    def visit(self, proxy: Proxy, header: bytes = HEADER) -> Talker:
        """
        Have a client come, with its TLS.
        """
        talker = connect(self, proxy.port("offload"))
        talker.send(header)
        talker.startTLS(clientContext(self.certificates.ca))
        return talker

    def test_both(self) -> None:
        """
        Both forms of the header are understood, also where they come together with the hello, and the log tells of the
        client itself.
        """
        proxy, upstream = self.serve()
        for number, header in enumerate((HEADER, HEADER_2)):
            client = self.visit(proxy, header)
            server = upstream.accept()
            client.send(b"question")
            self.assertEqual(b"question", server.read(8))
            client.endWrite()
            self.assertEqual((b"", "ended"), (server.readAll(), server.how))
            # The answer comes long after the client's end.
            server.send(b"answer")
            self.assertEqual(b"answer", client.read(6))
            server.endWrite()
            self.assertEqual((b"", "ended"), (client.readAll(), client.how))
            line = proxy.session(number)
            self.assertEqual((CLIENT, "closed"), (line["client"], line["outcome"]))

    def test_withTheHello(self) -> None:
        """
        The header may come in one piece with the hello, or in pieces.  The first has to be sixteen bytes long, which
        senders are told to heed.
        """
        proxy, upstream = self.serve()
        context = clientContext(self.certificates.ca)
        for number, step in enumerate((10000, 20)):
            tls = SSL.Connection(context, None)
            tls.set_connect_state()
            tls.set_tlsext_host_name(b"localhost")
            self.assertRaises(SSL.WantReadError, tls.do_handshake)
            hello = HEADER + tls.bio_read(65536)
            raw = connect(self, proxy.port("offload"))
            raw.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for start in range(0, len(hello), step):
                raw.send(hello[start : start + step])
            while True:
                tls.bio_write(raw.recv())
                try:
                    tls.do_handshake()
                except SSL.WantReadError:
                    continue
                break
            raw.send(tls.bio_read(65536))
            upstream.accept().close()
            raw.close()
            self.assertEqual(CLIENT, proxy.session(number)["client"])

    def test_much(self) -> None:
        """
        Much data both ways at once arrives as it was sent.
        """
        proxy, upstream = self.serve()
        client, server = self.visit(proxy), upstream.accept()
        data = random.Random(1).randbytes(4 << 20)
        got: dict[str, bytes] = {}

        def talk(name: str, talker: Talker) -> None:
            got[name] = talker.read(len(data))

        threads = [threading.Thread(target=talk, args=("server", server))]
        threads += [threading.Thread(target=server.send, args=(data,))]
        for thread in threads:
            thread.start()
        # OpenSSL takes no two threads at once, so the client takes turns.
        for start in range(0, len(data), 1 << 16):
            client.send(data[start : start + (1 << 16)])
            got["client"] = got.get("client", b"") + client.read(1 << 16)
        for thread in threads:
            thread.join(PATIENCE)
        self.assertTrue(data == got["client"] == got["server"])

    def test_reset(self) -> None:
        """
        A reset is passed on as a reset, both ways.
        """
        proxy, upstream = self.serve()
        client, server = self.visit(proxy), upstream.accept()
        client.reset()
        self.assertEqual((b"", "reset"), (server.readAll(), server.how))
        self.assertEqual("reset", proxy.session(0)["outcome"])
        client, server = self.visit(proxy), upstream.accept()
        server.send(b"half an ans")
        self.assertEqual(b"half an ans", client.read(11))
        server.reset()
        self.assertEqual((b"", "reset"), (client.readAll(), client.how))
        self.assertEqual("reset", proxy.session(1)["outcome"])

    def test_truncation(self) -> None:
        """
        A truncated stream is told as such.
        """
        proxy, upstream = self.serve()
        client, server = self.visit(proxy), upstream.accept()
        client.send(b"half a sent")
        client.truncate()
        self.assertEqual((b"half a sent", "ended"), (server.readAll(), server.how))
        server.endWrite()
        self.assertEqual("truncated", proxy.session(0)["outcome"])

    def test_rules(self) -> None:
        """
        Rules go by the client, and not by whoever brought it.
        """
        rules = [{"client": "127.0.0.0/8", "refuse": "close"}, {"client": "192.0.2.0/24", "refuse": "close"}]
        proxy, _ = self.serve(rule=rules)
        client = connect(self, proxy.port("offload"))
        client.send(HEADER)
        self.assertEqual(b"", client.readAll())
        line = proxy.session(0)
        self.assertEqual((CLIENT, "refused"), (line["client"], line["outcome"]))
        self.assertIn("rule 2", line["reason"])

    def test_doubtful(self) -> None:
        """
        Whoever sends no header, or a wrong one, is not served, and nothing is dialed.
        """
        proxy, upstream = self.serve()
        for wrong in (b"GET / HTTP/1.0\r\n\r\n", b"PROXY TCP9 1 2 3 4\r\n", b"\x16\x03\x01\x00\x05hello"):
            client = connect(self, proxy.port("offload"))
            client.send(wrong)
            self.assertEqual(b"", client.readAll(), wrong)
        self.assertFalse(upstream.waiting())
        self.assertEqual([], proxy.sessions())

    def test_serverFirst(self) -> None:
        """
        A server that speaks first is heard by a client that waits for it.
        """
        upstream = Listener(self)
        route = {"mode": "passthrough", "require_tls": False, "upstream": f"127.0.0.1:{upstream.port}"}
        proxy = self.proxy({**route, "listen": self.listening})
        client = connect(self, proxy.port("passthrough"))
        client.send(HEADER)
        # A session of this kind wants to see whether the client speaks TLS, so it has to say something.
        client.send(b"\n")
        server = upstream.accept()
        server.send(b"220 welcome\r\n")
        self.assertEqual(b"220 welcome\r\n", client.read(13))
        client.close()
        server.close()
        self.assertEqual(CLIENT, proxy.session(0)["client"])


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
