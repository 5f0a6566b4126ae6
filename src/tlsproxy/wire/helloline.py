# -*- test-case-name: tests.wire.test_helloline -*-
"""
What a client's hello offers, in words for one line of a log.

The client says it, so each word is bounded in length, printable, and without a space.
"""

from __future__ import annotations

import re
from functools import lru_cache

from attrs import frozen

from tlsproxy.wire.clienthello import ClientHello
from tlsproxy.wire.ja4 import ja4

__all__ = ["HelloWords", "describeALPN", "describeGroups", "describeHello", "describeVersions"]

_MOST_NUMBERS = 16
_MOST_PROTOCOLS = 4
_LONGEST_PROTOCOL = 32  # bytes
_NOTHING = "-"
_MORE = "..."

_VERSIONS = {
    0x0300: "ssl3",
    0x0301: "1.0",
    0x0302: "1.1",
    0x0303: "1.2",
    0x0304: "1.3",
    0xFEFC: "dtls1.3",
    0xFEFD: "dtls1.2",
    0xFEFF: "dtls1.0",
}

# The registry of RFC 8447, section 9, spells two of them "x25519" and "x448"; people and configurations do not.
_GROUPS = {
    19: "secp192r1",
    21: "secp224r1",
    22: "secp256k1",
    23: "secp256r1",
    24: "secp384r1",
    25: "secp521r1",
    26: "brainpoolP256r1",
    27: "brainpoolP384r1",
    28: "brainpoolP512r1",
    29: "X25519",
    30: "X448",
    31: "brainpoolP256r1tls13",
    32: "brainpoolP384r1tls13",
    33: "brainpoolP512r1tls13",
    41: "curveSM2",
    256: "ffdhe2048",
    257: "ffdhe3072",
    258: "ffdhe4096",
    259: "ffdhe6144",
    260: "ffdhe8192",
    512: "MLKEM512",
    513: "MLKEM768",
    514: "MLKEM1024",
    4587: "SecP256r1MLKEM768",
    4588: "X25519MLKEM768",
    4589: "SecP384r1MLKEM1024",
    4590: "curveSM2MLKEM768",
    25497: "X25519Kyber768Draft00",
    25498: "SecP256r1Kyber768Draft00",
}

# A comma stands between two protocols.
_UNFIT = re.compile(rb"[^!#-+\--\[\]-~]")


def _joined(words: list[str], most: int) -> str:
    """
    Join words by commas.

    @param most: How many to show; one more word tells that there are others.
    """
    return ",".join([*words[:most], _MORE] if len(words) > most else words) or _NOTHING


@lru_cache(maxsize=512)
def _versions(numbers: tuple[int, ...]) -> str:
    return _joined([_VERSIONS.get(number, f"0x{number:04x}") for number in numbers], _MOST_NUMBERS)


@lru_cache(maxsize=512)
def _groups(numbers: tuple[int, ...]) -> str:
    return _joined([_GROUPS.get(number, f"0x{number:04x}") for number in numbers], _MOST_NUMBERS)


def _protocol(name: bytes) -> str:
    """
    Write a protocol's name, each byte that must not stand in a line as C{\\xNN}.
    """
    shown = _UNFIT.sub(lambda unfit: b"\\x%02x" % unfit[0][0], name[:_LONGEST_PROTOCOL]).decode("ascii")
    return shown + _MORE if len(name) > _LONGEST_PROTOCOL else shown


@lru_cache(maxsize=512)
def _protocols(names: tuple[bytes, ...]) -> str:
    return _joined([_protocol(name) for name in names], _MOST_PROTOCOLS)


# Clients of one make offer the same every time, so what was written lately is kept.  Of a list, only as much goes into
# the cache as will be shown, and one more, or a few hostile clients could fill the memory.


def describeVersions(hello: ClientHello) -> str:
    """
    Tell which versions of TLS or DTLS a client offers.

    @return: Such as C{1.3,1.2}, or C{dtls1.2}; the unknown as C{0x7f1c}.
    """
    return _versions(hello.versions[: _MOST_NUMBERS + 1])


def describeGroups(hello: ClientHello) -> str:
    """
    Tell which key exchange groups a client offers.

    @return: Such as C{X25519MLKEM768,X25519,secp256r1}; the unknown as C{0xfe01}, and C{-} for none.
    """
    return _groups(hello.groups[: _MOST_NUMBERS + 1])


def describeALPN(hello: ClientHello) -> str:
    """
    Tell which application protocols a client offers.

    @return: Such as C{h2,http/1.1}; bytes that are not printable, and commas, quotation marks and backslashes, as
        C{\\xNN}, and C{-} for none.
    """
    return _protocols(hello.alpn[: _MOST_PROTOCOLS + 1])


@frozen
class HelloWords:
    """
    A hello in words: little to keep, however long it was.

    @ivar ja4: Its fingerprint, see L{tlsproxy.wire.ja4}.
    @ivar versions: See L{describeVersions}.
    @ivar groups: See L{describeGroups}.
    @ivar alpn: See L{describeALPN}.
    """

    ja4: str
    versions: str
    groups: str
    alpn: str


def describeHello(hello: ClientHello) -> HelloWords:
    """
    Tell all of it.
    """
    return HelloWords(ja4(hello), describeVersions(hello), describeGroups(hello), describeALPN(hello))
