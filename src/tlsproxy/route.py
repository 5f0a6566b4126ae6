# -*- test-case-name: tests.test_route -*-
"""
A route: where to listen, how to open both sides, and the bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from typing import Any, Final

from attrs import Attribute, Factory, field, frozen
from twisted.internet.interfaces import IStreamServerEndpoint

from tlsproxy.address import TCP, UDP, Address, Endpoint, Unix, asAddress
from tlsproxy.balancers import ANYBODY, Balancers, asBalancers
from tlsproxy.given import isOneOf, kindOf, takes, whyNoOptions
from tlsproxy.interfaces import IHandlerOptions, IPattern, ISessionObserver
from tlsproxy.rules import Rule
from tlsproxy.tls.policy import option

__all__ = ["DATAGRAM_MODES", "SENDABLE", "USUALLY_SENT", "Limits", "Route"]

SENDABLE: Final = ("alpn", "authority", "ssl", "client-cert", "unique-id", "crc32c")
"""What a PROXY header of version 2 can tell an upstream beside the addresses."""
USUALLY_SENT: Final = ("alpn", "authority", "ssl")
DATAGRAM_MODES: Final = ("offload", "encrypt", "bridge", "passthrough")
"""The modes that carry datagrams as well as streams."""


def _limit(seconds: float, help: str, late: str) -> float:
    """
    A limit.

    @param late: What was not done in time, for the log.
    """
    limit: float = option(seconds, help, validator=_isSeconds, kind="seconds", late=late)
    return limit


def _isSeconds(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"Limits({attribute.name}=...): give a number of seconds, 0 for no limit, not {kindOf(value)}")
    if not 0 <= value < inf:
        raise ValueError(f"Limits({attribute.name}=...): give a number of seconds, 0 for no limit, not {value}")


def _inOrder(given: Any) -> Any:
    # What is a tuple now is told apart from what cannot be one afterwards.
    return tuple(given) if isinstance(given, Iterable) and not isinstance(given, (str, bytes)) else given


def _isName(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError(f"Route(name=...): give a string, not {kindOf(value)}")
    if not value or not value.isprintable():
        raise ValueError(f"Route(name=...): {value!r} is no name that a line of the log can have")


def _isCount(least: int = 0, most: int = 0) -> Callable[[Any, Attribute[Any], Any], None]:
    wanted = f"a whole number, {least} to {most}" if most else "a whole number, 0 for no limit"

    def check(instance: Any, attribute: Attribute[Any], value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"Route({attribute.name}=...): give {wanted}, not {kindOf(value)}")
        if not least <= value <= (most or value):
            raise ValueError(f"Route({attribute.name}=...): give {wanted}, not {value}")

    return check


def _areSendable(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    if not isinstance(value, tuple):
        raise TypeError(f"Route(sendProxyTLVs=...): give several in a tuple, not {kindOf(value)}")
    for one in value:
        if one not in SENDABLE:
            raise ValueError(f"Route(sendProxyTLVs=...): {one!r} is not one of {', '.join(SENDABLE)}")
    if "client-cert" in value and "ssl" not in value:
        raise ValueError('Route(sendProxyTLVs=...): "client-cert" is a part of "ssl": give both')


_isHook = takes("a function of the session", Callable, None)


@frozen(kw_only=True)
class Limits:
    """
    How long each phase may take, in seconds; 0 for no limit.  None is infinite by default but C{lifetime}.
    """

    hello: float = _limit(5.0, "from the connection to the whole ClientHello", "the client did not send a whole hello")
    head: float = _limit(5.0, "for the head of a CONNECT request", "the client did not send a whole request")
    negotiate: float = _limit(
        30.0, "for a protocol handler's talk before TLS, or a reverse proxy's answer", "the talk before TLS did not end"
    )
    handshake: float = _limit(
        10.0, "for the TLS handshake with the client", "the client did not finish the TLS handshake"
    )
    route: float = _limit(5.0, "to admit the client and choose an upstream", "the client was not admitted")
    dial: float = _limit(5.0, "to reach the upstream, names and all addresses included", "the upstream did not answer")
    upstreamHandshake: float = _limit(
        10.0, "for the TLS handshake with the upstream", "the upstream did not finish the TLS handshake"
    )
    downgrade: float = _limit(10.0, "to end TLS and go on in plain", "TLS did not end")
    idle: float = _limit(600.0, "without a byte in either direction", "no byte moved")
    halfClosed: float = _limit(
        60.0, "without a byte after one direction has ended", "no byte moved after one side had ended"
    )
    lifetime: float = _limit(0.0, "for the whole session", "the session did not end")


@frozen(kw_only=True)
class Route:
    """
    One way through the proxy.

    @ivar name: What it is called in logs.
    @ivar listen: Where its clients connect: an address, as a string too, or an endpoint; L{None} for a route that only
        the program itself connects by.
    @ivar acceptProxy: The balancers that tell by a PROXY header who their clients are: networks, as strings, and
        C{"unix"} for whoever comes by a Unix socket; L{None} where clients connect by themselves.  Nobody else gets in.
        An address of C{haproxy:} says by itself that it is everybody.
    @ivar sendProxy: The PROXY header that upstreams get before anything else: C{"v1"}, C{"v2"}, or C{""} for none.
    @ivar sendProxyTLVs: What a header of version 2 tells beside the addresses, words of L{SENDABLE}.
    @ivar pattern: How the two sides of a session are opened.
    @ivar rules: Which upstream a client gets; one for whom there is no rule gets the pattern's.
    @ivar limits: Deadlines.
    @ivar close: C{"each"}: the end of one direction is passed on, and the other goes on; C{"both"}: it ends both.
    @ivar truncation: C{"tell"}: a stream that ended without its close_notify goes on as such; C{"abort"}: as a reset.
    @ivar mtu: The most bytes of a datagram toward a peer, until the kernel tells of less; without a use for streams.
    @ivar handlers: What stands between the two sides of each session, the one nearest the client first.
    @ivar authorize: Asked for each L{tlsproxy.session.Session} once its client is known (hello, rules, handshake,
        certificate or user), before anything is dialed for it: it is let in if this returns C{True}.  It may be
        asynchronous; what it raises refuses the client.  Where the upstream chooses the application protocol, it is
        asked before the handshake.
    @ivar chooseUpstream: Asked after that, or before where the upstream has to speak first, where to connect the
        session: an address, as a string too, or a client endpoint; L{None} leaves it to the rules and the pattern.  It
        may be asynchronous; what it raises ends the session.
    @ivar observers: Who sees the sessions.
    @ivar maxConnections: The most sessions at once; further clients wait in the kernel.  0 for no limit, as below.
    @ivar maxClientConnections: The most sessions of one client network at once; further ones are refused.
    @ivar maxClientHandshakes: The most new sessions a second of one client network, and five times as many in a burst;
        further ones are refused.
    @ivar clientPrefixIpv4: The length of the prefix that makes a client network of IPv4.
    @ivar clientPrefixIpv6: The same for IPv6.
    """

    name: str = field(validator=_isName)
    listen: Address | IStreamServerEndpoint | None = field(
        default=None,
        converter=asAddress,
        validator=takes(
            'an address, as in "127.0.0.1:8443", or a server endpoint',
            TCP,
            UDP,
            Unix,
            Endpoint,
            IStreamServerEndpoint,
            None,
        ),
    )
    pattern: IPattern = field(validator=takes("a pattern, such as Offload(...)", IPattern))
    acceptProxy: Balancers | None = field(
        default=None,
        converter=asBalancers,
        validator=takes('networks in a tuple, as in ("10.0.0.0/8", "unix")', Balancers, None),
    )
    sendProxy: str = field(default="", validator=isOneOf("", "v1", "v2"))
    sendProxyTLVs: tuple[str, ...] = field(default=USUALLY_SENT, converter=_inOrder, validator=_areSendable)
    rules: tuple[Rule, ...] = field(default=(), converter=_inOrder, validator=takes("a Rule(...)", Rule, several=True))
    limits: Limits = field(default=Factory(Limits), validator=takes("Limits(...)", Limits))
    close: str = field(default="each", validator=isOneOf("each", "both"))
    truncation: str = field(default="tell", validator=isOneOf("tell", "abort"))
    mtu: int = field(default=1200, validator=_isCount(256, 65507))
    handlers: tuple[IHandlerOptions, ...] = field(
        default=(), converter=_inOrder, validator=takes("the options of a handler", IHandlerOptions, several=True)
    )
    authorize: Callable[[Any], Any] | None = field(default=None, validator=_isHook)
    chooseUpstream: Callable[[Any], Any] | None = field(default=None, validator=_isHook)
    observers: tuple[ISessionObserver, ...] = field(
        default=(),
        converter=_inOrder,
        validator=takes(
            "an object with the methods of ISessionObserver", tuple(ISessionObserver.names()), several=True
        ),
    )
    maxConnections: int = field(default=0, validator=_isCount())
    maxClientConnections: int = field(default=0, validator=_isCount())
    maxClientHandshakes: int = field(default=0, validator=_isCount())
    clientPrefixIpv4: int = field(default=32, validator=_isCount(1, 32))
    clientPrefixIpv6: int = field(default=64, validator=_isCount(1, 128))

    def __attrs_post_init__(self) -> None:
        for options in self.handlers:
            why = whyNoOptions(type(options))
            if why:
                raise TypeError(f"Route(handlers=...): {why}")
        tls = getattr(self.pattern, "tls", None)
        if tls is not None and tls.policy.mirrors and any(options.startsTLS for options in self.handlers):
            raise ValueError(
                'Route(handlers=...): alpn "mirror" asks the upstream before any of them can have started TLS'
            )
        if not getattr(self.pattern, "ruled", True):
            if self.rules:
                raise ValueError(f"mode {self.pattern.mode} goes by no rules")
            if self.chooseUpstream is not None:
                raise ValueError(f"mode {self.pattern.mode} dials what its clients ask for, so nothing else chooses")
            if self.sendProxy:
                raise ValueError(f"mode {self.pattern.mode} dials targets that expect no PROXY header")
        listen = self.listen
        if isinstance(listen, UDP) or any(isinstance(one, UDP) for one in self._upstreams()):
            self._checkDatagrams()
        if getattr(getattr(listen, "_wrapperFactory", None), "__module__", "").startswith("twisted.protocols.haproxy"):
            # Its header comes after the connection is ours, which would be taken for the balancer's own.
            raise ValueError("Route(listen=...): give the endpoint that proxyEndpoint() wraps, and acceptProxy")
        if self.acceptProxy is None and isinstance(listen, Endpoint) and listen.description.startswith("haproxy:"):
            object.__setattr__(self, "acceptProxy", ANYBODY)

    def _upstreams(self) -> list[object]:
        known = [getattr(self.pattern, "upstream", None), *(rule.upstream for rule in self.rules)]
        return [one for one in known if one is not None]

    def _checkDatagrams(self) -> None:
        """
        Datagrams are joined with datagrams only, and know nothing of what belongs to a stream.

        @raise ValueError: One sentence on what is wrong.
        """
        if self.pattern.mode not in DATAGRAM_MODES:
            raise ValueError(f"mode {self.pattern.mode} carries streams, and no datagrams")
        if not all(isinstance(one, UDP) for one in (self.listen, *self._upstreams())):
            raise ValueError("datagrams on one side and a stream on the other cannot be joined: give udp: for both")
        if self.sendProxy or self.acceptProxy is not None:
            raise ValueError("a PROXY header goes before a stream, and not before datagrams")
        if self.close != "each" or self.truncation != "tell":
            raise ValueError("datagrams have no end of one direction: leave close and truncation out")
        if not getattr(self.pattern, "requireTLS", True):
            raise ValueError("datagrams go by the hello of DTLS: leave requireTLS out")
        tls = getattr(self.pattern, "tls", None)
        if tls is not None and tls.policy.mirrors:
            raise ValueError('alpn "mirror" keeps the client waiting, and one of DTLS says its hello again meanwhile')
        for options in self.handlers:
            if not options.datagrams:
                raise ValueError(f"Route(handlers=...): {options.name} does not declare that it takes datagrams")
            if options.startsTLS or options.serverFirst:
                raise ValueError(f"Route(handlers=...): {options.name} talks before TLS, and DTLS is there at once")
