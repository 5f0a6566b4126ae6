# -*- test-case-name: tests.test_listening -*-
"""
L{tlsproxy.listening}: which routes can stand beside each other, and who reaches them.
"""

from __future__ import annotations

from typing import Any

from tests.configuring import ConfigurationTestCase


class ClashTests(ConfigurationTestCase):
    """
    Routes that cannot stand beside each other.
    """

    def two(self, first: str, second: str) -> dict[str, Any]:
        """
        Two routes, which listen on these.
        """
        routes = [self.document(name=name, listen=listen)["route"][0] for name, listen in (("a", first), ("b", second))]
        return {"route": routes}

    def test_taken(self) -> None:
        """
        A port of a host cannot be taken twice, nor one of all hosts beside one of any.
        """
        for first, second in (
            ("8443", "8443"),
            ("8443", "127.0.0.1:8443"),
            ("[::1]:8443", "8443"),
            ("host.example:8443", "8443"),
            ("host.example:8443", "HOST.example:8443"),
            ("0.0.0.0:8443", "127.0.0.1:8443"),
            ("[::]:8443", "[::1]:8443"),
            ("[0:0::1]:8443", "[::1]:8443"),
            ("unix:x", f"unix:{self.folder}/x"),
            ("tcp:8443", "tcp:8443"),
        ):
            problems = self.problems(self.two(first, second))
            self.assertEqual(["route[1].listen"], list(problems))
            self.assertIn("of route a", problems["route[1].listen"])

    def test_free(self) -> None:
        """
        Other ports, other hosts, other families, and ports that the kernel chooses are no clash.
        """
        for first, second in (
            ("8443", "8444"),
            ("127.0.0.1:8443", "127.0.0.2:8443"),
            ("127.0.0.1:8443", "[::1]:8443"),
            ("0.0.0.0:8443", "[::]:8443"),
            ("a.example:8443", "b.example:8443"),
            ("0", "0"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("unix:x", "unix:y"),
        ):
            self.assertEqual(2, len(self.build(self.two(first, second)).routes))
