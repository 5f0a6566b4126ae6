"""
Tests of L{tlsproxy.following}.
"""

from __future__ import annotations

from tests.tunneling import TunnelCase


class Both(TunnelCase):
    """
    Two proxies.
    """

    def exchange(self, version: str, agreed: str, off: str) -> None:
        """
        A page of some size goes through, both ways.
        """
        browser, _ = self.both(version, agreed=agreed)
        self.settle(lambda: browser.ready)
        (origin,) = self.origins.peers
        self.settle(lambda: origin.ready)
        for number in range(20):
            browser.write(b"q" * 10000)
            origin.write(b"a" * 30000)
            self.settle(lambda: len(origin.received) == 10000 * (number + 1))
        self.settle(lambda: len(browser.received) == 600000)
        browser.end()
        origin.end()
        self.settle()
        self.assertEqual(2, len(self.told()))
        for line in self.told():
            self.assertEqual(("closed", off), (line["outcome"], line["downgrade"]), line["reason"])

    def test_handshake(self) -> None:
        """
        TLS comes off.
        """
        self.exchange("TLSv1.3", "handshake", "handshake")

    def test_handshake12(self) -> None:
        """
        With TLS 1.2 inside, too.
        """
        self.exchange("TLSv1.2", "handshake", "handshake")

    def test_none(self) -> None:
        """
        TLS stays.
        """
        self.exchange("TLSv1.3", "none", "none")

    def test_connect(self) -> None:
        """
        TLS comes off at once.
        """
        self.exchange("TLSv1.3", "connect", "connect")
