# -*- test-case-name: tests.test_interfaces -*-
"""
L{tlsproxy.interfaces}
"""

from __future__ import annotations

import inspect
from typing import Any

from attrs import fields
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy import interfaces
from tlsproxy.interfaces import DRAINED, ENDED, FAILED, MORE, PHASES, RESET, TRUNCATED, WANTS_WRITE, IPattern, Stream
from tlsproxy.patterns.bridge import Bridge
from tlsproxy.patterns.connect import Connect
from tlsproxy.patterns.encrypt import Encrypt
from tlsproxy.patterns.offload import Offload
from tlsproxy.patterns.passthrough import Passthrough
from tlsproxy.plain import PlainStream
from tlsproxy.route import Limits
from tlsproxy.tls.native import TLSStream


class InterfacesTests(SynchronousTestCase):
    """
    The words that all floors share.
    """

    def test_order(self) -> None:
        """
        The states are in the order by which they are compared: what goes on, what waits, and from C{ENDED} on what is
        over, the worse the later.
        """
        states = [MORE, DRAINED, WANTS_WRITE, ENDED, TRUNCATED, RESET, FAILED]
        self.assertEqual(sorted(set(states)), states)

    def test_streams(self) -> None:
        """
        Both streams have all that a stream has, with the same parameters.
        """
        methods = [name for name, _ in inspect.getmembers(Stream, inspect.isfunction) if not name.startswith("_")]
        self.assertEqual(["drain", "endWrite", "fill", "peek", "read", "send"], methods)
        for kind in (PlainStream, TLSStream):
            for name in methods:
                self.assertEqual(
                    list(inspect.signature(getattr(Stream, name)).parameters),
                    list(inspect.signature(getattr(kind, name)).parameters),
                    f"{kind.__name__}.{name}",
                )

    def test_phases(self) -> None:
        """
        Each phase has its limit, and each limit its phase.
        """
        named = [
            "".join(letter if letter.islower() else f"_{letter.lower()}" for letter in f.name) for f in fields(Limits)
        ]
        self.assertEqual(sorted(PHASES), sorted(named))

    def test_patterns(self) -> None:
        """
        Each pattern says that it is one, and has its mode's name.
        """
        patterns: dict[str, Any] = {
            "offload": Offload,
            "encrypt": Encrypt,
            "bridge": Bridge,
            "passthrough": Passthrough,
            "connect": Connect,
        }
        for mode, pattern in patterns.items():
            self.assertTrue(IPattern.implementedBy(pattern))
            self.assertEqual(mode, pattern.mode)
            self.assertTrue(inspect.iscoroutinefunction(pattern.open))

    def test_exported(self) -> None:
        """
        All that is exported is there.
        """
        for name in interfaces.__all__:
            self.assertTrue(hasattr(interfaces, name), name)
