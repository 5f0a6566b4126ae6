# -*- test-case-name: tests.test_loopbacktls_pairings -*-
"""
Sessions whose TLS runs by way of loopback keep the promises of L{tlsproxy.testing.conformance}, but for those in which
a peer ends its TLS before the other side has said all: that ends both directions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlsproxy.end import End
from tlsproxy.testing import conformance, streams

_BREAKS = frozenset(
    {
        "test_bulkBothWays",
        "test_byteAtATime",
        "test_cloggedBothWays",
        "test_endBoth",
        "test_endBothWhileClogged",
        "test_halfClose",
    }
)

if TYPE_CHECKING:
    _Mixin = streams.Streams
else:
    _Mixin = object


class Looping(_Mixin):
    """
    Has TLS run by way of loopback.
    """

    def setUp(self) -> None:
        """
        See that it does.
        """
        self.patch(End, "takeOff", "loopback")
        super().setUp()


_kept = {name: one for name, one in vars(conformance.PairingConformance).items() if name not in _BREAKS}
_Kept = type("_Kept", (), {name: one for name, one in _kept.items() if name not in ("__dict__", "__weakref__")})

for _name, _one in conformance.pairings(__name__, streams.Streams, Looping, _Kept, prefix="Loop").items():
    if "PlainToPlain" not in _name:
        globals()[_name] = _one
del _one
