# -*- test-case-name: tests.test_datagramdemo -*-
"""
What a mode does when it is told no more than a UDP port.
"""

from __future__ import annotations

import shlex
from typing import Any

from twisted.internet.testing import StringTransport

from tests.configuring import ConfigurationTestCase
from tlsproxy.address import UDP
from tlsproxy.config import build
from tlsproxy.datagramdemo import DatagramDemo, Echo, findDemo
from tlsproxy.demo import Demo
from tlsproxy.testing.certificates import NOW
from tlsproxy.tls.files import CertificateProblem

MODES = ("offload", "encrypt", "bridge")


class Recorded(StringTransport):
    """
    A transport of datagrams that keeps what is sent.
    """

    def __init__(self) -> None:
        super().__init__()
        self.datagrams: list[tuple[bytes, Any]] = []

    def write(self, data: bytes, addr: Any = None) -> None:
        """
        Keep it.
        """
        self.datagrams.append((data, addr))


class DatagramDemoTests(ConfigurationTestCase):
    """
    The demo of each mode over datagrams.
    """

    def demo(self, mode: str, listen: str = "udp:0") -> DatagramDemo:
        """
        Find a demo, in a state directory of its own.
        """
        demo = findDemo(mode, listen, self.folder / "state", NOW)
        assert isinstance(demo, DatagramDemo)
        self.addCleanup(demo.close)
        return demo

    def command(self, demo: DatagramDemo) -> list[str]:
        """
        The words of the line to paste, without what is said.
        """
        (line,) = (line for line in demo.lines if line.startswith("  "))
        said, _, command = line.strip().partition(" | ")
        self.assertEqual("(echo hello; sleep 1)", said)
        return shlex.split(command)

    def test_good(self) -> None:
        """
        Each demo is a good configuration without a warning: its route first, all on loopback, with the limits given.
        """
        for mode in MODES:
            configuration = build(self.demo(mode).document({"idle": 7}), self.folder, NOW)
            self.assertEqual((), configuration.warnings)
            first = configuration.routes[0]
            self.assertEqual((mode, mode, 7.0), (first.name, first.pattern.mode, first.limits.idle))
            for route in configuration.routes:
                upstream: Any = route.pattern
                for address in (route.listen, upstream.upstream):
                    assert isinstance(address, UDP)
                    self.assertEqual("127.0.0.1", address.host)
                    self.assertNotEqual(0, address.port)

    def test_command(self) -> None:
        """
        The line to paste asks the address that the route listens on, and trusts what it meets there.
        """
        for mode in MODES:
            demo = self.demo(mode, "udp:8443")
            words = self.command(demo)
            route = build(demo.document({}), self.folder, NOW).routes[0]
            self.assertEqual(UDP("127.0.0.1", 8443), route.listen)
            if mode == "encrypt":
                self.assertEqual(["nc", "-u", "-w", "1", "127.0.0.1", "8443"], words)
            else:
                self.assertEqual(["openssl", "s_client", "-dtls"], words[:3])
                self.assertEqual("127.0.0.1:8443", words[words.index("-connect") + 1])
                self.assertIn("-verify_return_error", words)
                self.assertIn(b"BEGIN CERTIFICATE", open(words[words.index("-CAfile") + 1], "rb").read())

    def test_which(self) -> None:
        """
        Nothing but a UDP port, in a mode that has DTLS, is one over datagrams; nothing at all is one over streams.
        """
        state = self.folder / "state"
        streams = findDemo("connect", "", state, NOW)
        assert isinstance(streams, Demo)
        self.addCleanup(streams.close)
        for mode in MODES:
            for listen in ("udp:127.0.0.1:1", "udp::1", "udp:65536", "udp:", "1", "udp:1 ", "udp:٣"):
                self.assertIsNone(findDemo(mode, listen, state, NOW), listen)
        for mode in ("passthrough", "connect", "sequential-server", "sequential-client"):
            self.assertIsNone(findDemo(mode, "udp:1", state, NOW))

    def test_words(self) -> None:
        """
        What is printed says which mode it is, and what to do.
        """
        for mode in MODES:
            demo = self.demo(mode)
            self.assertIn(f"Demo of mode {mode} over UDP", demo.lines[0])
            self.assertEqual("Paste this into another terminal:", demo.lines[1])

    def test_held(self) -> None:
        """
        Routes stay as they are.
        """
        demo = self.demo("bridge")
        routes = build(demo.document({}), self.folder, NOW).routes
        self.assertEqual(routes, demo.held(routes))

    def test_stateUnusable(self) -> None:
        """
        A state directory that cannot be used is told with one sentence that names it.
        """
        path = self.folder / "plain"
        path.write_text("")
        problem = str(self.assertRaises(CertificateProblem, findDemo, "bridge", "udp:0", path, NOW))
        self.assertIn(str(path), problem)

    def test_echo(self) -> None:
        """
        The origin sends each datagram back as it is, to where it came from.
        """
        transport: Any = Recorded()
        echo = Echo()
        echo.transport = transport
        sent = [(b"hello", ("127.0.0.1", 5)), (b"", ("127.0.0.1", 6))]
        for data, address in sent:
            echo.datagramReceived(data, address)
        self.assertEqual(sent, transport.datagrams)
