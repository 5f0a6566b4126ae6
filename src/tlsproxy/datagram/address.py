# -*- test-case-name: tests.datagram.test_address -*-
"""
UDP addresses, as people write them: C{udp:8443}, C{udp:HOST:PORT}, C{udp:[::1]:443}.
"""

from __future__ import annotations

from attrs import frozen

__all__ = ["UDP"]


@frozen
class UDP:
    """
    A UDP port.

    @ivar host: A name or an address; C{""} for all addresses of this machine.
    @ivar port: 0 to 65535; 0 lets the kernel choose.
    """

    host: str
    port: int

    def __str__(self) -> str:
        if not self.host:
            return f"udp:{self.port}"
        return f"udp:[{self.host}]:{self.port}" if ":" in self.host else f"udp:{self.host}:{self.port}"
