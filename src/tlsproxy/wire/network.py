# -*- test-case-name: tests.wire.test_network -*-
"""
Networks and host names in access lists: how they are written, what they match, and which addresses are special.

An address that a peer chose, by asking for it or by what its DNS answers, can lead to a place that only this machine
reaches.  L{special} tells such addresses, also where an IPv6 address is another way to write, or to reach, an IPv4 one.
"""

from __future__ import annotations

import re
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final

__all__ = [
    "embedded",
    "isName",
    "matchesName",
    "parseNamePattern",
    "parseNetwork",
    "plainAddress",
    "special",
]

# RFC 1035, section 2.3.4, for a name as text.  RFC 1123, section 2.1 has no underscore, but host names in use have.
_LONGEST_NAME: Final = 253
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE | re.ASCII)

# RFC 1123, section 2.1: no top-level name is a number.  What ends in one is an IPv4 address in an old form (127.1,
# 0x7f000001), at least to some resolvers.
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE | re.ASCII)

_LENGTH: Final = re.compile(r"0|[1-9][0-9]{0,2}", re.ASCII)

# Where clouds hand out credentials to whoever connects, beside their own documentation's other link-local addresses.
_METADATA: Final = frozenset(
    map(
        ip_address,
        (
            "169.254.169.254",  # AWS EC2, Google Cloud, Azure, Oracle Cloud, OpenStack and many others.
            "169.254.170.2",  # AWS ECS: credentials of a task.
            "169.254.170.23",  # AWS EKS: the Pod Identity Agent.
            "169.254.42.42",  # Scaleway.
            "100.100.100.200",  # Alibaba Cloud ECS.
            "168.63.129.16",  # Azure: the WireServer.
            "192.0.0.192",  # Oracle Cloud Infrastructure Classic.
            "fd00:ec2::254",  # AWS EC2.
            "fd00:ec2::23",  # AWS EKS: the Pod Identity Agent.
            "fd20:ce::254",  # Google Cloud.
            "fd00:c1::a9fe:a9fe",  # Oracle Cloud.
            "fd00:42::42",  # Scaleway.
            "fd00:a9fe:a9fe::1",  # Linode.
            "fd00:100::100:200",  # Alibaba Cloud ECS.
            "fe80::a9fe:a9fe",  # OpenStack.
        ),
    )
)

# The first that holds the address says what it is.
_SPECIAL: Final = tuple(
    (ip_network(network), words)
    for network, words in (
        ("127.0.0.0/8", "loopback"),  # RFC 1122, section 3.2.1.3
        ("0.0.0.0/8", "unspecified, which Linux connects to itself"),  # RFC 1122, section 3.2.1.3
        ("169.254.0.0/16", "link-local"),  # RFC 3927
        ("224.0.0.0/4", "multicast"),  # RFC 5771
        ("255.255.255.255/32", "the broadcast address"),  # RFC 919, section 7
        ("240.0.0.0/4", "reserved"),  # RFC 1112, section 4
        ("::1/128", "loopback"),  # RFC 4291, section 2.5.3
        ("::/128", "unspecified, which Linux connects to itself"),  # RFC 4291, section 2.5.2
        ("fe80::/10", "link-local"),  # RFC 4291, section 2.5.6
        ("fec0::/10", "site-local"),  # RFC 3879
        ("ff00::/8", "multicast"),  # RFC 4291, section 2.7
    )
)

_THIS_NETWORK: Final = IPv4Network("0.0.0.0/8")
_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_LOCAL_NAT64: Final = IPv6Network("64:ff9b:1::/48")

# Prefixes with an IPv4 address behind them: how far from the right it stands, and what it is xored with.
_EMBEDDING: Final = tuple(
    (IPv6Network(prefix), words, shift, mask)
    for prefix, words, shift, mask in (
        ("::ffff:0:0/96", "an IPv4-mapped address", 0, 0),  # RFC 4291, section 2.5.5.2
        ("::/96", "an IPv4-compatible address", 0, 0),  # RFC 4291, section 2.5.5.1
        ("::ffff:0:0:0/96", "an IPv4-translated address", 0, 0),  # RFC 2765, section 2.1
        ("64:ff9b::/96", "a NAT64 address", 0, 0),  # RFC 6052, section 2.1
        ("2002::/16", "a 6to4 address", 80, 0),  # RFC 3056, section 2
        ("2001::/32", "a Teredo address", 64, 0),  # RFC 4380, section 4: the server,
        ("2001::/32", "a Teredo address", 0, 0xFFFFFFFF),  # and the client, with all bits turned over.
    )
)

# RFC 5214, section 6.1: the upper half of an interface identifier, with the universal bit and without it.
_ISATAP: Final = (0x00005EFE, 0x02005EFE)


def parseNetwork(text: str) -> IPv4Network | IPv6Network:
    """
    Read a network as people write it: C{10.0.0.0/8}, C{2001:db8::/32}, or one address.

    IPv4-mapped IPv6 networks become the IPv4 ones that they stand for.

    @raise ValueError: One sentence on what is wrong.
    """
    start, slash, length = text.partition("/")
    address = _address(start)
    if not slash:
        address = _unmap(address)
        return ip_network(address)
    most = address.max_prefixlen
    if not _LENGTH.fullmatch(length) or int(length) > most:
        raise ValueError(f"{text!r}: {length!r} is no length of a network; lengths go from 0 to {most}")
    network = ip_network((address, int(length)), strict=False)
    if network.network_address != address:
        raise ValueError(f"{text!r} has bits after its length: write {network}, or {address} for that one address")
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return ip_network((_unmap(network.network_address), network.prefixlen - _MAPPED.prefixlen))
    return network


def _address(text: str) -> IPv4Address | IPv6Address:
    if "%" in text:
        raise ValueError(f"{text!r} names a zone: only addresses without one can be told apart")
    try:
        return ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is no IP address") from None


def _unmap(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def plainAddress(text: str) -> IPv4Address | IPv6Address:
    """
    Read an address; an IPv4-mapped IPv6 address becomes the IPv4 one, which is what the kernel connects to.

    @raise ValueError: One sentence on what is wrong.
    """
    return _unmap(_address(text))


def embedded(address: IPv4Address | IPv6Address) -> list[tuple[IPv4Address, str]]:
    """
    Find the IPv4 addresses that an IPv6 address may lead to by way of a translator or a tunnel.

    @return: Each with what the IPv6 address is then, in words; several where it can be read in several ways.
    """
    if not isinstance(address, IPv6Address) or address.is_loopback or address.is_unspecified:
        return []
    whole = int(address)
    found = [
        (IPv4Address((whole >> shift & 0xFFFFFFFF) ^ mask), words)
        for prefix, words, shift, mask in _EMBEDDING
        if address in prefix
    ]
    if address in _LOCAL_NAT64:
        found += [(one, "a NAT64 address") for one in _localNAT64(whole)]
    if whole >> 32 & 0xFFFFFFFF in _ISATAP:
        found.append((IPv4Address(whole & 0xFFFFFFFF), "an ISATAP address"))
    return found


def _localNAT64(whole: int) -> list[IPv4Address]:
    """
    Read an address of 64:ff9b:1::/48, RFC 8215: only its network knows how long the translator's prefix is.

    So all lengths that RFC 6052, section 2.2 has from 48 on are tried.  With a wrong one, it is mostly zeros that are
    read, and a translator sends nothing to 0.0.0.0/8.
    """
    # Bits 64 to 71 are always zero and no part of the address, which starts right after the prefix.
    joined = whole >> 64 << 56 | whole & (1 << 56) - 1
    readings = [IPv4Address(joined >> shift & 0xFFFFFFFF) for shift in (40, 32, 24)]
    readings.append(IPv4Address(whole & 0xFFFFFFFF))
    return [one for one in readings if one not in _THIS_NETWORK] or readings[-1:]


def special(address: IPv4Address | IPv6Address) -> str:
    """
    Tell whether an address leads to this very machine, its links, or its cloud's inside, or is none of one host.

    Private networks such as 10.0.0.0/8 are ordinary.

    @return: C{""} for an ordinary address, else what it is, in words that follow an "is".
    """
    if address in _METADATA:
        return "a cloud metadata address"
    for network, words in _SPECIAL:
        if address in network:
            return words
    for inner, form in embedded(address):
        words = special(inner)
        if words:
            return f"{form} of {inner}, which is {words}"
    return ""


def isName(name: str) -> bool:
    """
    Tell whether something can be a host name and is no IP address, in whatever form.  A dot at its end is allowed.
    """
    name = name.removesuffix(".")
    labels = name.split(".")
    return (
        len(name) <= _LONGEST_NAME
        and all(_LABEL.fullmatch(label) for label in labels)
        and not _NUMBER.fullmatch(labels[-1])
    )


def matchesName(pattern: str, name: str) -> bool:
    """
    Tell whether a host pattern matches a name.  Letter case is of no meaning, nor is a dot at the name's end.

    @param pattern: As L{parseNamePattern} returns it: a name; C{*.} before a name for exactly one label more, C{**.}
        for one or more; C{*} for any host, IP addresses included.
    """
    if pattern == "*":
        return bool(name)
    if not isName(name):
        return False
    pattern, name = pattern.lower(), name.lower().removesuffix(".")
    stars, _, rest = pattern.partition(".")
    if stars == "*":
        return name.partition(".")[2] == rest
    if stars == "**":
        return name.endswith(f".{rest}")
    return name == pattern


def parseNamePattern(text: str) -> str:
    """
    Read a host pattern as people write it.

    @return: The pattern, in lower case.
    @raise ValueError: One sentence on what is wrong.
    """
    if text == "*":
        return text
    if text == "**":
        raise ValueError("'**' stands before a name, as in **.example.com; for any host, write *")
    if not text:
        raise ValueError("a host name is missing; for any host, write *")
    if not text.isascii():
        raise ValueError(f"{text!r}: write a name with other letters in its ASCII form, which starts with xn--")
    if text.endswith("."):
        raise ValueError(f"{text!r}: leave the dot at the end out")
    stars, dot, rest = text.partition(".")
    name = rest if dot and stars in ("*", "**") else text
    if "*" in name:
        raise ValueError(f"{text!r}: a star stands for whole labels, and before a name: *.example.com, **.example.com")
    if isName(name):
        return text.lower()
    try:
        ip_address(name)
    except ValueError:
        pass
    else:
        raise ValueError(f"{text!r}: {name} is an IP address, not a host name")
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        raise ValueError(f"{text!r} ends in a number, as no host name does, and is no whole IP address")
    raise ValueError(f"{text!r} is no host name")
