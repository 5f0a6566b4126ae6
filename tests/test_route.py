# -*- test-case-name: tests.test_route -*-
"""
Routes as values.
"""

from __future__ import annotations

from attrs import fields
from attrs.exceptions import FrozenInstanceError
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tlsproxy.address import TCP
from tlsproxy.interfaces import IPattern
from tlsproxy.route import Limits, Route


@implementer(IPattern)
class Pattern:
    """
    A pattern that is never opened.
    """

    mode = "none"

    async def open(self, session: object) -> None:
        """
        Not called.
        """


class RouteTests(SynchronousTestCase):
    """
    A route and its limits.
    """

    def test_defaults(self) -> None:
        """
        A route needs a name, an address and a pattern; the rest has the defaults that are documented.
        """
        route = Route(name="a", listen=TCP("", 8443), pattern=Pattern())
        self.assertEqual(((), Limits(), "each", "tell"), (route.rules, route.limits, route.close, route.truncation))

    def test_listen(self) -> None:
        """
        The address may be a string; a wrong one is told at once.
        """
        self.assertEqual(TCP("::1", 443), Route(name="a", listen="[::1]:443", pattern=Pattern()).listen)
        self.assertRaises(ValueError, Route, name="a", listen="99999", pattern=Pattern())

    def test_frozen(self) -> None:
        """
        A route does not change.
        """
        route = Route(name="a", listen=TCP("", 8443), pattern=Pattern())
        self.assertRaises(FrozenInstanceError, setattr, route, "name", "b")
        self.assertRaises(FrozenInstanceError, setattr, route.limits, "idle", 1.0)

    def test_limits(self) -> None:
        """
        No phase is without a bound by default, but for the whole session.
        """
        self.assertEqual(["lifetime"], [one.name for one in fields(Limits) if not one.default])
        self.assertEqual((600.0, 60.0, 10.0), (Limits().idle, Limits().halfClosed, Limits().handshake))
