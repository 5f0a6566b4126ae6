# -*- test-case-name: tests.wire.test_host -*-
"""
Hosts, as addresses, certificates and TLS name them.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

__all__ = ["isLiteral"]


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
