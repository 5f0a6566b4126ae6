# -*- test-case-name: tests.test_relay_pairings -*-
"""
Every pairing of plain, TLS 1.2 and TLS 1.3 keeps the promises of L{tlsproxy.testing.conformance}: on socket pairs,
and without a moment of real time.
"""

from __future__ import annotations

from tlsproxy.testing import conformance, streams

globals().update(conformance.pairings(__name__, streams.Streams, conformance.PairingConformance))
