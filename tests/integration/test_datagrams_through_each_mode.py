# -*- test-case-name: tests.integration.test_datagrams_through_each_mode -*-
"""
C{openssl s_client} and C{s_server}, C{gnutls-cli} and C{gnutls-serv}, and plain sockets talk through each mode with
DTLS.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from threading import Thread
from typing import Any

from tests.integration.ports import isBound
from tests.integration.running import PATIENCE, Child, IntegrationTestCase, freePort, waitUntil
from tests.peers import requirePeer

LOOPBACK = "127.0.0.1"


class Echo:
    """
    Sends all datagrams back.

    @ivar port: Where it is.
    @ivar peers: Who has sent something.
    """

    def __init__(self, case: IntegrationTestCase) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((LOOPBACK, 0))
        self.port = self._socket.getsockname()[1]
        self.peers: set[Any] = set()
        thread = Thread(target=self._run, daemon=True)
        thread.start()
        case.addCleanup(thread.join)
        case.addCleanup(self._stop)

    def _run(self) -> None:
        while True:
            data, address = self._socket.recvfrom(65536)
            if data == b"stop" and address[1] == self.port:
                self._socket.close()
                return
            self.peers.add(address)
            self._socket.sendto(data, address)

    def _stop(self) -> None:
        self._socket.sendto(b"stop", (LOOPBACK, self.port))


class DatagramTestCase(IntegrationTestCase):
    """
    A test with datagrams.
    """

    def routes(self, *routes: dict[str, Any]) -> list[dict[str, Any]]:
        """
        Have routes listen for datagrams, and dial where datagrams are taken.
        """
        return [{**route, "listen": f"udp:{LOOPBACK}:0", "upstream": f"udp:{route['upstream']}"} for route in routes]

    def plain(self, port: int) -> socket.socket:
        """
        Make a client in clear.
        """
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(client.close)
        client.settimeout(PATIENCE)
        client.connect((LOOPBACK, port))
        return client

    def assertEchoed(self, client: socket.socket, data: bytes) -> None:
        """
        Assert that a datagram comes back as it is.
        """
        client.send(data)
        self.assertEqual(client.recv(65536), data)

    def openssl(self, port: int, *options: str) -> Child:
        """
        Start C{openssl s_client}.
        """
        trust = ["-CAfile", str(self.certificates.ca), "-verify_return_error", "-verify_hostname", "localhost"]
        where = ["-connect", f"{LOOPBACK}:{port}", "-servername", "localhost"]
        command = [requirePeer("openssl"), "s_client", "-dtls", *where, *trust, *options]
        return Child(self, self.folder, f"s_client{port}", command, spoken=True)

    def gnutls(self, port: int, *options: str) -> Child:
        """
        Start C{gnutls-cli}.
        """
        trust = [f"--x509cafile={self.certificates.ca}", "--verify-hostname=localhost", "--sni-hostname=localhost"]
        command = [requirePeer("gnutls-cli"), "--udp", *trust, "--port", str(port), *options, LOOPBACK]
        return Child(self, self.folder, f"gnutls-cli{port}", command, spoken=True)

    def say(self, child: Child, text: str) -> None:
        """
        Type something.
        """
        assert child.process.stdin is not None
        child.process.stdin.write(text.encode())
        child.process.stdin.flush()


class OffloadTests(DatagramTestCase):
    """
    Clients with DTLS, and an upstream without.
    """

    def echoed(self, start: Callable[[int], Child], begun: str) -> dict[str, str]:
        """
        Have a client hear what it says.

        @param begun: What it prints once the handshake is done.
        @return: What is told of the session.
        """
        proxy = self.proxy(*self.routes(self.offload(Echo(self).port)))
        client = start(proxy.port("offload"))
        client.waitFor(begun)
        for word in ("hello", "again"):
            self.say(client, f"{word}\n")
            client.waitFor(rf"(?m)^{word}\r?$")
        assert client.process.stdin is not None
        client.process.stdin.close()
        client.process.wait(PATIENCE)
        return proxy.session()

    def test_openssl(self) -> None:
        """
        C{openssl s_client} verifies us, is heard, and ends the session by its close_notify.
        """
        session = self.echoed(self.openssl, "Verify return code: 0")
        self.assertEqual((session["outcome"], session["received"], session["sent"]), ("closed", "12", "12"))
        self.assertEqual((session["sni"], session["versions"]), ("localhost", "dtls1.2"))
        self.assertTrue(session["tls"].startswith("DTLSv1.2/ECDHE-ECDSA-AES"), session["tls"])

    def test_gnutls(self) -> None:
        """
        So does C{gnutls-cli}.
        """
        session = self.echoed(self.gnutls, "Handshake was completed")
        self.assertEqual((session["outcome"], session["received"]), ("closed", "12"))

    def test_smallPath(self) -> None:
        """
        A handshake gets through in small datagrams, and so does what fits into them.
        """
        route = {**self.offload(Echo(self).port), "mtu": 300}
        proxy = self.proxy(*self.routes(route))
        client = self.openssl(proxy.port("offload"), "-mtu", "300")
        client.waitFor("Verify return code: 0")
        self.say(client, "hello\n")
        client.waitFor("(?m)^hello\r?$")

    def test_clientCertificates(self) -> None:
        """
        A certificate is demanded, verified and told of; without one a client is told by an alert.
        """
        tls = {"client_ca": str(self.certificates.ca)}
        proxy = self.proxy(*self.routes(self.offload(Echo(self).port, tls=tls)))
        mine = str(self.certificates.issue("client", commonName="somebody"))
        client = self.openssl(proxy.port("offload"), "-cert", mine, "-key", mine)
        client.waitFor("Verify return code: 0")
        self.say(client, "hello\n")
        client.waitFor("(?m)^hello\r?$")
        client.process.kill()
        other = Child(
            self,
            self.folder,
            "without",
            [requirePeer("openssl"), "s_client", "-dtls", "-connect", f"{LOOPBACK}:{proxy.port('offload')}"],
        )
        other.waitFor("alert handshake failure|alert number 40")
        session = proxy.session()
        self.assertEqual((session["outcome"], session["phase"]), ("failed", "handshake"))
        self.assertIn("showed no certificate", session["reason"])

    def test_many(self) -> None:
        """
        Each client has its own way to the upstream.
        """
        echo = Echo(self)
        proxy = self.proxy(*self.routes(self.offload(echo.port)))
        clients = []
        for number in range(8):
            client = self.gnutls(proxy.port("offload"))
            clients.append(client)
            client.waitFor("Handshake was completed")
            self.say(client, f"number {number}\n")
            client.waitFor(f"(?m)^number {number}\r?$")
        self.assertEqual(len(echo.peers), 8)

    def test_nobodyThere(self) -> None:
        """
        Where nobody listens, that is counted as nothing, and a client can go on once somebody does.
        """
        port = freePort()
        proxy = self.proxy(*self.routes(self.offload(port)))
        client = self.openssl(proxy.port("offload"))
        client.waitFor("Verify return code: 0")
        self.say(client, "lost\n")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as late:
            late.bind((LOOPBACK, port))
            late.settimeout(PATIENCE)
            self.say(client, "hello\n")
            data = b""
            while not data.endswith(b"hello\n"):
                data, address = late.recvfrom(100)
            late.sendto(b"hello yourself\n", address)
            client.waitFor("hello yourself")


class EncryptTests(DatagramTestCase):
    """
    Clients without DTLS, and an upstream with it.
    """

    def upstream(self, name: str, command: list[str], begun: str) -> Child:
        """
        Start a server.
        """
        server = Child(self, self.folder, name, command, spoken=True)
        server.waitFor(begun)
        return server

    def test_openssl(self) -> None:
        """
        C{openssl s_server} hears a client, and is heard; its end ends the session.
        """
        port = freePort()
        options = ["-cert", str(self.pem), "-key", str(self.pem), "-accept", f"{LOOPBACK}:{port}", "-quiet"]
        server = Child(self, self.folder, "server", [requirePeer("openssl"), "s_server", "-dtls", *options], True)
        self.waitBound(port)
        proxy = self.proxy(*self.routes(self.encrypt(port)))
        client = self.plain(proxy.port("encrypt"))
        client.send(b"hello\n")
        server.waitFor("hello")
        self.say(server, "hello yourself\n")
        self.assertEqual(client.recv(100), b"hello yourself\n")

    def waitBound(self, port: int) -> None:
        """
        Wait until somebody has a UDP port.
        """
        waitUntil(lambda: isBound(port), f"the server at UDP port {port}")

    def test_gnutls(self) -> None:
        """
        C{gnutls-serv} echoes what it hears.
        """
        port = freePort()
        files = [f"--x509certfile={self.pem}", f"--x509keyfile={self.pem}"]
        command = [requirePeer("gnutls-serv"), "--udp", "--echo", "--port", str(port), *files]
        Child(self, self.folder, "gnutls-serv", command)
        self.waitBound(port)
        proxy = self.proxy(*self.routes(self.encrypt(port)))
        self.assertEchoed(self.plain(proxy.port("encrypt")), b"hello\n")

    def test_otherName(self) -> None:
        """
        An upstream with another name is refused, and the log says so.
        """
        port = freePort()
        options = ["-cert", str(self.pem), "-key", str(self.pem), "-accept", f"{LOOPBACK}:{port}"]
        Child(self, self.folder, "server", [requirePeer("openssl"), "s_server", "-dtls", *options], True)
        self.waitBound(port)
        proxy = self.proxy(*self.routes(self.encrypt(port, upstream_tls={"name": "shop.example"})))
        self.plain(proxy.port("encrypt")).send(b"hello")
        session = proxy.session()
        self.assertEqual((session["outcome"], session["phase"]), ("failed", "upstream_handshake"))
        self.assertIn("the upstream's certificate is refused: it is not for shop.example", session["reason"])

    def test_nobodyThere(self) -> None:
        """
        An upstream that is not there fails the session at once.
        """
        proxy = self.proxy(*self.routes(self.encrypt(freePort())))
        self.plain(proxy.port("encrypt")).send(b"hello")
        session = proxy.session()
        self.assertIn("the upstream does not take datagrams: nobody listens there", session["reason"])


class GatewayTests(DatagramTestCase):
    """
    A plain protocol through C{encrypt}, C{bridge} and C{offload}.
    """

    def test_chain(self) -> None:
        """
        Datagrams of all sizes come back as they were, in both families, and all sessions end with the first.
        """
        echo = Echo(self)
        black = self.proxy(*self.routes(self.offload(echo.port)))
        (middle,) = self.routes(self.bridge(black.port("offload")))
        bridge = self.proxy({**middle, "listen": "udp:0"})
        red = self.proxy(*self.routes(self.encrypt(bridge.port("bridge"), limits={"idle": 2})))
        client = self.plain(red.port("encrypt"))
        for size in (1, 2, 100, 1163, 1164, 5000, 16384):
            self.assertEchoed(client, bytes([size & 255]) * size)
        client.send(bytes(16385))
        self.assertEchoed(client, b"after what was too large")
        sessions = [proxy.session() for proxy in (red, bridge, black)]
        self.assertEqual([session["outcome"] for session in sessions], ["expired", "closed", "closed"])
        self.assertEqual(len({session["received"] for session in sessions}), 1)
        self.assertTrue(re.search("a datagram of 16385 bytes to the upstream is dropped", red.text()))

    def test_stop(self) -> None:
        """
        A proxy that is stopped tells those that it talks with.
        """
        echo = Echo(self)
        black = self.proxy(*self.routes(self.offload(echo.port)))
        red = self.proxy(*self.routes(self.encrypt(black.port("offload"))))
        self.assertEchoed(self.plain(red.port("encrypt")), b"hello")
        red.process.terminate()
        red.waitFor("stopping: waits")
        red.process.terminate()
        self.assertEqual(black.session()["outcome"], "closed")


class PassthroughTests(DatagramTestCase):
    """
    Clients whose DTLS is the upstream's.
    """

    def test_names(self) -> None:
        """
        The server name chooses among upstreams, and nothing is decrypted on the way.
        """
        echo = Echo(self)
        shop = self.certificates.issue("shop", ["shop.example"])
        (first,) = self.routes(self.offload(echo.port))
        (second,) = self.routes({**self.offload(echo.port), "name": "shop", "tls": {"cert": str(shop)}})
        origins = self.proxy(first, second)
        rules = [
            {"sni": ["localhost"], "upstream": f"udp:{LOOPBACK}:{origins.port('offload')}"},
            {"sni": ["shop.example"], "upstream": f"udp:{LOOPBACK}:{origins.port('shop')}"},
        ]
        proxy = self.proxy({"mode": "passthrough", "listen": f"udp:{LOOPBACK}:0", "rule": rules})
        client = self.openssl(proxy.port("passthrough"))
        client.waitFor("Verify return code: 0")
        self.say(client, "hello\n")
        client.waitFor("(?m)^hello\r?$")
        other = self.gnutls(proxy.port("passthrough"), "--verify-hostname=shop.example", "--sni-hostname=shop.example")
        other.waitFor("Handshake was completed")
        self.say(other, "hello\n")
        other.waitFor("(?m)^hello\r?$")
