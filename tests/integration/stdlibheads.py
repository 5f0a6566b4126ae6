# -*- test-case-name: tests.integration.test_sequential_stdlib -*-
"""
Heads of HTTP, as far as two proxies on Python's own library need them.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.integration.stdlibouter import Outer


class Refused(Exception):
    """
    There is no tunnel.
    """


def readHead(recv: Callable[[int], bytes | None]) -> bytes:
    """
    Read a head of HTTP, and nothing after it.
    """
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        more = recv(1)
        if not more or len(head) > 16384:
            raise Refused("no head")
        head += more
    return head


def readOuterHead(outer: Outer) -> tuple[bytes, bytes]:
    """
    Read a head from an outer side.

    @return: It, and what came with it.
    """
    data = b""
    while b"\r\n\r\n" not in data:
        more = outer.recv()
        if more == b"" or len(data) > 16384:
            raise Refused("no head")
        data += more or b""
    head, end, rest = data.partition(b"\r\n\r\n")
    return head + end, rest


def fields(head: bytes) -> tuple[str, dict[str, str]]:
    """
    Take a head apart.
    """
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    pairs = [line.partition(":") for line in lines]
    if len({name.lower() for name, _, _ in pairs}) < len(pairs):
        raise Refused("a field twice")
    return first, {name.lower(): value.strip() for name, _, value in pairs}
