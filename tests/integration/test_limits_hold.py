# -*- test-case-name: tests.integration.test_limits_hold -*-
"""
Limits hold, and neither what is beyond them nor a lack of descriptors harms who is inside.
"""

from __future__ import annotations

import os
import socket
import time

from tests.integration.running import waitUntil
from tests.integration.talking import Server, Talker, clientContext, connect, echo
from tests.integration.watched import WatchedProxyCase
from tlsproxy import splice
from tlsproxy.accepting import PAUSE


class ConnectionTests(WatchedProxyCase):
    """
    So many sessions at once.
    """

    def served(self, client: Talker) -> None:
        """
        A client is served.
        """
        client.send(b"x")
        self.assertEqual(b"x", client.read(1))

    def test_route(self) -> None:
        """
        Who is one too many for a route waits, and is served as soon as another has gone; nobody is turned away.
        """
        server = Server(self, echo)
        route = self.passthrough(server.port, require_tls=False, max_connections=3)
        proxy = self.watched(route, {**route, "name": "other", "max_connections": 0})
        clients = [connect(self, proxy.port("passthrough")) for _ in range(3)]
        for client in clients:
            self.served(client)
        waiting = [connect(self, proxy.port("passthrough")) for _ in range(4)]
        for client in waiting:
            client.send(b"y")
        self.served(connect(self, proxy.port("other")))
        state = self.state(proxy)
        self.assertEqual((3, 1), (state["routes"][0]["sessions"], state["process"]["ports_paused"]))
        for client in clients:
            client.close()
        for client in waiting[:3]:
            self.assertEqual(b"y", client.read(1))
        self.assertEqual(3, self.state(proxy)["routes"][0]["sessions"])
        waiting[0].close()
        self.assertEqual(b"y", waiting[3].read(1))
        self.assertGreaterEqual(self.reached(proxy)["max_connections"], 2)
        first, *_ = self.warnings(proxy)
        self.assertIn("route passthrough: 3 sessions are open, as many as max_connections allows", first)

    def test_unix(self) -> None:
        """
        So on a Unix socket.
        """
        server = Server(self, echo)
        route = self.passthrough(server.port, require_tls=False, max_connections=1, listen="unix:s")
        self.watched(route)
        clients = []
        for _ in range(3):
            sock = socket.socket(socket.AF_UNIX)
            self.addCleanup(sock.close)
            # The path may be longer than a Unix socket's may be.
            folder = os.open(self.folder, os.O_RDONLY)
            self.addCleanup(os.close, folder)
            sock.connect(f"/proc/self/fd/{folder}/s")
            clients.append(Talker(sock))
        for client in clients:
            self.served(client)
            client.close()

    def test_all(self) -> None:
        """
        So for all routes together.
        """
        server = Server(self, echo)
        route = self.passthrough(server.port, require_tls=False)
        proxy = self.watched(route, {**route, "name": "other"}, max_connections=2)
        one, two = connect(self, proxy.port("passthrough")), connect(self, proxy.port("other"))
        self.served(one)
        self.served(two)
        waiting = connect(self, proxy.port("passthrough"))
        waiting.send(b"y")
        waitUntil(lambda: self.state(proxy)["process"]["ports_paused"], "a pause")
        self.assertEqual(2, self.state(proxy)["process"]["sessions"])
        two.close()
        self.assertEqual(b"y", waiting.read(1))
        self.assertLessEqual(1, self.state(proxy)["process"]["limits_reached"]["max_connections"])


class NetworkTests(WatchedProxyCase):
    """
    So much for one client network.
    """

    def come(self, port: int, host: str) -> Talker:
        """
        Connect from an address.
        """
        sock = socket.create_connection(("127.0.0.1", port), 20, (host, 0))
        self.addCleanup(sock.close)
        return Talker(sock)

    def refused(self, port: int, host: str) -> bool:
        """
        Tell whether a client is reset before it says anything, which it may hear of while it still connects.
        """
        try:
            client = self.come(port, host)
            return client.readAll() == b"" and client.how == "reset"
        except ConnectionResetError:
            return True

    def letIn(self, port: int, host: str) -> bool:
        """
        Tell whether a client is served, and have it leave.
        """
        try:
            client = self.come(port, host)
            client.send(b"x")
            answer = client.read(1)
            client.close()
        except ConnectionError:
            return False
        return answer == b"x"

    def test_connections(self) -> None:
        """
        A network that has enough open is refused before its hello is even read; another is served; nothing is dialed.
        """
        server = Server(self, echo)
        proxy = self.watched(self.offload(server.port, max_client_connections=2, client_prefix_ipv4=24))
        port = proxy.port("offload")
        inside = [self.come(port, "127.0.1.1"), self.come(port, "127.0.1.2")]
        context = clientContext(self.certificates.ca)
        for client in inside:
            client.startTLS(context)
            client.send(b"x")
            self.assertEqual(b"x", client.read(1))
        self.assertTrue(self.refused(port, "127.0.1.3"))
        line = proxy.session()
        self.assertEqual(("refused", "route"), (line["outcome"], line["phase"]))
        self.assertEqual(
            "the client's network has 2 sessions open, as many as max_client_connections allows", line["reason"]
        )
        other = self.come(port, "127.0.2.1")
        other.startTLS(context)
        other.send(b"x")
        self.assertEqual(b"x", other.read(1))
        self.assertEqual({"max_client_connections": 1}, self.reached(proxy))
        inside[0].close()
        waitUntil(lambda: self.state(proxy)["routes"][0]["sessions"] == 2, "the end of a session")
        again = self.come(port, "127.0.1.3")
        again.startTLS(context)
        again.send(b"x")
        self.assertEqual(b"x", again.read(1))

    def test_balancer(self) -> None:
        """
        Behind a balancer, what counts is the address that it tells, and not its own.
        """
        server = Server(self, echo)
        limits = {"max_client_connections": 1, "accept_proxy": ["127.0.0.1"]}
        proxy = self.watched(self.passthrough(server.port, require_tls=False, **limits))
        port = proxy.port("passthrough")
        inside = []
        for host in ("192.0.2.1", "192.0.2.2"):
            client = self.come(port, "127.0.0.1")
            client.send(f"PROXY TCP4 {host} 198.51.100.1 50112 443\r\nx".encode())
            self.assertEqual(b"x", client.read(1))
            inside.append(client)
        beyond = self.come(port, "127.0.0.1")
        beyond.send(b"PROXY TCP4 192.0.2.1 198.51.100.1 50113 443\r\n")
        self.assertEqual((b"", "reset"), (beyond.readAll(), beyond.how))
        self.assertEqual({"max_client_connections": 1}, self.reached(proxy))

    def test_pace(self) -> None:
        """
        A network that begins too many is refused for a while, and then let in again.
        """
        server = Server(self, echo)
        route = self.passthrough(server.port, require_tls=False, max_client_handshakes=1)
        proxy = self.watched(route)
        port = proxy.port("passthrough")
        served = 0
        while self.letIn(port, "127.0.1.1"):
            served += 1
        # Five at once, and then one a second.
        self.assertGreaterEqual(served, 5)
        self.assertEqual({"max_client_handshakes": 1}, self.reached(proxy))
        self.assertTrue(self.letIn(port, "127.0.2.1"))
        waitUntil(lambda: self.letIn(port, "127.0.1.1"), "a client that is let in")


class DescriptorTests(WatchedProxyCase):
    """
    A process that runs out of descriptors.
    """

    def test_exhausted(self) -> None:
        """
        It does not spin: it looks a few times a second whether there are any, says so now and then, and serves who
        waits as soon as others have gone.  Then all are given back.
        """
        upstream = Server(self, echo)
        prefix = ("sh", "-c", 'ulimit -n 64 && exec "$@"', "sh")
        proxy = self.watched(self.passthrough(upstream.port, require_tls=False), prefix=prefix)
        port = proxy.port("passthrough")
        base = proxy.descriptors()
        began = time.monotonic()
        clients = [connect(self, port) for _ in range(100)]
        proxy.waitFor("clients cannot be accepted .Too many open files.")
        # The longer it lasts, the more it would have spun.
        busy = proxy.busy()
        time.sleep(1)
        self.assertLess(proxy.busy() - busy, 0.8)
        for client in clients:
            client.close()
        # Each pipe that is kept for the next use has two.
        waitUntil(lambda: proxy.descriptors() <= base + 2 * splice._IDLE, "the descriptors' return")
        lasted = time.monotonic() - began
        served = connect(self, port)
        self.addCleanup(served.close)
        waitUntil(lambda: self.state(proxy)["routes"][0]["sessions"] == 1, "a new session")
        reached = self.state(proxy)["process"]["limits_reached"]["descriptors"]
        # Two ports try, each once a pause.
        self.assertTrue(1 <= reached <= 2 * (lasted / PAUSE + 2), (reached, lasted))
        told = [warning for warning in self.warnings(proxy) if "cannot be accepted" in warning]
        self.assertLessEqual(len(told), lasted / 10 + 1)
        self.assertIn("raise the limit of open files (LimitNOFILE=, ulimit -n)", told[0])
        self.assertNotIn("EMFILE", proxy.text())
