# -*- test-case-name: tests.integration.test_proxy_protocol -*-
"""
Who the client is gets through: from haproxy and nginx to the proxy, and from the proxy to them, by either version of
the PROXY protocol, with TLS right behind it.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet.address import IPv4Address

from tests.integration.balancing import CLIENT, BalancingTestCase
from tests.integration.running import freePort, raiseDescriptors, waitUntil
from tests.integration.talking import Listener, clientContext, connect
from tlsproxy.wire.proxyheader import ProxyHeader, ProxyHeaderReader, writeBinary
from tlsproxy.wire.proxytlv import Vectors

REQUEST = b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n"
TRUSTED = ["127.0.0.1"]
HERE = IPv4Address("TCP", "192.0.2.7", 50112)
LINE = b"PROXY TCP4 192.0.2.7 198.51.100.1 50112 443\r\n"
ALL = ["alpn", "authority", "ssl", "client-cert", "unique-id", "crc32c"]


class SentTests(BalancingTestCase):
    """
    Upstreams that are told.
    """

    def check(self, mode: str, kind: str, version: str) -> None:
        """
        In some mode, a server of some kind is told who the client is.
        """
        port = freePort()
        self.answering(kind, port, mode != "offload")
        route = getattr(self, mode)(port, send_proxy=version)
        if version == "v2":
            route["send_proxy_tlvs"] = ALL
        proxy = self.proxy(route)
        client, _ = self.come(proxy.port(mode))
        if mode != "encrypt":
            client.startTLS(clientContext(self.certificates.ca))
        client.send(REQUEST)
        body = client.readAll().partition(b"\r\n\r\n")[2].decode()
        client.close()
        line = proxy.session(0)
        telling = kind == "haproxy" and version == "v2"
        name = "localhost" if telling and mode != "encrypt" else ""
        called = line["uniqueId"] if telling else ""
        self.assertEqual(f"{CLIENT} {proxy.port(mode)} {name} {called}.", body)
        if version == "v2":
            self.assertRegex(line["uniqueId"], "^[0-9a-f]{32}$")

    def test_haproxyFirst(self) -> None:
        """
        haproxy is, by version 1.
        """
        self.check("offload", "haproxy", "v1")

    def test_haproxySecond(self) -> None:
        """
        haproxy is, by version 2, with a checksum that it verifies.
        """
        self.check("bridge", "haproxy", "v2")

    def test_haproxySecondUntouched(self) -> None:
        """
        So it is of a client whose TLS goes through to it.
        """
        self.check("passthrough", "haproxy", "v2")

    def test_haproxySecondInClear(self) -> None:
        """
        So it is of a client that has no TLS.
        """
        self.check("encrypt", "haproxy", "v2")

    def test_nginxFirst(self) -> None:
        """
        nginx is, by version 1.
        """
        self.check("bridge", "nginx", "v1")

    def test_nginxSecond(self) -> None:
        """
        nginx is, by version 2.
        """
        self.check("offload", "nginx", "v2")

    def test_certificate(self) -> None:
        """
        The client's whole certificate gets through, and haproxy takes a header with it.
        """
        port = freePort()
        self.answering("haproxy", port, False)
        alice = self.certificates.issue("alice", commonName="alice")
        tls = {"client_ca": str(self.certificates.ca)}
        proxy = self.proxy(self.offload(port, send_proxy="v2", send_proxy_tlvs=ALL, tls=tls))
        client, _ = self.come(proxy.port("offload"))
        client.startTLS(clientContext(self.certificates.ca, certificate=alice))
        client.send(REQUEST)
        self.assertIn(f"\r\n\r\n{CLIENT} ".encode(), client.readAll())


class AcceptedTests(BalancingTestCase):
    """
    Balancers that tell.
    """

    def header(self, server: Any) -> ProxyHeader:
        """
        Read the header that the proxy has sent on.
        """
        data = b""
        header = None
        while header is None:
            data += server.recv(1)
            header = ProxyHeaderReader().read(data)
        return header

    def check(self, kind: str, how: str) -> None:
        """
        In every mode a client is known that comes through a balancer, and its bytes arrive.
        """
        listener = Listener(self)
        routes = {
            "offload": self.offload(listener.port),
            "passthrough": self.passthrough(listener.port, require_tls=False),
            "connect": self.connect(listener.port),
        }
        proxy = self.proxy(*[{**route, "accept_proxy": TRUSTED} for route in routes.values()])
        for number, mode in enumerate(routes):
            client, address = self.come(self.balancing(kind, proxy.port(mode), how))
            if mode == "offload":
                client.startTLS(clientContext(self.certificates.ca))
            elif mode == "connect":
                client.askTunnel(listener.port)
            client.send(b"question")
            server = listener.accept()
            self.assertEqual(b"question", server.read(8))
            server.send(b"answer")
            self.assertEqual(b"answer", client.read(6))
            client.endWrite()
            server.endWrite()
            server.close()
            line = proxy.session(number)
            self.assertEqual(address, line["client"])
            self.assertTrue(line["via"].startswith("127.0.0.1:"), line)

    def test_haproxyFirst(self) -> None:
        """
        haproxy, by version 1.
        """
        self.check("haproxy", "send-proxy")

    def test_haproxySecond(self) -> None:
        """
        haproxy, by version 2, with a checksum.
        """
        self.check("haproxy", "send-proxy-v2 proxy-v2-options crc32c,unique-id")

    def test_nginx(self) -> None:
        """
        nginx, which sends version 1.
        """
        self.check("nginx", "proxy_protocol on")

    def test_allThatHAProxyTells(self) -> None:
        """
        All that haproxy tells of the TLS that it has taken off is understood, and told on.
        """
        listener = Listener(self)
        route = self.passthrough(listener.port, require_tls=False, accept_proxy=TRUSTED)
        proxy = self.proxy({**route, "send_proxy": "v2", "send_proxy_tlvs": ALL})
        options = "authority,crc32c,unique-id,ssl,cert-cn,ssl-cipher,cert-sig,cert-key"
        for how in (f"send-proxy-v2 proxy-v2-options {options}", "send-proxy-v2-ssl-cn"):
            port = self.balancing("haproxy", proxy.port("passthrough"), how, tls=True)
            for certificate in (None, self.certificates.issue("alice", commonName="alice")):
                client, address = self.come(port)
                client.startTLS(clientContext(self.certificates.ca, certificate=certificate))
                client.send(b"question")
                server = listener.accept()
                header = self.header(server)
                self.assertEqual(b"question", server.read(8))
                self.assertEqual(address, f"{header.source.host}:{header.source.port}")  # type: ignore[union-attr]
                tls = header.vectors.tls
                assert tls is not None
                self.assertEqual(("TLSv1.3", certificate is not None), (tls.version, tls.verified))
                if certificate is not None:
                    self.assertEqual("alice", tls.commonName)
                if options in how:
                    self.assertEqual("localhost", header.vectors.authority)
                    self.assertEqual(f"id-{address.partition(':')[2]}".encode(), header.vectors.uniqueId)
                    self.assertIsNotNone(re.fullmatch("TLS_[A-Z0-9_]+", tls.cipher))
                    self.assertEqual("EC256", tls.keyAlgorithm)
                client.close()
                server.close()

    def test_unix(self) -> None:
        """
        haproxy by a Unix socket, which it may come by if the route says so; TLS follows.
        """
        listener = Listener(self)
        short = TemporaryDirectory()  # Trial's own may lie too deep for the path of a socket.
        self.addCleanup(short.cleanup)
        path = Path(short.name) / "ours"
        proxy = self.proxy(self.offload(listener.port, listen=f"unix:{path}", accept_proxy="unix"))
        client, address = self.come(self.balancing("haproxy", path, "send-proxy-v2"))
        client.startTLS(clientContext(self.certificates.ca))
        client.send(b"question")
        server = listener.accept()
        self.assertEqual(b"question", server.read(8))
        client.close()
        server.close()
        line = proxy.session(0)
        self.assertEqual((address, "unix"), (line["client"], line["via"]))

    def test_healthChecks(self) -> None:
        """
        haproxy sees that we are there, for which it speaks for itself, and then sends clients.
        """
        listener = Listener(self)
        proxy = self.proxy(self.passthrough(listener.port, require_tls=False, accept_proxy=TRUSTED))
        port = self.balancing(
            "haproxy", proxy.port("passthrough"), "send-proxy-v2 check check-send-proxy inter 100ms rise 1 fall 1"
        )
        line = proxy.session(2)
        self.assertEqual(("127.0.0.1", line["via"]), (line["via"].partition(":")[0], line["client"]))
        self.assertNotIn("refused", {line["outcome"] for line in proxy.sessions()})
        client, address = self.come(port)
        client.send(b"question")
        while (server := listener.accept()).read(8) != b"question":
            server.close()
        client.close()
        server.close()
        waitUntil(lambda: address in {line["client"] for line in proxy.sessions()}, "the client's session")

    def test_stalled(self) -> None:
        """
        Headers that do not come to an end cost no more than their time: no descriptor is left of them, and meanwhile
        others are served.
        """
        count = 200
        raiseDescriptors(1000)
        listener = Listener(self)
        route = self.passthrough(listener.port, require_tls=False, accept_proxy=TRUSTED, limits={"hello": 3})
        proxy = self.proxy(route)

        def serve(number: int) -> None:
            client = connect(self, proxy.port("passthrough"))
            client.send(LINE + b"question")
            server = listener.accept()
            self.assertEqual(b"question", server.read(8))
            client.close()
            server.close()
            waitUntil(lambda: len(proxy.sessions()) > number, "the end of a session")

        serve(0)  # Whatever is kept for later is there now.
        before = proxy.descriptors()
        unfinished = LINE[:40], b"", writeBinary(HERE, HERE, Vectors(others=((0xE0, bytes(9000)),)))[:-1]
        for number in range(count):
            connect(self, proxy.port("passthrough")).send(unfinished[number % 3])
        serve(1)
        waitUntil(lambda: len(proxy.sessions()) == count + 2, "the end of all sessions")
        waitUntil(lambda: proxy.descriptors() <= before, "the end of all descriptors")
        outcomes = Counter(line["reason"] for line in proxy.sessions())
        self.assertEqual(count, outcomes["the balancer did not send a whole PROXY header within 3 s"])
        self.assertFalse(listener.waiting())

    def test_curl(self) -> None:
        """
        curl tells of itself, with TLS behind it.
        """
        port = freePort()
        self.answering("nginx", port, False)
        proxy = self.proxy(self.offload(port, accept_proxy=TRUSTED, send_proxy="v1"))
        url = f"https://localhost:{proxy.port('offload')}/"
        done = self.run_(["curl", "-4", "-s", "--haproxy-protocol", "--cacert", str(self.certificates.ca), url])
        self.assertEqual(f"127.0.0.1 {proxy.port('offload')}  .".encode(), done.stdout)
        self.assertEqual(proxy.session(0)["client"], proxy.session(0)["via"])


class ChainTests(BalancingTestCase):
    """
    haproxy in front, and haproxy behind.
    """

    def test_chain(self) -> None:
        """
        What the first knows gets to the last, through TLS that ends at the proxy and begins again.
        """
        port = freePort()
        self.answering("haproxy", port, True)
        proxy = self.proxy(
            self.bridge(port, accept_proxy=TRUSTED, send_proxy="v2", send_proxy_tlvs=["authority", "unique-id"])
        )
        how = "send-proxy-v2 proxy-v2-options unique-id"
        client, address = self.come(self.balancing("haproxy", proxy.port("bridge"), how))
        client.startTLS(clientContext(self.certificates.ca))
        client.send(REQUEST)
        body = client.readAll().partition(b"\r\n\r\n")[2].decode()
        self.assertRegex(body, rf"^{re.escape(CLIENT)} \d+ localhost id-{address.partition(':')[2]}\.$")
        client.close()
        line = proxy.session(0)
        self.assertEqual((address, f"id-{address.partition(':')[2]}"), (line["client"], line["uniqueId"]))
