# -*- test-case-name: tests.integration.test_passthrough_routes -*-
"""
C{passthrough} leads each client to the server that its hello and the rules name, and to no other, and the certificate
that the client gets is that server's own.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import mkdtemp

from tests.integration.namespace import EXAMPLES
from tests.integration.running import COPYING, TWISTD, Child, IntegrationTestCase, freePort
from tests.integration.talking import Listener, Talker, connect
from tests.peers import requirePeer
from tests.wire.clienthellos import buildClientHello, serverName

CUT = str(EXAMPLES / "cut-hello.py")
NO_RULE = "no rule of the route is for that"

_FIRST = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\s", re.DOTALL)


def leaf(text: str) -> bytes:
    """
    Take the first certificate out of PEM.
    """
    found = _FIRST.search(text)
    assert found is not None, text
    return ssl.PEM_cert_to_DER_cert(found[0])


class RealServerTests(IntegrationTestCase):
    """
    nginx and C{openssl s_server} behind one port, each with a certificate of its own, and C{curl} and
    C{openssl s_client} before it.
    """

    def setUp(self) -> None:
        """
        Start them all.
        """
        super().setUp()
        self.pems = {
            "shop": self.certificates.issue("shop", ["shop.example", "*.shop.example"]),
            "lab": self.certificates.issue("lab", ["a.lab.example", "b.a.lab.example", "anybody.example"]),
            "acme": self.certificates.issue("acme", ["acme.example", "a.shop.example"]),
        }
        shop, lab = freePort(), freePort()
        self.nginx(
            "".join(
                f"server {{ listen 127.0.0.1:{port} ssl http2; ssl_certificate {self.pems[name]};"
                f" ssl_certificate_key {self.pems[name]};"
                f" ssl_protocols TLSv1.2 TLSv1.3; return 200 'This is {name}'; }}"
                for name, port in (("shop", shop), ("lab", lab))
            )
        )
        server = [requirePeer("openssl"), "s_server", "-accept", "127.0.0.1:0", "-cert", str(self.pems["acme"])]
        acme = Child(self, self.folder, "s_server", [*server, "-key", server[-1], "-alpn", "acme-tls/1", "-www"])
        rules = [
            {"sni": ["first.shop.example"], "refuse": "alert"},
            {"alpn": ["acme-tls/1"], "upstream": f"127.0.0.1:{acme.waitFor('^ACCEPT 127.*:([0-9]+)$')[1]}"},
            {"sni": ["shop.example", "*.shop.example"], "upstream": f"127.0.0.1:{shop}"},
            {"sni": "**.lab.example", "upstream": f"127.0.0.1:{lab}"},
            {"client": ["127.0.0.7", "127.1.0.0/16"], "upstream": f"127.0.0.1:{lab}"},
            {"sni": "shut.example", "refuse": "close"},
        ]
        # The slowest of the hellos here takes some seconds.
        self.through = self.proxy({"mode": "passthrough", "rule": rules, "limits": {"hello": 30}})
        self.port = self.through.port("passthrough")
        self._told = 0

    def curl(self, host: str, *options: str, status: int = 0) -> subprocess.CompletedProcess[bytes]:
        """
        Ask for a page by a name, and verify the certificate for it.
        """
        names = ["--resolve", f"{host}:{self.port}:127.0.0.1", "--cacert", str(self.certificates.ca), "--noproxy", "*"]
        command = ["curl", "--silent", "--show-error", *names, *options, f"https://{host}:{self.port}/"]
        return self.run_(command, status=status)

    def client(self, *options: str, status: int = 0) -> str:
        """
        Shake hands by C{openssl s_client}.

        @return: All that it prints.
        """
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{self.port}", "-CAfile", str(self.certificates.ca)]
        done = self.run_([*command, *options], status=status)
        return (done.stdout + done.stderr).decode("utf-8", "replace")

    def assertReached(self, name: str, printed: str) -> None:
        """
        Expect the very certificate of a server.
        """
        self.assertEqual(leaf(self.pems[name].read_text()), leaf(printed))
        self.assertIn("Verify return code: 0 (ok)", printed)

    def assertRefused(self, sni: str, reason: str) -> None:
        """
        Expect the next session to be refused, and nothing to have been dialed.
        """
        line = self.through.session(self._told)
        self._told += 1
        self.assertEqual(("refused", "route", reason), (line["outcome"], line["phase"], line["reason"]))
        self.assertEqual((sni, "-"), (line["sni"], line["upstream"]))

    def test_curl(self) -> None:
        """
        Each name leads to its own server, with its own certificate, in HTTP/1.1 and HTTP/2.
        """
        self.assertEqual(b"This is shop", self.curl("shop.example", "--http1.1").stdout)
        self.assertEqual(b"This is lab", self.curl("a.lab.example").stdout)
        self.assertEqual(b"This is shop 2", self.curl("www.shop.example", "--write-out", " %{http_version}").stdout)

    def test_certificate(self) -> None:
        """
        The certificate is the server's own, byte for byte, in TLS 1.2 and 1.3.
        """
        for version in ("-tls1_2", "-tls1_3"):
            self.assertReached("shop", self.client("-servername", "shop.example", version))
            self.assertReached("lab", self.client("-servername", "a.lab.example", version))

    def test_wildcards(self) -> None:
        """
        C{*.} is one label, C{**.} one or more; capitals are the same name, and so is one with a dot behind it.
        """
        self.assertReached("shop", self.client("-servername", "any.shop.example"))
        self.assertReached("shop", self.client("-servername", "SHOP.Example"))
        self.assertReached("shop", self.client("-servername", "shop.example."))
        self.assertReached("lab", self.client("-servername", "b.a.lab.example"))
        self._told = 4
        for name in ("b.a.shop.example", "lab.example", "notshop.example", "shop.example.net"):
            self.assertIn("unrecognized name", self.client("-servername", name, status=1))
            self.assertRefused(name, f"the client asks for {name}, and {NO_RULE}")

    def test_protocol(self) -> None:
        """
        A client that offers a protocol which a rule names gets there, whatever else it offers or asks for; without a
        name, too.
        """
        for options in (["-servername", "shop.example"], ["-servername", "nobody.example"], ["-noservername"]):
            printed = self.client(*options, "-alpn", "h2,acme-tls/1")
            self.assertReached("acme", printed)
            self.assertIn("ALPN protocol: acme-tls/1", printed)
        self.assertReached("shop", self.client("-servername", "shop.example", "-alpn", "h2,acme-tls/2"))

    def test_network(self) -> None:
        """
        A client from a network that a rule names gets there, by any name.
        """
        for address in ("127.0.0.7", "127.1.2.3"):
            self.assertEqual(b"This is lab", self.curl("anybody.example", "--interface", address).stdout)
            self.assertReached("lab", self.client("-servername", "nobody.example", "-bind", f"{address}:0"))
        self._told = 4
        self.curl("anybody.example", "--interface", "127.0.0.8", status=35)
        self.assertRefused("anybody.example", f"the client asks for anybody.example, and {NO_RULE}")

    def test_firstMatch(self) -> None:
        """
        The first rule that matches decides, though a later one would let the client in.
        """
        self.assertIn("unrecognized name", self.client("-servername", "first.shop.example", status=1))
        reason = "the client asks for first.shop.example, and rule 1 of the route refuses that"
        self.assertRefused("first.shop.example", reason)
        self.assertReached("shop", self.client("-servername", "second.shop.example"))

    def test_alert(self) -> None:
        """
        Who is refused is told so in words that the programs print.
        """
        told = self.curl("nobody.example", status=35).stderr
        self.assertRegex(told, b"^curl: \\(35\\) .*unrecognized name")
        self.assertRefused("nobody.example", f"the client asks for nobody.example, and {NO_RULE}")
        for version in ("-tls1_2", "-tls1_3"):
            printed = self.client("-servername", "nobody.example", version, status=1)
            self.assertRegex(printed, "(?:alert|v1) unrecognized name.*SSL alert number 112")
            self.assertRefused("nobody.example", f"the client asks for nobody.example, and {NO_RULE}")

    def test_close(self) -> None:
        """
        Or is told nothing at all.
        """
        talker = connect(self, self.port)
        talker.send(buildClientHello([serverName(b"shut.example")]))
        self.assertEqual((b"", "ended"), (talker.readAll(), talker.how))
        self.assertRefused("shut.example", "the client asks for shut.example, and rule 6 of the route refuses that")
        self.assertNotIn("unrecognized", self.client("-servername", "shut.example", status=1))

    def test_noName(self) -> None:
        """
        A client that names no server matches no rule for names.
        """
        self.assertIn("unrecognized name", self.client("-noservername", status=1))
        self.assertRefused("-", f"the client names no server, and {NO_RULE}")

    def test_cut(self) -> None:
        """
        However the hello is cut into records, and whether they come in one segment or in one each, the right server
        answers.
        """
        for size, *segments in (["1"], ["1", "--segments"], ["7"], ["100", "--segments"], ["16384"]):
            command = [sys.executable, CUT, "127.0.0.1", str(self.port)]
            done = self.run_([*command, "shop.example", size, *segments])
            self.assertIn(b"answer: CN=test endpoint, DNS=shop.example,*.shop.example\n", done.stdout)
            if not segments:
                done = self.run_([*command, "b.a.lab.example", size])
                self.assertIn(b"DNS=a.lab.example,b.a.lab.example,anybody.example\n", done.stdout)
                done = self.run_([*command, "nobody.example", size], status=1)
                self.assertIn(b"answer: the handshake failed: TLSV1_UNRECOGNIZED_NAME\n", done.stdout)


class AnythingTests(IntegrationTestCase):
    """
    C{require_tls = false}.
    """

    def setUp(self) -> None:
        """
        Start the proxy with a rule for some clients, and a default.
        """
        super().setUp()
        self.chosen, self.others = Listener(self), Listener(self)
        rules = [
            {"client": "127.0.0.7", "upstream": f"127.0.0.1:{self.chosen.port}"},
            {"client": "127.0.0.8", "refuse": "close"},
        ]
        route = self.passthrough(self.others.port, require_tls=False, rule=rules)
        self.through = self.proxy(route, {**route, "name": "six", "listen": "[::1]:0"})

    def come(self, address: str) -> Talker:
        """
        Connect from an address.
        """
        where = ("127.0.0.1", self.through.port("passthrough"))
        sock = socket.create_connection(where, source_address=(address, 0))
        self.addCleanup(sock.close)
        return Talker(sock)

    def test_upstreamFirst(self) -> None:
        """
        A server that greets is heard before its client has said a word.
        """
        client = self.come("127.0.0.1")
        server = self.others.accept()
        server.send(b"SSH-2.0-OpenSSH_9.2p1\r\n")
        self.assertEqual(b"SSH-2.0-OpenSSH_9.2p1\r\n", client.read(23))
        client.send(b"SSH-2.0-Go\r\n")
        self.assertEqual(b"SSH-2.0-Go\r\n", server.read(12))

    def test_network(self) -> None:
        """
        Where a client comes from decides, whatever it says.
        """
        self.come("127.0.0.7").send(b"\0\1\2")
        self.assertEqual(b"\0\1\2", self.chosen.accept().read(3))
        refused = self.come("127.0.0.8")
        self.assertEqual((b"", "ended"), (refused.readAll(), refused.how))
        self.assertEqual("the client connects, and rule 2 of the route refuses that", self.through.session()["reason"])
        self.assertFalse(self.others.waiting() or self.chosen.waiting())

    def test_otherFamily(self) -> None:
        """
        A rule for IPv4 is for no client that comes by IPv6.
        """
        with socket.create_connection(("::1", self.through.port("six"))) as client:
            client.send(b"six")
            self.assertEqual(b"six", self.others.accept().read(3))


class UnixTests(IntegrationTestCase):
    """
    Unix sockets on both sides.
    """

    def test_unix(self) -> None:
        """
        The hello is read, the bytes go through, and half-close is passed on.
        """
        far = socket.socket(socket.AF_UNIX)
        self.addCleanup(far.close)
        folder = Path(mkdtemp())  # Its name has to be short.
        self.addCleanup(shutil.rmtree, folder)
        far.bind(str(folder / "far"))
        far.listen()
        rule = {"sni": "localhost", "upstream": f"unix:{folder}/far"}
        route = {"mode": "passthrough", "listen": f"unix:{folder}/near", "rule": [rule]}
        for program in (TWISTD, COPYING):
            self.program = program
            through = self.proxy(route)
            near = socket.socket(socket.AF_UNIX)
            self.addCleanup(near.close)
            near.connect(str(folder / "near"))
            client = Talker(near)
            hello = buildClientHello([serverName(b"localhost")])
            for at in range(0, len(hello), 40):
                client.send(hello[at : at + 40])
            server = Talker(far.accept()[0])
            self.addCleanup(server.close)
            client.endWrite()
            self.assertEqual((hello, "ended"), (server.readAll(), server.how))
            data = os.urandom(1 << 20)
            with ThreadPoolExecutor(1) as pool:
                read = pool.submit(client.readAll)
                server.send(data)
                server.endWrite()
                self.assertEqual((data, "ended"), (read.result(), client.how))
            self.assertEqual("closed", through.session()["outcome"])
            through.end()
