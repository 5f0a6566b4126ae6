# -*- test-case-name: tests.integration.test_proxied_clients -*-
"""
Clients that come through a load balancer, and are told of by its PROXY header, are served as if they came straight.
"""

from __future__ import annotations

import random
import socket
import struct
import threading
from collections.abc import Mapping
from typing import Any

from OpenSSL import SSL

from tests.integration.running import PATIENCE, IntegrationTestCase, Proxy
from tests.integration.talking import Listener, Talker, clientContext, connect

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
    C{accept_proxy}.
    """

    listening: Mapping[str, Any] = {"accept_proxy": ["192.0.2.0/24", "127.0.0.1"]}

    def serve(self, **more: Any) -> tuple[Proxy, Listener]:
        """
        Start a proxy in front of a listener.
        """
        upstream = Listener(self)
        return self.proxy(self.offload(upstream.port, **self.listening, **more)), upstream

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
        The header may come in one piece with the hello, or both byte by byte.
        """
        proxy, upstream = self.serve()
        context = clientContext(self.certificates.ca)
        for number, step in enumerate((10000, 1)):
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
        wrongs = (b"GET / HTTP/1.0\r\n\r\n", b"PROXY TCP9 1 2 3 4\r\n", b"\x16\x03\x01\x00\x05hello")
        for number, wrong in enumerate(wrongs):
            client = connect(self, proxy.port("offload"))
            client.send(wrong)
            self.assertEqual(b"", client.readAll(), wrong)
            line = proxy.session(number)
            self.assertEqual(("refused", "hello", ""), (line["outcome"], line["phase"], line["via"]))
            self.assertTrue(line["client"].startswith("127.0.0.1:"), line)
        self.assertFalse(upstream.waiting())

    def test_untrusted(self) -> None:
        """
        From where no balancer is, nobody gets in, whatever header they bring.
        """
        proxy, upstream = self.serve()
        if "accept_proxy" in self.listening:
            stranger = socket.create_connection(("127.0.0.1", proxy.port("offload")), PATIENCE, ("127.0.0.9", 0))
            self.addCleanup(stranger.close)
            stranger.sendall(HEADER)
            self.assertEqual(b"", stranger.recv(1))
            line = proxy.session(0)
            self.assertEqual("refused", line["outcome"])
            self.assertTrue(line["client"].startswith("127.0.0.9:"), line)
        self.assertFalse(upstream.waiting())

    def test_serverFirst(self) -> None:
        """
        A server that speaks first is heard by a client that waits for it.
        """
        upstream = Listener(self)
        route = {"mode": "passthrough", "require_tls": False, "upstream": f"127.0.0.1:{upstream.port}"}
        proxy = self.proxy({**route, **self.listening})
        client = connect(self, proxy.port("passthrough"))
        client.send(HEADER)
        server = upstream.accept()
        server.send(b"220 welcome\r\n")
        self.assertEqual(b"220 welcome\r\n", client.read(13))
        client.close()
        server.close()
        self.assertEqual(CLIENT, proxy.session(0)["client"])


class HAProxyAddressTests(ProxiedClientsTests):
    """
    C{haproxy:} addresses.
    """

    listening: Mapping[str, Any] = {"listen": "haproxy:tcp:0:interface=127.0.0.1"}
