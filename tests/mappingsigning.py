# -*- test-case-name: tests.test_signedmapping -*-
"""
Mappings that tests sign.
"""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tlsproxy.tls.signatures import sign

__all__ = ["AUDIENCE", "BODY", "NOW", "OLD_KEY", "NEW_KEY", "STRANGER", "facts", "public", "signed"]

NOW = datetime(2026, 11, 29, tzinfo=UTC)
AUDIENCE = "proxies.example"
OLD_KEY, NEW_KEY, STRANGER = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2, 3))
BODY = """\
[[reverse_proxy]]
name = "dmz"
address = "dmz.example:443"

[[map]]
hosts = ["*.bank.example:443"]
via = "dmz"

[[map]]
hosts = ["*.direct.example:443"]
direct = true
"""


def public(key: Ed25519PrivateKey) -> bytes:
    """
    Give the public key, as 32 bytes.
    """
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def facts(
    version: object = 7,
    issued: object = "2026-11-28T23:00:00Z",
    expires: object = "2026-12-28T23:00:00Z",
    audience: str = f'"{AUDIENCE}"',
    nextKey: Ed25519PrivateKey | None = None,
    more: str = "",
) -> str:
    """
    Write the first table, each value as in TOML.
    """
    if nextKey is not None:
        more += f'next_key = "{b64encode(public(nextKey)).decode()}"\n'
    return f"[mapping]\naudience = {audience}\nversion = {version}\nissued = {issued}\nexpires = {expires}\n{more}\n"


def signed(head: str | None = None, key: Ed25519PrivateKey = OLD_KEY, body: str = BODY) -> bytes:
    """
    Sign a mapping.

    @param head: As of L{facts}; its defaults where there is none.
    """
    return sign(((facts() if head is None else head) + body).encode(), key)
