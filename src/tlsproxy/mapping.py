# -*- test-case-name: tests.test_mapping -*-
"""
Which hosts a client proxy reaches by way of which reverse proxy, which directly, and which not at all.

It goes by what a client asks for, and looks no name up: a host that is reached by way of a reverse proxy is that one's
to look up.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from attrs import Attribute, field, frozen

from tlsproxy.address import TCP
from tlsproxy.given import takes
from tlsproxy.targets import Target, Targets, parseTarget
from tlsproxy.tls.contexts import ClientTLS, isClientTLS
from tlsproxy.wire.network import isName, plainAddress

__all__ = ["Entry", "Mapping", "ReverseProxy", "canonical"]


@frozen(kw_only=True)
class ReverseProxy:
    """
    A reverse proxy.

    @ivar name: What it is called in the mapping and in messages.
    @ivar address: Where it is: a host and its port.
    @ivar tls: The TLS toward it, with the name that its certificate has to show.
    """

    name: str = field(validator=takes("a name", str))
    address: TCP = field(validator=takes("TCP(host, port)", TCP))
    tls: ClientTLS = field(validator=isClientTLS)

    def __str__(self) -> str:
        return f"{self.name} ({self.address})"


def _hosts(given: str | Iterable[Target | str]) -> tuple[Target, ...]:
    given = (given,) if isinstance(given, str) else given
    return tuple(parseTarget(one, True) if isinstance(one, str) else one for one in given)


def _inOrder(given: Any) -> Any:
    return tuple(given)


def _isOneWay(instance: Any, attribute: Attribute[Any], value: bool) -> None:
    if instance.via is not None and value:
        raise ValueError("Entry(via=..., direct=True): a host is reached in one way or in the other")


@frozen(kw_only=True)
class Entry:
    """
    What becomes of some hosts.

    @ivar hosts: Which, as the targets of L{tlsproxy.targets}; each names its port.
    @ivar via: The reverse proxy to reach them by; L{None} for none.
    @ivar direct: Whether they are reached directly.  With neither, they are refused.
    @ivar sni: Server names that the TLS inside a tunnel may ask for beside the host's own, C{"none"} for one that asks
        for none.
    """

    hosts: tuple[Target, ...] = field(converter=_hosts, validator=takes("a target", Target, several=True))
    via: ReverseProxy | None = field(default=None, validator=takes("a ReverseProxy(...)", ReverseProxy, None))
    direct: bool = field(default=False, validator=[takes("True or False", bool), _isOneWay])
    sni: tuple[str, ...] = field(default=(), converter=_inOrder, validator=takes("a server name", str, several=True))

    def __str__(self) -> str:
        return f"{', '.join(map(str, self.hosts))}: {self.way}"

    @property
    def way(self) -> str:
        """
        What becomes of them, in words.
        """
        return f"via {self.via}" if self.via is not None else "direct" if self.direct else "refuse"

    def holds(self, host: str, port: int) -> bool:
        """
        Tell whether a host and its port are among these.

        @param host: A name, or an address in its canonical form.
        """
        if isName(host):
            return any(one.opens(port) and one.names(host) for one in self.hosts)
        address = plainAddress(host)
        return any(one.opens(port) and (one.names(host) or one.covers(address)) for one in self.hosts)

    @property
    def targets(self) -> Targets:
        """
        What of it may be dialed from here, where it is direct.
        """
        return Targets(allow=self.hosts, origin="hosts of this [[map]]")


def _hasZone(instance: Any, attribute: Attribute[Any], value: datetime | None) -> None:
    if value is not None and value.tzinfo is None:
        raise ValueError("Mapping(expires=...) takes a time with its time zone")


@frozen(kw_only=True)
class Mapping:
    """
    What becomes of all hosts: the first entry that holds one counts, and what none holds is refused.

    @ivar entries: In their order.
    @ivar expires: From when on no host is reached by it, in any way; L{None} for never.
    """

    entries: tuple[Entry, ...] = field(converter=_inOrder, validator=takes("an Entry(...)", Entry, several=True))
    expires: datetime | None = field(default=None, validator=[takes("a time", datetime, None), _hasZone])

    def find(self, host: str, port: int) -> Entry | None:
        """
        Find what becomes of a host.

        @param host: A name, in whatever letter case and with or without a dot at its end, or an address.
        @param port: The port.
        @return: L{None} where it is not in the mapping.
        @raise ValueError: It is neither a name nor a plain address.
        """
        host = canonical(host)
        return next((one for one in self.entries if one.holds(host, port)), None)

    @property
    def reverseProxies(self) -> tuple[ReverseProxy, ...]:
        """
        All reverse proxies that it leads to.
        """
        return tuple(dict.fromkeys(one.via for one in self.entries if one.via is not None))


def canonical(host: str) -> str:
    """
    Bring a host into the one form in which it is compared.

    @return: A name in lower case and without a dot at its end, or an address; an IPv4-mapped one as IPv4.
    @raise ValueError: It is neither.
    """
    return host.lower().removesuffix(".") if isName(host) else str(plainAddress(host))
