# -*- test-case-name: tests.test_loopbacktls_pairings -*-
"""
Sessions whose TLS runs by way of loopback keep the promises of L{tlsproxy.testing.conformance}, but for those in which
a peer ends its TLS before the other side has said all: that ends both directions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


def _made() -> dict[str, Any]:
    kept = {name: None for name in _BREAKS}
    classes = conformance.pairings(__name__, streams.Streams, Looping, conformance.PairingConformance, prefix="Loop")
    for one in classes.values():
        if "plain" in (one.nearKind, one.farKind) and one.nearKind == one.farKind:  # type: ignore[attr-defined]
            continue
        for name, nothing in kept.items():
            setattr(one, name, nothing)
    return {name: one for name, one in classes.items() if "PlainToPlain" not in name}


globals().update(_made())
