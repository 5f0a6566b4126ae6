# -*- test-case-name: tests.wire.test_host -*-
"""
Hosts, as addresses, certificates and TLS name them.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

__all__ = ["asciiName", "isLiteral"]


@lru_cache(maxsize=512)
def isLiteral(host: str) -> bool:
    """
    Tell whether a host is an IP address.
    """
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=512)
def asciiName(name: str) -> str:
    """
    Bring a host into the form that DNS, certificates and TLS carry (RFC 5890): ASCII, in lower case, without a final
    dot.

    @param name: A host name; an address is returned as it is.
    @raise ValueError: No host can have that name.
    """
    if isLiteral(name):
        return name
    bare = name.removesuffix(".")
    if not bare.isascii():
        import idna

        try:
            bare = idna.encode(bare, uts46=True).decode("ascii")
        except idna.IDNAError as e:
            raise ValueError(f"{name!r} is no host name: {e}") from None
    # The C library's resolver stops at a NUL, and so would ask for another name.
    if not bare.isprintable() or " " in bare:
        raise ValueError(f"{name!r} is no host name")
    if not 0 < len(bare) < 254 or not all(0 < len(label) < 64 for label in bare.split(".")):
        raise ValueError(f"{name!r} is no host name")
    return bare.lower()
