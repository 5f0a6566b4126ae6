# -*- test-case-name: tests.test_listening -*-
"""
What can be told of an address to listen on: who reaches it, and what else it leaves room for.
"""

from __future__ import annotations

import ipaddress
import re

from tlsproxy.address import TCP, UDP, Address, Endpoint, Unix
from tlsproxy.wire.host import isLiteral

__all__ = ["clash", "isPrivate"]


def isPrivate(listen: Address) -> bool:
    """
    Tell whether only this machine reaches an address.  Where systemd listens is not known.
    """
    if isinstance(listen, Endpoint):
        kind, *arguments = re.split(r"(?<!\\):", listen.description)
        if kind == "haproxy":
            kind, *arguments = arguments
        hosts = [one.removeprefix("interface=").replace("\\", "") for one in arguments]
        return kind == "unix" or (kind in ("tcp", "tcp6") and any(map(_isLoopback, hosts)))
    return isinstance(listen, Unix) or _isLoopback(listen.host)


def _isLoopback(host: str) -> bool:
    return host == "localhost" or (isLiteral(host) and ipaddress.ip_address(host).is_loopback)


def clash(one: Address, other: Address) -> bool:
    """
    Tell whether two addresses cannot be listened on together.
    """
    if not isinstance(one, (TCP, UDP)) or not isinstance(other, (TCP, UDP)) or type(one) is not type(other):
        return one == other
    if one.port != other.port or one.port == 0:
        return False
    if isLiteral(one.host) and isLiteral(other.host):
        first, second = ipaddress.ip_address(one.host), ipaddress.ip_address(other.host)
        return first == second or (first.version == second.version and (first.is_unspecified or second.is_unspecified))
    # A name may have an address of either family, or of one alone.
    return not one.host or not other.host or one.host.lower() == other.host.lower()
