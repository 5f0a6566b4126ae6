# -*- test-case-name: tests.integration -*-
"""
Who has which port, as the kernel tells it.

To find out by trying to bind a port would be to hold it for a moment, in which whoever is about to have it cannot.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["isBound", "isListened"]

_LISTENING: Final = "0A"


def isListened(port: int) -> bool:
    """
    Tell whether somebody listens on a TCP port.
    """
    return _LISTENING in _states("tcp", port)


def isBound(port: int) -> bool:
    """
    Tell whether somebody has a UDP port.
    """
    return bool(_states("udp", port))


def _states(protocol: str, port: int) -> list[str]:
    """
    Find the states of all sockets that have a port here.
    """
    lines = [
        line.split()
        for table in (protocol, f"{protocol}6")
        if (file := Path("/proc/net") / table).exists()
        for line in file.read_text().splitlines()[1:]
    ]
    return [line[3] for line in lines if line[1].endswith(f":{port:04X}")]
