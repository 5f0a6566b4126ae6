# -*- test-case-name: tests.wire.test_enrolling -*-
"""
What a client proxy and the reverse proxy that certifies it say to each other: HTTP/1.1 inside TLS 1.3, one request a
connection.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "ALPN",
    "AUTHORITY",
    "CERTIFICATES",
    "ENROLL",
    "KEYING",
    "KEYING_LENGTH",
    "LARGEST",
    "MAPPING",
    "MAPPINGS",
    "RENEW",
    "REQUESTS",
]

ALPN: Final = "tlsproxy-enroll/1"
"""The application protocol, which no browser speaks."""

AUTHORITY: Final = "/ca"
"""Path of the CA that the reverse proxy is verified by."""
ENROLL: Final = "/enroll"
"""Path of what gives a client proxy its first certificate, for a token."""
RENEW: Final = "/renew"
"""Path of what gives it another one for the one that it shows."""
MAPPING: Final = "/mapping"
"""Path of the signed mapping."""

REQUESTS: Final = "application/pkcs10"
"""Media type of a request for a certificate (RFC 5967)."""
CERTIFICATES: Final = "application/pem-certificate-chain"
"""Media type of certificates (RFC 8555, section 9.1)."""
MAPPINGS: Final = "application/toml"
"""Media type of the mapping."""

KEYING: Final = b"EXPORTER-tlsproxy-enroll-1"
"""Label of the keying material of a connection that a proof is for (RFC 8446, section 7.5)."""
KEYING_LENGTH: Final = 32
"""How much of that, in bytes."""
LARGEST: Final = 16384
"""The most bytes that the body of a request may have."""
