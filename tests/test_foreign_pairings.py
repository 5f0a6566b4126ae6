# -*- test-case-name: tests.test_foreign_pairings -*-
"""
Transports that wrap others keep the promises of L{tlsproxy.testing.conformance}, as plain sockets do.
"""

from __future__ import annotations

from tests.nesting import Nested, Wrapped
from tlsproxy.testing.conformance import PairingConformance, pairings
from tlsproxy.testing.streams import Side


class _Inside(Nested):
    """
    TLS inside of TLS on such a transport.
    """

    def outermost(self, kind: str, near: bool) -> Side:
        """
        Make the outermost side.
        """
        return Wrapped.side(self, kind, near)


globals().update(pairings(__name__, Wrapped, PairingConformance))
globals().update(
    (name, case)
    for name, case in pairings(__name__, _Inside, PairingConformance, prefix="Inside").items()
    if name.startswith("InsideTLSv13")
)
del _Inside
