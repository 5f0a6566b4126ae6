# -*- test-case-name: tests.test_descriptors -*-
"""
How many descriptors are left.
"""

from __future__ import annotations

import os
import resource
import socket

__all__ = ["allowed", "left"]


def allowed() -> int:
    """
    Tell how many descriptors the process may have.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 62 if soft == resource.RLIM_INFINITY else soft


def left(most: int) -> int:
    """
    Find how many descriptors can be had right now, by taking them and giving them back.  No system tells that for all
    of its limits, and to list those that are open takes the longer the more there are.

    @param most: How many are looked for; it takes about a microsecond for each.
    @return: That many at most.
    """
    taken: list[int] = []
    try:
        while len(taken) < most:
            taken.append(os.dup(taken[0]) if taken else socket.socket(socket.AF_UNIX).detach())
    except OSError:
        pass
    finally:
        for descriptor in taken:
            os.close(descriptor)
    return len(taken)
