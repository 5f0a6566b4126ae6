# -*- test-case-name: tests.status.test_expiries -*-
"""
L{tlsproxy.status.expiries}
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from tests.status.watching import WatchedCase
from tlsproxy.status import expiries
from tlsproxy.status.expiries import MOST, Expiries, namesOf
from tlsproxy.testing.certificates import certificate, clientTLS, serverTLS


class NameTests(SynchronousTestCase):
    """
    What a certificate is called.
    """

    def test_names(self) -> None:
        """
        By the names that clients look at; by its subject, where it has none; and by a few, where it has many.
        """
        self.assertEqual(("a.example", "192.0.2.1"), namesOf(certificate("x", "a.example", "192.0.2.1")))
        many = [f"{number}.example" for number in range(30)]
        self.assertEqual(tuple(many[:10]), namesOf(certificate("x", *many)))
        bare: Any = evolve(certificate("x", "a.example"), names=())
        self.assertEqual(("CN=x",), namesOf(bare))

    def test_hostile(self) -> None:
        """
        What cannot be shown is written otherwise.
        """
        identity: Any = evolve(certificate("x", "a.example"), names=("a\n\x1b.example",))
        (name,) = namesOf(identity)
        self.assertTrue(name.isprintable(), name)


class Factory:
    """
    As much of what serves a route as there has to be.

    @ivar name: The route's name.
    """

    def __init__(self, name: str, **sides: Any) -> None:
        self.name = name
        self.__dict__.update(sides)

    @property
    def route(self) -> Factory:
        """
        The route.
        """
        return self

    @property
    def pattern(self) -> Factory:
        """
        Its pattern.
        """
        return self


class ExpiriesTests(WatchedCase):
    """
    What is told of certificates.
    """

    def tell(self, *factories: Any) -> list[dict[str, Any]]:
        """
        Tell of some routes.
        """
        return Expiries().tell(factories)

    def test_service(self) -> None:
        """
        The certificates that are presented are told with their names, and when they expire.
        """
        (told,) = self.state.tell()["certificates"]
        self.assertEqual(("shop", "client", ["shop.example"]), (told["route"], told["side"], told["names"]))
        end = datetime.fromisoformat(told["not_after"])
        self.assertAlmostEqual((end - datetime.now(UTC)).total_seconds() / 86400, told["days_left"], 1)

    def test_sides(self) -> None:
        """
        Those for clients and those for upstreams are told apart; a side without has none.
        """
        upstream: Any = evolve(clientTLS("u.example"), identities=(certificate("me", "me.example"),))
        told = self.tell(Factory("a", tls=serverTLS(), upstreamTLS=upstream), Factory("b", upstreamTLS=None))
        self.assertEqual({("a", "client"), ("a", "upstream")}, {(one["route"], one["side"]) for one in told})
        self.assertEqual([], self.tell(Factory("c", tls=None, upstreamTLS=clientTLS("u.example"))))

    def several(self, days: Iterable[int]) -> Any:
        """
        Make TLS with certificates that have so many days left.
        """
        identity = certificate("x", "x.example")

        class Expiring:
            names = identity.names
            chain = identity.chain

            def __init__(self, day: int) -> None:
                self.notBefore = datetime.now(UTC)
                self.notAfter = self.notBefore + timedelta(day)

        identities: Any = tuple(map(Expiring, days))
        return evolve(serverTLS(), identities=identities)

    def test_order(self) -> None:
        """
        What expires first comes first, whichever route it belongs to, and of very many only those are told.
        """
        told = self.tell(Factory("a", tls=self.several((50, 5, 20))), Factory("b", tls=self.several((30, 1))))
        self.assertEqual(["b", "a", "a", "b", "a"], [one["route"] for one in told])
        self.assertEqual([1, 5, 20, 30, 50], [round(one["days_left"]) for one in told])
        told = self.tell(Factory("a", tls=self.several(range(MOST * 2))))
        self.assertEqual((MOST, 0), (len(told), round(told[0]["days_left"])))

    def test_once(self) -> None:
        """
        Each is looked at once, for as long as it is in use.
        """
        looked: list[object] = []
        look = expiries._expiries

        def note(tls: object) -> Any:
            looked.append(tls)
            return look(tls)

        self.patch(expiries, "_expiries", note)
        one, other, telling = self.several([1]), self.several([2]), Expiries()
        factories: list[Any] = [Factory("a", tls=one, upstreamTLS=one)]
        for _ in range(3):
            self.assertEqual(2, len(telling.tell(factories)))
        self.assertEqual([one], looked)
        telling.tell([])
        factories = [Factory("a", tls=other, upstreamTLS=other)]
        telling.tell(factories)
        self.assertEqual([one, other], looked)
