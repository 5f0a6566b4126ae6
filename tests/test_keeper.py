# -*- test-case-name: tests.test_keeper -*-
"""
L{tlsproxy.keeper}: what sessions need of whoever accepted them is there.
"""

from __future__ import annotations

from typing import get_type_hints

from tlsproxy.keeper import Keeper
from tlsproxy.patterns.passthrough import Passthrough
from tlsproxy.testing.sessions import SessionCase


class KeeperTests(SessionCase):
    """
    The factory of a route.
    """

    def test_whole(self) -> None:
        """
        It is a keeper: it has all that one has, the route among it.
        """
        keeper: Keeper = self.serve(Passthrough(upstream=self.upstream))
        self.assertEqual([], [name for name in get_type_hints(Keeper) if not hasattr(keeper, name)])
        self.assertEqual("shop", keeper.route.name)
