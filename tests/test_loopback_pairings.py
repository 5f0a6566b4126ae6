# -*- test-case-name: tests.test_loopback_pairings -*-
"""
TLS inside TLS keeps the promises of L{tlsproxy.testing.conformance}, as every pairing does.
"""

from __future__ import annotations

from tests.nesting import Nested
from tlsproxy.testing.conformance import PairingConformance, pairings


class _Twice(Nested):
    outer = ("TLSv1.3",)
    nested = ("near",)


class _TwiceOld(Nested):
    outer = ("TLSv1.2",)
    nested = ("far",)


class _Thrice(Nested):
    outer = ("TLSv1.2", "TLSv1.3")
    nested = ("near", "far")


for _base in (_Twice, _TwiceOld, _Thrice):
    globals().update(pairings(__name__, _base, PairingConformance, prefix=_base.__name__.lstrip("_")))
del _base, _Twice, _TwiceOld, _Thrice
