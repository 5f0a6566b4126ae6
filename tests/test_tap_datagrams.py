# -*- test-case-name: tests.test_tap_datagrams -*-
"""
C{--listen udp:PORT}, and nothing else.
"""

from __future__ import annotations

from tests.test_tap import CommandLineTestCase
from tlsproxy.address import UDP


class DemoTests(CommandLineTestCase):
    """
    The demos over datagrams.
    """

    def test_demoOverDatagrams(self) -> None:
        """
        With a UDP port and nothing else a mode that has DTLS runs a demo over that, beside what any demo takes.
        """
        for mode in ("offload", "encrypt", "bridge"):
            options = self.parse("--mode", mode, "--listen=udp:0", "--state-dir=own", "--limit=idle=5")
            assert options.configuration is not None and options.demo is not None
            self.addCleanup(options.demo.close)
            route = options.configuration.routes[0]
            assert isinstance(route.listen, UDP)
            self.assertEqual((mode, "127.0.0.1", 5.0), (route.name, route.listen.host, route.limits.idle))

    def test_noDemoElsewhere(self) -> None:
        """
        Wherever else a mode is told to listen, and in modes without DTLS, it has to be told the rest, too.
        """
        for mode, listen in (("bridge", "udp:127.0.0.1:8443"), ("bridge", "8443"), ("passthrough", "udp:8443")):
            self.assertTrue(self.refused(1, "--mode", mode, "--listen", listen))
        self.assertTrue(self.refused(1, "--mode=offload", "--listen=udp:8443", "--mtu=1200"))
