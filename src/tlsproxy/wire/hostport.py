# -*- test-case-name: tests.wire.test_hostport -*-
"""
HOST:PORT as it stands in the head of an HTTP request (RFC 3986, section 3.2, and RFC 9110, sections 7.2 and 9.3.6),
read so that no resolver can take it for something else.
"""

from __future__ import annotations

import ipaddress
import re

__all__ = ["RequestRefused", "parseAuthority", "quoted"]

_NOT_OF_A_NAME = re.compile(r"[^a-z0-9_.-]")
# What resolvers take for a number, and then the whole name for an address.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_FUTURE_ADDRESS = re.compile(r"[vV][0-9A-Fa-f]+\.")


class RequestRefused(ValueError):
    """
    What the client sent is no request for this port, or not one beyond doubt.  The sentence says what is wrong with it,
    and shows nothing of what may be a secret.

    @ivar status: The status code that tells the client.
    @ivar headers: Names and values of the fields that this status demands in the answer.
    """

    def __init__(self, sentence: str, status: int = 400, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = headers


def quoted(text: str) -> str:
    """
    Show what the client sent in few letters, all of them printable.
    """
    return ascii(text if len(text) <= 40 else text[:37] + "...")


def parseAuthority(text: str, what: str) -> tuple[str, int | None]:
    """
    Read HOST, HOST:PORT, [IPV6] or [IPV6]:PORT, and nothing else of what RFC 3986 (section 3.2) lets stand there.

    @param what: What it is, to begin the sentence of a refusal with.
    @return: The host, a name in lower case or an IP address in its canonical form and without brackets; and the port,
        L{None} if none is said.
    @raise RequestRefused: It is something else, or something that resolvers may take for something else.
    """
    if not text:
        raise RequestRefused(f"{what} is empty")
    if not text.isascii():
        raise RequestRefused(f"{what} is not all ASCII: send the name in its ASCII form, which has xn-- in it")
    if "@" in text:
        raise RequestRefused(f"{what} has an @: no user and no password belong there")
    if "://" in text:
        raise RequestRefused(f"{what} is a URL, and not HOST:PORT")
    if text.startswith("["):
        inside, closing, rest = text[1:].partition("]")
        if not closing or rest[:1] not in ("", ":"):
            raise RequestRefused(f"{what} has brackets that do not enclose the host")
        host = _inBrackets(inside, what)
        colon, port = rest[:1], rest[1:]
    else:
        name, colon, port = text.partition(":")
        if ":" in port:
            raise RequestRefused(f"{what} has more than one colon: an IPv6 address needs brackets, as in [::1]:443")
        host = _hostOf(name.lower(), what)
    return host, _portOf(port, what) if colon else None


def _inBrackets(text: str, what: str) -> str:
    """
    Read the address that stands in brackets.
    """
    if "%" in text:
        raise RequestRefused(f"{what} has a zone in its IPv6 address, which means nothing on another machine")
    if _FUTURE_ADDRESS.match(text):
        raise RequestRefused(f"{what} has an address of a future version of IP")
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise RequestRefused(f"{what} has {quoted(text)} in brackets, which is no IPv6 address") from None


def _hostOf(text: str, what: str) -> str:
    """
    Read a host name or an IPv4 address.

    @param text: What it is read from, in lower case.
    """
    if not text:
        raise RequestRefused(f"{what} names no host")
    if "%" in text:
        raise RequestRefused(f"{what} has a percent sign: nothing is unescaped here")
    if _NOT_OF_A_NAME.search(text):
        raise RequestRefused(f"{what} has the host {quoted(text)}, which is neither a name nor an address")
    if text.endswith("."):
        raise RequestRefused(f"{what} has a dot at the end of the host name")
    labels = text.split(".")
    if not all(labels):
        raise RequestRefused(f"{what} has a host name with an empty part between dots")
    if max(map(len, labels)) > 63 or len(text) > 253:
        raise RequestRefused(f"{what} has a host name that is too long")
    if not _NUMBER.fullmatch(labels[-1]):
        return text
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise RequestRefused(
            f"{what} has the host {quoted(text)}, which ends in a number and is no address like 192.0.2.1"
        ) from None


def _portOf(text: str, what: str) -> int:
    """
    Read a port, once it is known to be ASCII.
    """
    if not text:
        raise RequestRefused(f"{what} has a colon and no port after it")
    if not text.isdigit():
        raise RequestRefused(f"{what} has the port {quoted(text)}, which is no number")
    if text.startswith("0"):
        raise RequestRefused(f"{what} has a port that is 0 or begins with 0")
    if len(text) > 5 or int(text) > 65535:
        raise RequestRefused(f"{what} has the port {quoted(text)}, and ports end at 65535")
    return int(text)
