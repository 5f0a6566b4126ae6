# -*- test-case-name: tests.integration.test_client_proxy -*-
"""
A client proxy leads a browser to where its mapping says, by way of a reverse proxy, and nowhere else.
"""

from __future__ import annotations

import socket
import ssl
from datetime import timedelta

from tests.integration.clientproxying import SHOP, ClientProxyCase, answerOf, page, says, tunnelTo
from tests.integration.running import Certificates, freePort, waitUntil
from tests.integration.talking import Listener, Server, Talker, echo, serverContext


class TunnelTests(ClientProxyCase):
    """
    Tunnels that come to stand.
    """

    def origin(self) -> Server:
        """
        Start what the tunnels lead to.
        """
        return Server(self, page, serverContext(self.certificates.issue("shop", ["shop.bank.invalid"])))

    def test_curl(self) -> None:
        """
        curl fetches a page from a host that no DNS knows, and speaks TLS with that host alone; the reverse proxy sees
        the client proxy's certificate and its own head, and nothing of curl's.
        """
        reverse = self.reverse(tunnelTo(self.origin().port))
        proxy = self.start(reverse.port)
        self.assertEqual(("hello\n", ""), self.fetch(proxy, "--proxy-header", "X-Secret: 1", "--user-agent", "me"))
        self.assertEqual([f"CONNECT {SHOP} HTTP/1.1\r\nHost: {SHOP}\r\n\r\n"], reverse.heads)
        self.assertEqual(["laptop"], reverse.subjects)
        line = proxy.session()
        self.assertEqual((SHOP, "closed"), (line["target"], line["outcome"]))
        self.assertEqual(f"localhost:{reverse.port}", line["upstream"])
        self.assertIn("TLSv1.3", line["upstreamTLS"])

    def test_downgrade(self) -> None:
        """
        A reverse proxy that can take TLS off is told what is acceptable, and may leave it on.
        """
        answer = b"HTTP/1.1 200 OK\r\nConnection: TLS-Downgrade\r\nTLS-Downgrade: none\r\n\r\n"
        origin = self.origin()

        def behave(near: ssl.SSLSocket) -> None:
            near.sendall(answer)
            tunnelTo(origin.port)(_Silent(near))  # type: ignore[arg-type]

        reverse = self.reverse(behave, alpn=("tlsproxy-seq/1",))
        proxy = self.start(reverse.port)
        self.assertEqual(("hello\n", ""), self.fetch(proxy))
        self.assertIn("Connection: TLS-Downgrade\r\nTLS-Downgrade: handshake, none\r\n", reverse.heads[0])

    def test_identities(self) -> None:
        """
        Of several certificates, in whatever files, the reverse proxy gets the one that it accepts, in whatever way TLS
        is run; where there is none of its CAs, it is told so.
        """
        guests = Certificates(self.folder, "guests")
        folder = self.folder / "mine"
        folder.mkdir()
        for stem, authority in (("a", guests), ("b", self.staff)):
            authority.issue(stem, ["laptop"], commonName=stem).rename(folder / f"{stem}.pem")
        seen = []

        def answer(talker: Talker) -> None:
            shown = None if talker.tls is None else talker.tls.get_peer_certificate(as_cryptography=True)
            seen.append("" if shown is None else shown.subject.rfc4514_string())
            talker.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            talker.endWrite()

        context = serverContext(self.reverseCertificate, ca=self.staff.ca)
        context.load_client_ca(str(self.staff.ca).encode())
        for takeOff in ("socket", "loopback"):
            server = Server(self, answer, context)
            proxy = self.start(server.port, upstream={"cert": str(folder)}, take_off=takeOff)
            self.assertEqual("HTTP/1.1 403 Forbidden", self.ask(proxy)[0])
            self.assertEqual("CN=b", seen.pop())
        (folder / "b.pem").unlink()
        guests.issue("c", ["laptop"]).rename(folder / "c.pem")
        proxy = self.start(Server(self, answer, context).port, upstream={"cert": str(folder)})
        status, body = self.ask(proxy)
        self.assertEqual("HTTP/1.1 502 Bad Gateway", status)
        self.assertIn("TLS with the reverse proxy dmz failed: it accepts certificates of 1 CAs, and none of ours", body)

    def test_reload(self) -> None:
        """
        A mapping that changes is read again; one that is wrong is told of, and the old one stays.
        """
        proxy = self.start(self.reverse(says(answerOf(b"403 No", b"reached"))).port)
        mapping = self.folder / "mapping.toml"
        good = mapping.read_text()
        proxy.expected = "#error] not reloaded"
        self.assertIn("does not make tunnels", self.ask(proxy, "new.invalid:443")[1])
        mapping.write_text(good + "[[map]]\nhosts = 5\n")
        proxy.waitFor(r"mapping\.toml:\d+: map\.hosts: give a string")
        self.assertIn("reached", self.ask(proxy)[1])
        mapping.write_text(good.replace("*.bank.invalid", "*.invalid"))
        waitUntil(lambda: "reached" in self.ask(proxy, "new.invalid:443")[1], "the new mapping")
        self.assertIn("does not make tunnels", self.ask(proxy)[1])

    def test_expires(self) -> None:
        """
        A tunnel does not outlive the certificate that opened it, whatever passes in it.
        """
        reverse = self.reverse(tunnelTo(Server(self, echo).port))
        short = self.staff.issue("short", commonName="short", age=timedelta(days=40) - timedelta(seconds=8))
        proxy = self.start(reverse.port, upstream={"cert": str(short)}, limits={"hello": 0.0, "downgrade": 0.0})
        with socket.create_connection(("127.0.0.1", proxy.port("sequential-client")), 20) as sock:
            sock.sendall(f"CONNECT {SHOP} HTTP/1.1\r\nHost: {SHOP}\r\n\r\n".encode())
            self.assertTrue(sock.recv(4096).startswith(b"HTTP/1.1 200 "))
            try:
                self.assertEqual(b"", sock.recv(4096))
            except ConnectionResetError:
                pass
        line = proxy.session()
        told = ("expired", "lifetime", "the certificate that opened the tunnel has expired")
        self.assertEqual(told, (line["outcome"], line["phase"], line["reason"]))

    def test_direct(self) -> None:
        """
        What the mapping lets go directly is dialed without any certificate; what it refuses, or does not have, is not,
        nor what leads back to this machine without having been meant to.
        """
        target = Listener(self)
        where = f"127.0.0.1:{target.port}"
        ways = (("127.0.0.2:*", "refuse"), (where, "direct"), ("localhost:*", "direct"))
        extra = "".join(f'[[map]]\nhosts = ["{hosts}"]\n{way} = true\n' for hosts, way in ways)
        proxy = self.start(freePort(), extra=extra)
        with socket.create_connection(("127.0.0.1", proxy.port("sequential-client")), 20) as sock:
            sock.sendall(f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n\r\n".encode())
            self.assertTrue(sock.recv(4096).startswith(b"HTTP/1.1 200 "))
            far = target.accept()
            far.send(b"greeting")
            self.assertEqual(b"greeting", sock.recv(100))
            far.close()
        for asked in ("127.0.0.2:5", "other.invalid:443", f"localhost:{target.port}"):
            status, body = self.ask(proxy, asked)
            self.assertEqual("HTTP/1.1 403 Forbidden", status)
            self.assertTrue(body.startswith("this proxy does not "), body)
        self.assertFalse(target.waiting())


class _Silent:
    """
    A side that has answered already.
    """

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._sock = sock

    def __getattr__(self, name: str) -> object:
        return getattr(self._sock, name)

    def fileno(self) -> int:
        """
        For select.
        """
        return self._sock.fileno()

    def sendall(self, data: bytes) -> None:
        """
        Leave the answer out.
        """
        if not data.startswith(b"HTTP/1.1 200 OK\r\n\r\n"):
            self._sock.sendall(data)
