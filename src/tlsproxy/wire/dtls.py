# -*- test-case-name: tests.wire.test_dtls -*-
"""
Stand-in.
"""

from __future__ import annotations

__all__ = ["recut"]


def recut(data: bytes, most: int) -> list[bytes]:
    """
    Cut OpenSSL's output into datagrams.
    """
    made: list[bytes] = []
    at = start = 0
    alone = False
    while at < len(data):
        end = at + 13 + int.from_bytes(data[at + 11 : at + 13], "big")
        app = data[at] == 23
        if at > start and (alone or app or end - start > most):
            made.append(data[start:at])
            start = at
        alone = app
        at = end
    made.append(data[start:])
    return made
