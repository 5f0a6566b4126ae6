# -*- test-case-name: tests.test_hostport -*-
"""
HOST:PORT as people write it, for addresses of whichever kind.
"""

from __future__ import annotations

from tlsproxy.wire.host import isLiteral

__all__ = ["parseHost", "parsePlace", "parsePort", "writePlace"]


def parsePort(text: str, whole: str) -> int:
    """
    Read a port.

    @param whole: What it is a part of, to tell of it.
    @raise ValueError: One sentence on what is wrong.
    """
    if not (text.isascii() and text.isdigit()) or len(text) > 5 or int(text) > 65535:
        raise ValueError(f"{whole!r}: {text!r} is no port; ports go from 0 to 65535")
    return int(text)


def parseHost(text: str, whole: str) -> str:
    """
    Read a name, or an IPv4 address.

    @param whole: What it is a part of, to tell of it.
    @raise ValueError: One sentence on what is wrong.
    """
    if "://" in whole:
        raise ValueError(f"{whole!r} is a URL: give HOST:PORT")
    if not text:
        raise ValueError(f"{whole!r} names no host")
    if ":" in text:
        raise ValueError(f"{whole!r}: put an IPv6 address in brackets, as in [::1]:443")
    if not text.isprintable() or any(letter in " /\\@?#%&=,;[]()<>*\"'" for letter in text):
        raise ValueError(f"{whole!r}: {text!r} is no host name")
    return text


def parsePlace(text: str, whole: str) -> tuple[str, int]:
    """
    Read PORT, HOST:PORT or [IPV6]:PORT.

    @param whole: What it is a part of, to tell of it.
    @return: The host, C{""} where there is none, and the port.
    @raise ValueError: One sentence on what is wrong.
    """
    if text.isascii() and text.isdigit():
        return "", parsePort(text, whole)
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]:")
        if not bracket or ":" not in host or not isLiteral(host):
            raise ValueError(f"{whole!r}: brackets hold an IPv6 address, and a port follows, as in [::1]:443")
        return host, parsePort(port, whole)
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError(f"{whole!r} names no port: give HOST:PORT")
    return parseHost(host, whole), parsePort(port, whole)


def writePlace(host: str, port: int) -> str:
    """
    Write what L{parsePlace} reads.
    """
    if not host:
        return str(port)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
