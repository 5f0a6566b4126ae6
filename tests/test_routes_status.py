# -*- test-case-name: tests.test_routes_status -*-
"""
L{tlsproxy.routes}: limits, and where the state of the proxy is told.
"""

from __future__ import annotations

from typing import Any

from tests.configuring import ConfigurationTestCase
from tlsproxy.address import TCP, Endpoint, Unix


class StatusTests(ConfigurationTestCase):
    """
    Where the state of the proxy is told.
    """

    def status(self, status: Any, **more: Any) -> dict[str, Any]:
        """
        Make a document.
        """
        return self.document(**more) | {"proxy": {"status": status}}

    def test_private(self) -> None:
        """
        A port alone is one of loopback; that, a Unix socket and whatever else only this machine reaches needs no
        warning.
        """
        for text, where in (
            ("9090", TCP("127.0.0.1", 9090)),
            ("localhost:9090", TCP("localhost", 9090)),
            ("[::1]:9090", TCP("::1", 9090)),
            ("unix:/run/status", Unix("/run/status")),
            ("tcp:9090:interface=127.0.0.1", Endpoint("tcp:9090:interface=127.0.0.1")),
        ):
            configuration = self.build(self.status(text))
            self.assertEqual((where, ()), (configuration.status, configuration.warnings))
        self.assertIsNone(self.build(self.document()).status)

    def test_public(self) -> None:
        """
        Another address has to be spelled out, and is warned of.
        """
        for text in ("0.0.0.0:9090", "[::]:9090", "192.0.2.1:9090", "tcp:9090"):
            configuration = self.build(self.status(text))
            self.assertEqual(text, str(configuration.status))
            self.assertEqual(
                (f"status: whoever reaches {text} sees your routes, upstreams and certificates",),
                configuration.warnings,
            )

    def test_wrong(self) -> None:
        """
        What is no address, or is taken by a route, is told at its key.
        """
        self.assertProblem("proxy.status", "names no port", self.status("localhost"))
        self.assertProblem("proxy.status", "give a string, not a number", self.status(9090))
        self.assertProblem(
            "proxy.status", "127.0.0.1:8443 is taken by 8443 of route bridge", self.status("8443", listen="8443")
        )


class LimitTests(ConfigurationTestCase):
    """
    Limits of sessions.
    """

    def test_read(self) -> None:
        """
        They come to the route; without them there are none.
        """
        keys = ("maxConnections", "maxClientConnections", "maxClientHandshakes", "clientPrefixIpv4", "clientPrefixIpv6")
        (route,) = self.build(self.document()).routes
        self.assertEqual([0, 0, 0, 32, 64], [getattr(route, key) for key in keys])
        (route,) = self.build(
            self.document(
                max_connections=1,
                max_client_connections=2,
                max_client_handshakes=3,
                client_prefix_ipv4=24,
                client_prefix_ipv6=48,
            )
        ).routes
        self.assertEqual([1, 2, 3, 24, 48], [getattr(route, key) for key in keys])

    def test_wrong(self) -> None:
        """
        What is no count, or none that can be, is told in a sentence.
        """
        for key, value, sentence in (
            ("max_connections", -1, "give a whole number, 0 for no limit, not -1"),
            ("max_connections", 2.5, "give a whole number, 0 for no limit, not 2.5"),
            ("max_connections", "many", "give a whole number, 0 for no limit, not the string 'many'"),
            ("max_connections", True, "give a whole number, 0 for no limit, not true or false"),
            ("max_connections", 10**10, "give a whole number, 0 for no limit, not 10000000000"),
            ("client_prefix_ipv4", 0, "give a whole number, 1 to 32, not 0"),
            ("client_prefix_ipv4", 33, "give a whole number, 1 to 32, not 33"),
            ("client_prefix_ipv6", 129, "give a whole number, 1 to 128, not 129"),
        ):
            self.assertProblem(f"route[0].{key}", sentence, self.document(**{key: value}))
