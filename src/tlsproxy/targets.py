# -*- test-case-name: tests.test_targets -*-
"""
Which hosts and ports a client may be connected to when it is the client who names them.

Nothing is allowed by default, and C{deny} beats C{allow}.  What is checked in the end are addresses, and only those
that were checked are dialed, so it is of no use to a client that its DNS answers otherwise a moment later.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from attrs import field, frozen

from tlsproxy.errors import AdmissionRefused
from tlsproxy.wire.network import (
    embedded,
    isName,
    matchesName,
    parseNamePattern,
    parseNetwork,
    plainAddress,
    special,
)

__all__ = ["Target", "TargetRefused", "Targets", "ownListener", "parseTarget"]

_ALLOW: Final = "[route.targets] allow"
_DENY: Final = "[route.targets] deny"
_ALL_PORTS: Final = (1, 65535)
_PORTS: Final = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", re.ASCII)


class TargetRefused(AdmissionRefused):
    """
    A client may not be connected to what it asked for.  Its text is for the log.

    @ivar public: The sentence for the client.  It is the same whatever the reason, so that nobody learns from it what
        a name resolves to, or what the lists hold.
    """

    def __init__(self, sentence: str, public: str) -> None:
        super().__init__(sentence)
        self.public = public


@frozen
class Target:
    """
    One entry of a list.

    @ivar text: The entry as it was written.
    @ivar pattern: A host pattern, as L{parseNamePattern} returns it; C{""} where there is a network.
    @ivar network: A network, which may be of one address; L{None} where there is a pattern.
    @ivar ports: The first port and the last.
    """

    text: str = field(eq=False)
    pattern: str
    network: IPv4Network | IPv6Network | None
    ports: tuple[int, int]

    def __str__(self) -> str:
        return self.text

    def names(self, host: str) -> bool:
        """
        Tell whether the pattern matches a host.  But for C{*}, patterns match no IP addresses.
        """
        return bool(self.pattern) and matchesName(self.pattern, host)

    def covers(self, address: IPv4Address | IPv6Address) -> bool:
        """
        Tell whether the network holds an address.
        """
        return self.network is not None and address in self.network

    def opens(self, port: int) -> bool:
        """
        Tell whether a port is among those of the entry.
        """
        return self.ports[0] <= port <= self.ports[1]

    def isWithin(self, other: Target) -> bool:
        """
        Tell whether another entry has all hosts and ports that this one has.
        """
        if not (other.ports[0] <= self.ports[0] and self.ports[1] <= other.ports[1]):
            return False
        if other.pattern == "*":
            return True
        mine, theirs = self.network, other.network
        if isinstance(mine, IPv4Network) and isinstance(theirs, IPv4Network):
            return mine.subnet_of(theirs)
        if isinstance(mine, IPv6Network) and isinstance(theirs, IPv6Network):
            return mine.subnet_of(theirs)
        if mine is not None or theirs is not None or self.pattern == "*":
            return False
        stars, _, rest = self.pattern.partition(".")
        if stars not in ("*", "**"):
            return other.names(self.pattern)
        # Of a pattern with stars, the names have one label more than the rest, or several.
        return other.pattern == self.pattern or (other.pattern.startswith("**.") and other.names(f"x.{rest}"))


def parseTarget(text: str, needsPort: bool) -> Target:
    """
    Read an entry as people write it: C{HOST:PORT}, with a host pattern, an address or a network for the host, in
    brackets for IPv6, and C{LOW-HIGH} or C{*} for the port if wanted.

    @param needsPort: Whether an entry without a port is wrong; otherwise it is for all ports.
    @raise ValueError: One sentence on what is wrong.
    """
    if not text or not text.isprintable() or " " in text:
        raise ValueError(f"{text!r} is no target: give HOST:PORT, ADDRESS:PORT or NETWORK:PORT")
    if "://" in text:
        raise ValueError(f"{text!r} is a URL: give HOST:PORT")
    if "@" in text:
        raise ValueError(f"{text!r}: leave out the user: give HOST:PORT")
    if text.isascii() and text.isdigit():
        raise ValueError(f"{text!r} names no host: for any host, write *:{text}")
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or ":" not in host:
            raise ValueError(f"{text!r}: brackets hold an IPv6 address or network, as in [2001:db8::/32]:443")
        if rest.startswith("/"):
            raise ValueError(f"{text!r}: the length of a network belongs into the brackets, as in [2001:db8::/32]:443")
        if rest and not rest.startswith(":"):
            raise ValueError(f"{text!r}: after the brackets only a port may follow, as in [{host}]:443")
        # The entry's own colon is the first after the bracket.
        return Target(text, "", parseNetwork(host), _ports(text, f"[{host}]", rest, needsPort))
    host, colon, port = text.partition(":")
    if ":" in port:
        raise ValueError(f"{text!r}: {_colons(text)}")
    if not host:
        raise ValueError(f"{text!r} names no host: for any host, write *{text}")
    pattern, network = _host(text, host)
    return Target(text, pattern, network, _ports(text, host, colon + port, needsPort))


def _colons(text: str) -> str:
    """
    Say what is wrong with several colons outside of brackets.
    """
    try:
        parseNetwork(text)
    except ValueError:
        return "put an IPv6 address in brackets, as in [2001:db8::1]:443; otherwise one colon at most, before the port"
    return f"put an IPv6 address or network in brackets: [{text}], or with a port [{text}]:443"


def _host(text: str, host: str) -> tuple[str, IPv4Network | IPv6Network | None]:
    try:
        return "", parseNetwork(host)
    except ValueError:
        start, slash, _ = host.partition("/")
        if not slash:
            return parseNamePattern(host), None
        if not _isAddress(start):
            raise ValueError(f"{text!r}: only an address may have a slash, as in 10.0.0.0/8") from None
        raise


def _isAddress(text: str) -> bool:
    try:
        plainAddress(text)
    except ValueError:
        return False
    return True


def _ports(text: str, host: str, written: str, needsPort: bool) -> tuple[int, int]:
    """
    Read the ports of an entry.

    @param written: They, with the colon before them; or nothing.
    """
    port = written[1:]
    if not port and (needsPort or written):
        raise ValueError(f"{text!r}: say which port, as in {host}:443, or {host}:* for all")
    if not port or port == "*":
        return _ALL_PORTS
    found = _PORTS.fullmatch(port)
    if found is None and "," in port:
        raise ValueError(f"{text!r}: give each port an entry of its own, or a range, as in {host}:8000-8099")
    low = int(found[1]) if found else 0
    high = int(found[2] or low) if found else 0
    if low < _ALL_PORTS[0] or high > _ALL_PORTS[1]:
        raise ValueError(f"{text!r}: {port!r} is no port; ports go from {_ALL_PORTS[0]} to {_ALL_PORTS[1]}")
    if high < low:
        raise ValueError(f"{text!r}: the range is backward: write {host}:{high}-{low}")
    return low, high


def _entries(given: str | Iterable[Target | str], needsPort: bool) -> tuple[Target, ...]:
    given = (given,) if isinstance(given, str) else given
    return tuple(parseTarget(one, needsPort) if isinstance(one, str) else one for one in given)


def _toAllow(given: str | Iterable[Target | str]) -> tuple[Target, ...]:
    return _entries(given, True)


def _toDeny(given: str | Iterable[Target | str]) -> tuple[Target, ...]:
    return _entries(given, False)


def _tell(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _refuse(host: str, port: int, reason: str) -> TargetRefused:
    """
    Make a refusal.

    @param reason: What follows the target in the log's sentence.
    """
    target = _tell(host, port)
    return TargetRefused(f"{target} {reason}", f"this proxy does not allow a tunnel to {target}")


def _literal(host: str, port: int) -> IPv4Address | IPv6Address | None:
    """
    Read a host that is an address.

    @return: The address, or L{None} for a name.
    @raise TargetRefused: It is neither.
    """
    if isName(host):
        return None
    try:
        return plainAddress(host)
    except ValueError:
        # It may hold anything, so it is not repeated to anybody but the log.
        sentence = f"{host!r}, port {port}, is neither a host name nor a plain IP address"
        raise TargetRefused(sentence, "this proxy does not allow a tunnel to such a host") from None


@frozen(kw_only=True)
class Targets:
    """
    What is allowed, and what of it is not.

    @ivar allow: Entries, or strings for L{parseTarget}; each names its port.
    @ivar deny: The same; these may be without a port.
    @ivar origin: What C{allow} is called in the log.
    """

    allow: tuple[Target, ...] = field(default=(), converter=_toAllow)
    deny: tuple[Target, ...] = field(default=(), converter=_toDeny)
    origin: str = field(default=_ALLOW, eq=False)

    def admit(self, host: str, port: int) -> None:
        """
        Refuse what cannot be permitted whatever its addresses are.  This comes before any query of DNS.

        @param host: A name, or an IP address.
        @raise TargetRefused: It is denied by name, or nothing allows it.
        """
        literal = _literal(host, port)
        self._denyName(host, port)
        if literal is not None:
            reason = self._denied(literal, port) or self._unlisted(host, literal, port)
            if reason:
                raise _refuse(host, port, reason)
        elif not any(one.opens(port) and (one.network is not None or one.names(host)) for one in self.allow):
            raise _refuse(host, port, f"is not in {self.origin}")

    def permitted(
        self,
        host: str,
        port: int,
        addresses: Sequence[str],
        own: Callable[[str, int], bool],
        beside: Targets | None = None,
    ) -> list[str]:
        """
        Find the addresses that may be dialed.

        An IPv6 address that embeds an IPv4 one is denied, and known as this proxy's own, wherever that one is; but it
        is not allowed where that one is.

        @param host: As for L{admit}.
        @param addresses: What the name resolved to; for an address, it alone.
        @param own: Tells whether an address and a port lead to a listener of this proxy.  Asked only about what would
            be permitted otherwise.
        @param beside: Another list that is asked, too: what an address or a network of its C{allow} covers is meant,
            although it leads back to this machine.
        @return: At least one, in the order given and each once; IPv4-mapped ones as IPv4.
        @raise TargetRefused: None is left; the sentence tells why the first was refused.
        """
        literal = _literal(host, port)
        self._denyName(host, port)
        found: dict[str, None] = {}
        reasons: list[str] = []
        for text in addresses:
            try:
                address = plainAddress(text)
            except ValueError as e:
                reasons.append(f"is refused: {e}")
                continue
            reason = self._refused(host, address, port, own, beside)
            if not reason:
                found[str(address)] = None
            elif address == literal:
                reasons.append(reason)
            else:
                reasons.append(f"is refused: its address {address} {reason}")
        if not found:
            raise _refuse(host, port, reasons[0] if reasons else "is refused: it has no address")
        return list(found)

    def _denyName(self, host: str, port: int) -> None:
        for one in self.deny:
            if one.opens(port) and one.names(host):
                raise _refuse(host, port, f"is denied by {one.text!r} of {_DENY}")

    def _denied(self, address: IPv4Address | IPv6Address, port: int) -> str:
        """
        Say which network of C{deny} holds an address, or an IPv4 address that it embeds.
        """
        for one in self.deny:
            if not one.opens(port):
                continue
            if one.covers(address):
                return f"is denied by {one.text!r} of {_DENY}"
            for inner, form in embedded(address):
                if one.covers(inner):
                    return f"is {form} of {inner}, which is denied by {one.text!r} of {_DENY}"
        return ""

    def _covered(self, address: IPv4Address | IPv6Address, port: int) -> bool:
        return any(one.opens(port) and one.covers(address) for one in self.allow)

    def _unlisted(self, host: str, address: IPv4Address | IPv6Address, port: int) -> str:
        """
        Say that neither a host nor its address is allowed.
        """
        if self._covered(address, port) or any(one.opens(port) and one.names(host) for one in self.allow):
            return ""
        return f"is not in {self.origin}"

    def _refused(
        self,
        host: str,
        address: IPv4Address | IPv6Address,
        port: int,
        own: Callable[[str, int], bool],
        beside: Targets | None,
    ) -> str:
        """
        Say why an address may not be dialed; C{""} where it may.
        """
        denied = self._denied(address, port)
        if denied or self._covered(address, port):
            return denied
        meant = beside is not None and beside._covered(address, port)
        words = special(address)
        if words and not meant:
            return f"is {words}, and no address or network in {self.origin} covers it"
        unlisted = self._unlisted(host, address, port)
        if unlisted:
            return unlisted
        for one in (address, *(inner for inner, _ in embedded(address))):
            if not meant and own(str(one), port):
                return f"is a listener of this proxy, and no address or network in {self.origin} covers it"
        return ""


def ownListener(listeners: Iterable[tuple[str, int]], isLocal: Callable[[str], bool]) -> Callable[[str, int], bool]:
    """
    Make what tells the listeners of this proxy from other places.

    @param listeners: Each one's host and port as bound: C{0.0.0.0} is for all IPv4 addresses, C{::} for those of both
        families.  They are gone through anew each time, so they may change.
    @param isLocal: Tells whether an address is one of this machine; asked only where a listener for all has the port.
    @return: Takes an address and a port.
    """

    def own(text: str, port: int) -> bool:
        address = plainAddress(text)
        everywhere = False
        for host, bound in listeners:
            if bound != port:
                continue
            # The zone of a link-local address says on which link it is; on doubt, it is the same.
            listening = plainAddress(host.partition("%")[0])
            if address == listening:
                return True
            everywhere = everywhere or (
                listening.is_unspecified and (listening.version == 6 or listening.version == address.version)
            )
        return everywhere and isLocal(str(address))

    return own
