"""
L{tlsproxy.patterns.sequentialclient}: what becomes of tunnels when the mapping changes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from attrs import evolve

from tests.patterns.connecting import ask
from tests.patterns.test_sequentialclient import OK, SequentialCase
from tlsproxy.address import TCP
from tlsproxy.judging import judgeAgain
from tlsproxy.mapping import Entry, Mapping, ReverseProxy
from tlsproxy.testing.certificates import clientTLS


class ReloadTests(SequentialCase):
    """
    Another mapping.
    """

    def open(self, established: bool = True) -> Any:
        """
        Have a tunnel by way of the reverse proxy, or one that is about to be.
        """
        self.proxy()
        self.reverse()
        client = self.asks(ask())
        self.head()
        if established:
            self.targets[-1].write(OK)
            self.settle(lambda: client.received.startswith(b"HTTP/1.1 200 "))
        return client

    def judge(self, *entries: Entry) -> None:
        """
        Have another mapping from now on.
        """
        route: Any = self.factory.route
        judgeAgain([self.factory], [evolve(route, pattern=evolve(route.pattern, mapping=Mapping(entries=entries)))])
        self.settle()

    def via(self, port: int) -> ReverseProxy:
        """
        Make the reverse proxy anew.
        """
        return ReverseProxy(name="dmz", address=TCP("dmz.example", port), tls=clientTLS())

    def test_same(self) -> None:
        """
        Who is let through in the same way goes on, whatever else has changed.
        """
        self.open()
        self.judge(
            Entry(hosts=("other.example:443",)), Entry(hosts=("*.example:443",), via=self.via(443), sni=("none",))
        )
        self.one().stop()
        self.settle()

    def test_expired(self) -> None:
        """
        A mapping that has expired lets nobody new through; who was let through goes on.
        """
        self.open()
        route: Any = self.factory.route
        old = evolve(route.pattern.mapping, expires=datetime(2001, 1, 1, tzinfo=UTC))
        judgeAgain([self.factory], [evolve(route, pattern=evolve(route.pattern, mapping=old))])
        self.settle()
        self.one().stop()
        self.settle()

    def test_gone(self) -> None:
        """
        A tunnel whose target is not in the mapping any more, or refused by it, is cut, and one on its way as well.
        """
        for established in (True, False):
            for entries, reason in (
                ((Entry(hosts=("other.example:443",), direct=True),), "shop.example:443 is not in the mapping"),
                ((Entry(hosts=("shop.example:443",)),), "shop.example:443 is refused by the mapping"),
            ):
                self.open(established)
                self.judge(*entries)
                self.assertEqual(("revoked", reason), (self.told()[-1]["outcome"], self.told()[-1]["reason"]))
                self.assertEqual(set(), self.factory.sessions)

    def test_otherWay(self) -> None:
        """
        So is one that would go another way: by another reverse proxy, or directly.
        """
        for way in ({"via": self.via(8443)}, {"direct": True}):
            self.open()
            self.judge(Entry(hosts=("shop.example:443",), **way))
            line = self.told()[-1]
            self.assertEqual("revoked", line["outcome"])
            self.assertEqual("the mapping has another way to shop.example:443 now", line["reason"])
