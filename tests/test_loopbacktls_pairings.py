# -*- test-case-name: tests.test_loopbacktls_pairings -*-
"""
Sessions whose TLS runs by way of loopback keep the promises of L{tlsproxy.testing.conformance}, but for those in which
a peer ends its TLS before the other side has said all.
"""

from __future__ import annotations

from tests.looping import KEPT, ComesOff, Looping
from tlsproxy.testing import conformance, streams

for _name, _one in conformance.pairings(__name__, streams.Streams, Looping, KEPT, prefix="Loop").items():
    if "PlainToPlain" not in _name:
        globals()[_name] = _one
del _one


class ComesOffTests(Looping, ComesOff, streams.Streams):
    """
    TLS comes off.
    """
