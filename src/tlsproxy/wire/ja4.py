# -*- test-case-name: tests.wire.test_ja4 -*-
"""
The JA4 fingerprint of TLS clients.

It tells one make of client from another by what their hellos offer, whatever server they ask for and in whatever order
they list it.  FoxIO published it; this is the part for TLS over TCP and for DTLS, in its sorted form.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from functools import lru_cache

from tlsproxy.wire.hellobody import DTLS_MAJOR, ClientHello

__all__ = ["ja4"]

# Extension types.
_SERVER_NAME = 0
_ALPN = 16
_SUPPORTED_VERSIONS = 43

_VERSIONS = {
    0x0304: "13",
    0x0303: "12",
    0x0302: "11",
    0x0301: "10",
    0x0300: "s3",
    0x0002: "s2",
    0xFEFC: "d3",
    0xFEFD: "d2",
    0xFEFF: "d1",
}
_UNKNOWN_VERSION = "00"
_MOST_COUNTED = 99
_EMPTY_HASH = "0" * 12
_LONGEST_KEPT = 128  # numbers; real clients send fewer than a hundred in a list


def _hash(*lists: Sequence[int]) -> str:
    """
    Write lists of numbers in hexadecimal, and hash them, as JA4 does.

    @param lists: Those that are empty leave no trace.
    """
    texts = [struct.pack(f">{len(numbers)}H", *numbers).hex(",", 2) for numbers in lists if numbers]
    return hashlib.sha256("_".join(texts).encode("ascii")).hexdigest()[:12]


def _hashCiphers(cipherSuites: tuple[int, ...]) -> str:
    """
    Make the second part.

    @param cipherSuites: In any order.
    """
    return _hash(sorted(cipherSuites)) if cipherSuites else _EMPTY_HASH


def _hashExtensions(extensions: tuple[int, ...], signatureAlgorithms: tuple[int, ...]) -> str:
    """
    Make the third part.

    @param extensions: The types, sorted, for browsers shuffle them: each order would take a place in the cache.
    @param signatureAlgorithms: In the client's order.
    """
    counted = [kind for kind in extensions if kind not in (_SERVER_NAME, _ALPN)]
    return _hash(counted, signatureAlgorithms) if counted else _EMPTY_HASH


# Clients of one make offer the same ciphers and extensions every time, so the hashes made lately are kept.
_keptCiphers = lru_cache(maxsize=512)(_hashCiphers)
_keptExtensions = lru_cache(maxsize=512)(_hashExtensions)


def _protocolEnds(protocol: bytes) -> str:
    """
    Tell the first and the last character of an application protocol.

    @return: Those of its hexadecimal form when one of them is neither a letter nor a digit.
    """
    ends = protocol[:1] + protocol[-1:]
    if ends.isalnum():
        return ends.decode("ascii")
    shown = protocol.hex()
    return shown[0] + shown[-1]


def ja4(hello: ClientHello) -> str:
    """
    Compute the JA4 fingerprint of a client.

    @return: 36 characters, such as C{t13d1516h2_8daaf6152771_e5627efa2ab1}: the highest version offered, whether a
        server is named, how many ciphers and extensions there are and the ends of the first application protocol; the
        hash of the ciphers; the hash of the other extensions and the signature algorithms.
    """
    extensions = hello.extensions
    # What the version field means to JA4 is not limited to TLS 1.2, unlike what it means to a server.
    datagrams = hello.legacyVersion >> 8 == DTLS_MAJOR
    listed = hello.versions if _SUPPORTED_VERSIONS in extensions else (hello.legacyVersion,)
    highest = min(listed) if datagrams else max(listed)
    version = _VERSIONS.get(highest, _UNKNOWN_VERSION)
    named = "d" if _SERVER_NAME in extensions else "i"
    ciphers = min(len(hello.cipherSuites), _MOST_COUNTED)
    counted = min(len(extensions), _MOST_COUNTED)
    protocol = _protocolEnds(hello.alpn[0]) if hello.alpn else "00"
    # Lists as long as only a hostile client sends are not worth the memory.
    long = max(len(hello.cipherSuites), len(extensions), len(hello.signatureAlgorithms)) > _LONGEST_KEPT
    hashCiphers, hashExtensions = (_hashCiphers, _hashExtensions) if long else (_keptCiphers, _keptExtensions)
    over = "d" if datagrams else "t"
    return (
        f"{over}{version}{named}{ciphers:02}{counted:02}{protocol}_{hashCiphers(hello.cipherSuites)}"
        f"_{hashExtensions(tuple(sorted(extensions)), hello.signatureAlgorithms)}"
    )
