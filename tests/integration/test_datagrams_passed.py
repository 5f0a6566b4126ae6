# -*- test-case-name: tests.integration.test_datagrams_passed -*-
"""
DTLS of C{openssl} and C{gnutls} is passed on to the server that the hello asks for, whatever the network does; and
nobody can have much sent to somebody else.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable
from pathlib import Path
from random import Random
from select import select
from threading import Thread
from typing import Any

from tests.integration.ports import isBound
from tests.integration.running import PATIENCE, Child, IntegrationTestCase, freePort, waitUntil
from tests.integration.test_datagrams_from_anybody import firstHello
from tests.integration.test_datagrams_through_each_mode import LOOPBACK, DatagramTestCase
from tests.peers import requirePeer
from tlsproxy.datagram.proof import FACTOR
from tlsproxy.wire.dtlshello import helloVerifyRequest, readHello

MANY = 6_000


class Lossy:
    """
    A network between one client and a server that loses, doubles and exchanges datagrams.

    @ivar port: Where the client sends to.
    """

    def __init__(self, case: IntegrationTestCase, server: int, loss: float) -> None:
        self._random = Random(7)
        self._loss = loss
        self._near, self._far = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        self._near.bind((LOOPBACK, 0))
        self._far.connect((LOOPBACK, server))
        self.port = self._near.getsockname()[1]
        self._over = False
        thread = Thread(target=self._run, daemon=True)
        thread.start()
        case.addCleanup(thread.join)
        case.addCleanup(self._stop)

    def _stop(self) -> None:
        self._over = True

    def _run(self) -> None:
        client: Any = None
        late: dict[socket.socket, bytes] = {}
        with self._near, self._far:
            while not self._over:
                for sock in select([self._near, self._far], [], [], 0.1)[0]:
                    with contextlib.suppress(OSError):
                        datagram, address = sock.recvfrom(65536)
                        if sock is self._near:
                            client = address
                        fate = self._random.random()
                        if fate < self._loss:
                            continue
                        if fate > 0.95:
                            late[sock] = datagram
                            continue
                        for one in (datagram, *([datagram] if fate > 0.9 else []), late.pop(sock, b"")):
                            if one and sock is self._near:
                                self._far.send(one)
                            elif one:
                                self._near.sendto(one, client)


class Asking:
    """
    An upstream that asks everybody for a cookie and, if it is told to, shouts.

    @ivar port: Where it is.
    @ivar heard: How many datagrams it has got.
    """

    def __init__(self, case: IntegrationTestCase, shouts: int = 0) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((LOOPBACK, 0))
        self._socket.settimeout(0.2)
        self.port = self._socket.getsockname()[1]
        self.heard = 0
        self._shouts = shouts
        self._over = False
        thread = Thread(target=self._run, daemon=True)
        thread.start()
        case.addCleanup(thread.join)
        case.addCleanup(self._stop)

    def _stop(self) -> None:
        self._over = True

    def _run(self) -> None:
        with self._socket:
            while not self._over:
                with contextlib.suppress(OSError):
                    datagram, address = self._socket.recvfrom(65536)
                    self.heard += 1
                    self._socket.sendto(helloVerifyRequest(readHello(datagram), b"cookie"), address)
                    for _ in range(self._shouts):
                        self._socket.sendto(b"\x16\xfe\xfd" + bytes(8) + b"\1\x1f\x0b" + bytes(286), address)


class PassedTestCase(DatagramTestCase):
    """
    A test with servers of DTLS behind a route that decrypts nothing.
    """

    def server(self, name: str, *options: str) -> int:
        """
        Start C{openssl s_server}.

        @return: Its port.
        """
        port, pem = freePort(), str(self.certificates.issue(name, [name]))
        where = ["-accept", f"{LOOPBACK}:{port}", "-cert", pem, "-key", pem]
        self.children[name] = Child(
            self,
            self.folder,
            name,
            [requirePeer("openssl"), "s_server", "-dtls", "-quiet", *where, *options],
            spoken=True,
        )
        self.waitBound(port)
        return port

    def setUp(self) -> None:
        """
        Note who is there.
        """
        super().setUp()
        self.children: dict[str, Child] = {}

    def waitBound(self, port: int) -> None:
        """
        Wait until somebody has a UDP port.
        """
        waitUntil(lambda: isBound(port), f"the server at UDP port {port}")

    def serve(self, upstream: int, **more: Any) -> None:
        """
        Pass everything on to one upstream.
        """
        self.serving = self.proxy(*self.routes(self.passthrough(upstream, **more)))
        self.port = self.serving.port("passthrough")

    def assertTalk(self, client: Child, server: Child) -> None:
        """
        Assert that both hear each other.
        """
        self.say(client, "hello\n")
        server.waitFor("(?m)^hello\r?$")
        self.say(server, "hello yourself\n")
        client.waitFor("(?m)^hello yourself\r?$")


class PeersTests(PassedTestCase):
    """
    Real clients and servers.
    """

    def test_openssl(self) -> None:
        """
        C{openssl s_client} and C{s_server} talk, with cookies; the line tells what was passed on.
        """
        self.serve(self.server("localhost", "-listen"), limits={"idle": 2})
        client = self.openssl(self.port)
        client.waitFor("Verify return code: 0")
        self.assertTalk(client, self.children["localhost"])
        session = self.serving.session()
        self.assertEqual((session["outcome"], session["phase"], session["sni"]), ("expired", "idle", "localhost"))
        self.assertTrue(session["ja4"].startswith("dd2d"), session["ja4"])
        self.assertTrue(int(session["received"]) > 600 and int(session["sent"]) > 600, session)

    def test_withoutCookies(self) -> None:
        """
        So they do without, though it may take the client a second hello.
        """
        self.serve(self.server("localhost"))
        client = self.openssl(self.port)
        client.waitFor("Verify return code: 0")
        self.assertTalk(client, self.children["localhost"])

    def test_fragments(self) -> None:
        """
        A hello in fragments reaches the server that it asks for.
        """
        here, there = self.server("localhost"), self.server("shop.example")
        rules = [
            {"sni": ["shop.example"], "upstream": f"udp:{LOOPBACK}:{there}"},
            {"sni": ["localhost"], "alpn": ["coap"], "upstream": f"udp:{LOOPBACK}:{here}"},
        ]
        self.serving = self.proxy({"mode": "passthrough", "listen": f"udp:{LOOPBACK}:0", "rule": rules})
        names = ",".join([f"protocol-number-{number}" for number in range(30)] + ["coap"])
        client = self.openssl(self.serving.port("passthrough"), "-alpn", names, "-mtu", "256")
        client.waitFor("Verify return code: 0")
        self.assertTalk(client, self.children["localhost"])

    def test_gnutls(self) -> None:
        """
        C{gnutls-cli} and C{gnutls-serv} talk.
        """
        port = freePort()
        files = [f"--x509certfile={self.pem}", f"--x509keyfile={self.pem}"]
        command = [requirePeer("gnutls-serv"), "--udp", "--echo", "--port", str(port), *files]
        Child(self, self.folder, "gnutls-serv", command)
        self.waitBound(port)
        self.serve(port)
        client = self.gnutls(self.port)
        client.waitFor("Handshake was completed")
        self.say(client, "hello\n")
        client.waitFor("(?m)^hello\r?$")

    def test_loss(self) -> None:
        """
        A handshake comes about where a quarter of all datagrams is lost and others come twice or late.
        """
        self.serve(self.server("localhost", "-listen"), limits={"handshake": 60})
        client = self.openssl(Lossy(self, self.port, 0.25).port)
        client.waitFor("Verify return code: 0", 2 * PATIENCE)

    def test_nobodyThere(self) -> None:
        """
        An upstream that is not there fails the session at once.
        """
        self.serve(freePort())
        self.openssl(self.port)
        session = self.serving.session()
        self.assertEqual((session["outcome"], session["phase"]), ("failed", "handshake"))
        self.assertIn("nobody listens there", session["reason"])


class FloodTests(PassedTestCase):
    """
    Very many who show nothing.
    """

    def send(self, datagram: bytes, number: int) -> None:
        """
        Send something from one of very many addresses.
        """
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((f"127.{1 + (number >> 14 & 63)}.{number >> 7 & 127}.{1 + (number & 127)}", 0))
            sock.sendto(datagram, (LOOPBACK, self.port))

    def drained(self) -> bool:
        """
        Tell whether the proxy has taken all that waits in the kernel, which drops what is too much.
        """
        tables = [Path(f"/proc/net/{kind}").read_text() for kind in ("udp", "udp6")]
        lines = [line.split() for table in tables for line in table.splitlines()]
        here = f":{self.port:04X}"
        return all(line[4].endswith(":00000000") for line in lines if line[1].endswith(here))

    def flood(self, datagram: bytes, numbers: Iterable[int]) -> None:
        """
        Send something from very many addresses, in portions for which the kernel has room, so that none is dropped.
        """
        for number in numbers:
            self.send(datagram, number)
            if number % 100 == 99:
                waitUntil(self.drained, "the end of the flood")

    def test_flood(self) -> None:
        """
        Hellos from many addresses cost no more memory and descriptors than some do; who was there stays.
        """
        echo = self.server("localhost", "-listen")
        asking = Asking(self)
        rules = [{"sni": ["localhost"], "upstream": f"udp:{LOOPBACK}:{echo}"}]
        route = {**self.passthrough(asking.port), "rule": []}
        (served,) = self.routes(route)
        self.serving = self.proxy({**served, "rule": rules})
        self.port = self.serving.port("passthrough")
        client = self.openssl(self.port)
        client.waitFor("Verify return code: 0")
        hello = firstHello()
        self.flood(hello, range(MANY))
        descriptors, memory = self.serving.descriptors(), self.serving.resident()
        self.assertTrue(descriptors < 256 + 60, descriptors)
        self.flood(hello, range(MANY, 2 * MANY))
        self.assertTalk(client, self.children["localhost"])
        waitUntil(lambda: asking.heard >= 250, "what is asked by those for whom there is room")
        self.assertTrue(self.serving.resident() - memory < 4 << 20, self.serving.resident() - memory)
        self.assertTrue(self.serving.descriptors() < 256 + 60)
        self.assertTrue(len(self.serving.sessions()) < MANY // 10)

    def test_amplification(self) -> None:
        """
        Whoever shows nothing is sent at most a few times what came in its name.
        """
        self.serve(Asking(self, shouts=100).port)
        hello = firstHello()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((LOOPBACK, self.port))
            sock.settimeout(0.5)
            got = sent = 0
            for _ in range(3):
                sock.send(hello)
                sent += len(hello)
                with contextlib.suppress(TimeoutError):
                    while True:
                        got += len(sock.recv(65536))
                        self.assertTrue(got <= FACTOR * sent, (got, sent))
            self.assertTrue(got > sent, (got, sent))
