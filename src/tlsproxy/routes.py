# -*- test-case-name: tests.test_routes -*-
"""
From the table of a route to the route.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

from attrs import evolve

from tlsproxy.address import TCP, Address, Endpoint, Unix
from tlsproxy.handlertables import Told, readHandlers, tellTLS, whyBlind
from tlsproxy.installed import Installed
from tlsproxy.interfaces import FAR, NEAR, IPattern
from tlsproxy.keeping import Kept, filesOf
from tlsproxy.passwords import Users
from tlsproxy.patterns.bridge import Bridge
from tlsproxy.patterns.connect import Connect
from tlsproxy.patterns.encrypt import Encrypt
from tlsproxy.patterns.offload import Offload
from tlsproxy.patterns.passthrough import Passthrough
from tlsproxy.proxytables import readBalancers, readSent
from tlsproxy.reading import Reader
from tlsproxy.route import Limits, Route
from tlsproxy.rules import Rule
from tlsproxy.ruletables import hostOf, readRules
from tlsproxy.settings import BESIDE_CERT, MODES, RouteSettings, TargetSettings
from tlsproxy.targets import Target, Targets, parseTarget
from tlsproxy.tls.contexts import ClientTLS, ServerTLS
from tlsproxy.tls.policy import ClientPolicy, HostPolicy, Policy, ServerPolicy
from tlsproxy.wire.host import isLiteral

__all__ = ["RouteReader", "isPrivate"]

T = TypeVar("T")

_TABLES: Final[Mapping[str, type[Any] | None]] = {
    "tls": ServerPolicy,
    "upstream_tls": ClientPolicy,
    "limits": Limits,
    "rule": None,
    "targets": TargetSettings,
    "handler": None,
}
_SENDS: Final = ("send_proxy", "send_proxy_tlvs")
_TAKES: Final[Mapping[str, frozenset[str]]] = {
    "offload": frozenset({"upstream", "rule", "tls", *_SENDS}),
    "encrypt": frozenset({"upstream", "rule", "upstream_tls", *_SENDS}),
    "bridge": frozenset({"upstream", "rule", "tls", "upstream_tls", *_SENDS}),
    "passthrough": frozenset({"upstream", "rule", "require_tls", *_SENDS}),
    "connect": frozenset({"tls", "targets", "users"}),
}
"""Which of the keys that not every mode takes a mode takes."""
_SIDES: Final[Mapping[str, tuple[str, ...]]] = {"offload": (NEAR,), "encrypt": (FAR,), "bridge": (NEAR, FAR)}
"""Where a mode has TLS that a handler may start."""
_SOME: Final = tuple(dict.fromkeys(key for keys in _TAKES.values() for key in sorted(keys)))
_WHY_NOT: Final = {
    ("offload", "upstream_tls"): "mode offload speaks no TLS with its upstream, only with its clients",
    ("encrypt", "tls"): "mode encrypt speaks no TLS with its clients, only with its upstream",
    ("passthrough", "tls"): "mode passthrough decrypts nothing",
    ("passthrough", "upstream_tls"): "mode passthrough encrypts nothing",
    ("connect", "upstream"): "mode connect dials what its clients ask for",
    ("connect", "rule"): "mode connect dials what its clients ask for, as far as [route.targets] allows it",
    ("connect", "send_proxy"): "mode connect dials targets that expect no PROXY header",
    ("connect", "upstream_tls"): "mode connect speaks no TLS with its targets",
}


class RouteReader:
    """
    Makes routes.

    @ivar warnings: What is doubtful but works, one sentence each.
    """

    def __init__(self, reader: Reader, now: datetime, installed: Installed, kept: Kept) -> None:
        """
        @param reader: Reads tables, and collects what is wrong.
        @param now: The time that certificates have to be valid at.
        @param installed: The handlers that there are.
        @param kept: What was loaded before.
        """
        self._reader = reader
        self._now = now
        self._installed = installed
        self._kept = kept
        self._listening: list[tuple[Address, str]] = []
        self.warnings: list[str] = []

    def read(self, table: object, path: str) -> Route | None:
        """
        Read a route.

        @return: None where something is wrong with it.
        """
        reader = self._reader
        before = len(reader.problems)
        settings = reader.settings(RouteSettings, table, path, _tablesOf(table))
        if not isinstance(table, Mapping):
            return None
        limits = reader.settings(Limits, table.get("limits", {}), f"{path}.limits")
        listen = reader.listen(settings.listen, f"{path}.listen")
        name = settings.name or settings.mode
        if not name.isprintable():
            reader.tell(f"{path}.name", f"{name!r} has what cannot be printed on one line: leave that out")
            name = settings.mode
        if listen is not None:
            self._tellTaken(listen, name, f"{path}.listen")
        handlers: tuple[Told, ...] = ()
        if "handler" in table:
            handlers = readHandlers(reader, table["handler"], f"{path}.handler", self._installed)
        if not settings.mode:
            reader.tell(f"{path}.mode", f"say which mode: one of {', '.join(MODES)}")
            self._serverPolicy(table.get("tls", {}), f"{path}.tls")
            reader.settings(ClientPolicy, table.get("upstream_tls", {}), f"{path}.upstream_tls")
            reader.settings(TargetSettings, table.get("targets", {}), f"{path}.targets")
            self._upstream(settings, path)
            if "rule" in table:
                readRules(reader, table["rule"], f"{path}.rule", "", None)
            return None
        for key in _SOME:
            if key in table and key not in _TAKES[settings.mode]:
                why = _WHY_NOT.get((settings.mode, key), f"mode {settings.mode} has no use for it")
                reader.tell(f"{path}.{key}", f"{why}: leave this out")
        sides = _SIDES.get(settings.mode, ())
        tellTLS(reader, handlers, settings.mode, sides)
        blind = whyBlind(handlers, sides)
        tls = table.get("tls")
        if blind and FAR in sides and not any(FAR in handler.startsTLS for handler in handlers):
            if isinstance(tls, Mapping) and tls.get("alpn"):
                # The upstream's handshake is over when the client's begins.
                reader.tell(f"{path}.tls.alpn", f"{blind}, so what is chosen with it cannot be offered: leave this out")
        mirrors = isinstance(tls, Mapping) and tls.get("alpn") in ("mirror", ["mirror"])
        if mirrors and any(handler.startsTLS for handler in handlers):
            reader.tell(f"{path}.tls.alpn", '"mirror" asks the upstream before any handler can have started TLS')
        warned = len(self.warnings)
        pattern, rules = self._pattern(settings, table, path, listen, blind)
        balancers = readBalancers(reader, settings, table, path, listen)
        told = readSent(reader, settings, table, path)
        if balancers is not None and balancers.unbounded and listen is not None and not isPrivate(listen):
            self.warnings.append(f"whoever reaches {listen} can say to be any client: let only the load balancer")
        self.warnings[warned:] = [f"route {name}: {warning}" for warning in self.warnings[warned:]]
        if len(reader.problems) > before or listen is None or pattern is None:
            return None
        return Route(
            name=name,
            listen=listen,
            acceptProxy=balancers,
            sendProxy=settings.sendProxy,
            sendProxyTLVs=told,
            pattern=pattern,
            rules=rules,
            limits=limits,
            handlers=tuple(handler.options for handler in handlers),
            close=settings.close,
            truncation=settings.truncation,
            maxConnections=settings.maxConnections,
            maxClientConnections=settings.maxClientConnections,
            maxClientHandshakes=settings.maxClientHandshakes,
            clientPrefixIpv4=settings.clientPrefixIpv4,
            clientPrefixIpv6=settings.clientPrefixIpv6,
        )

    def status(self, text: str, path: str) -> Address | None:
        """
        Read where the state of the proxy is told.

        @return: None where something is wrong with it.
        """
        listen = self._reader.listen(text, path)
        if isinstance(listen, TCP) and not listen.host:
            listen = TCP("127.0.0.1", listen.port)  # All addresses have to be asked for.
        if listen is not None:
            self._tellTaken(listen, "", path)
            if not isPrivate(listen):
                self.warnings.append(f"status: whoever reaches {listen} sees your routes, upstreams and certificates")
        return listen

    def _pattern(
        self, settings: RouteSettings, table: Mapping[str, Any], path: str, listen: Address | None, blind: str
    ) -> tuple[IPattern | None, tuple[Rule, ...]]:
        mode = settings.mode
        takes = _TAKES[mode]
        upstream = self._upstream(settings, path)
        tls = upstreamTLS = None
        if "upstream_tls" in takes:
            host = None if upstream is None else hostOf(upstream)
            upstreamTLS = self._client(table.get("upstream_tls", {}), f"{path}.upstream_tls", host, mode)
        rules: tuple[Rule, ...] = ()
        if "rule" in takes:
            if "rule" in table:
                if mode == "encrypt" or ("require_tls" in takes and not settings.requireTls):
                    blind = "this route sees no TLS hello"
                rules = readRules(self._reader, table["rule"], f"{path}.rule", blind, upstreamTLS)
            self._tellUpstream(settings, table, rules, path)
        if "tls" in takes and (mode != "connect" or "tls" in table):
            tls = self._server(table.get("tls", {}), f"{path}.tls", mode)
        pattern: IPattern | None = None
        if mode == "offload" and tls is not None:
            pattern = Offload(tls=tls, upstream=upstream)
        elif mode == "encrypt" and upstreamTLS is not None:
            pattern = Encrypt(upstream=upstream, upstreamTLS=upstreamTLS)
        elif mode == "bridge" and tls is not None and upstreamTLS is not None:
            pattern = Bridge(tls=tls, upstream=upstream, upstreamTLS=upstreamTLS)
        elif mode == "passthrough":
            pattern = Passthrough(upstream=upstream, requireTLS=settings.requireTls)
        elif mode == "connect":
            pattern = self._connect(settings, table, path, listen, tls)
        return pattern, rules

    def _upstream(self, settings: RouteSettings, path: str) -> Address | None:
        return self._reader.upstream(settings.upstream, f"{path}.upstream") if settings.upstream else None

    def _tellUpstream(
        self, settings: RouteSettings, table: Mapping[str, Any], rules: Sequence[Rule], path: str
    ) -> None:
        if not settings.upstream and ("upstream" in table or "rule" not in table):
            self._reader.tell(f"{path}.upstream", "say what to dial, as in HOST:PORT")
        elif settings.upstream and any(rule.unconditional for rule in rules):
            self._reader.tell(f"{path}.upstream", "no client gets there, since a rule without conditions matches all")

    # -- TLS --------------------------------------------------------------------------------------------------------

    def _serverPolicy(self, table: object, path: str) -> ServerPolicy:
        hosts: object = None
        if isinstance(table, Mapping):
            hosts = table.get("host")
            table = {key: value for key, value in table.items() if key != "host"}
        policy = self._reader.settings(ServerPolicy, table, path)
        if hosts is not None:
            policy = evolve(policy, host=self._hosts(hosts, f"{path}.host"))
        self._tellUnasked(policy, path)
        return policy

    def _server(self, table: object, path: str, mode: str) -> ServerTLS | None:
        policy = self._serverPolicy(table, path)
        if policy.mirrors and mode == "offload":
            self._reader.tell(
                f"{path}.alpn", '"mirror" asks the upstream, which speaks no TLS in mode offload: name the protocols'
            )
        if mode == "connect" and set(policy.alpn) - {"http/1.1"}:
            self._reader.tell(f"{path}.alpn", 'mode connect speaks "http/1.1" only')
        loaded = self._load(path, policy, "", lambda: ServerTLS.load(policy, self._now, path))
        return None if policy.mirrors and mode != "bridge" else loaded

    def _hosts(self, tables: object, path: str) -> tuple[HostPolicy, ...]:
        """
        Read which certificates the clients of some server names need.
        """
        if not isinstance(tables, list) or not tables:
            self._reader.tell(path, "give at least one, each under [[route.tls.host]], or leave this out")
            return ()
        hosts = []
        for position, table in enumerate(tables):
            hosts.append(self._reader.settings(HostPolicy, table, f"{path}[{position}]"))
            self._tellUnasked(hosts[-1], f"{path}[{position}]")
        return tuple(hosts)

    def _tellUnasked(self, policy: ServerPolicy | HostPolicy, path: str) -> None:
        if policy.clientAuth == "none" and policy.clientCa:
            self._reader.tell(f"{path}.client_auth", '"none" leaves client_ca without a use: leave one of them out')

    def _client(self, table: object, path: str, host: str | None, mode: str) -> ClientTLS | None:
        """
        Read the TLS toward an upstream.

        @param host: The upstream's; L{None} where there is none, or where it could not be read, which has been told.
        """
        policy = self._reader.settings(ClientPolicy, table, path)
        if mode == "bridge" and policy.alpn:
            self._reader.tell(f"{path}.alpn", "mode bridge offers what its client negotiated: leave this out")
        known = "localhost" if host is None else host
        return self._load(path, policy, known, lambda: ClientTLS.load(policy, known, self._now, path))

    def _load(self, path: str, policy: Policy, host: str, load: Callable[[], T]) -> T | None:
        # Without its key, the certificate would be taken for one that lacks it.
        if {problem.key for problem in self._reader.problems} & {f"{path}.{key}" for key in BESIDE_CERT}:
            return None
        # What is valid today may not be so tomorrow.
        key, seen = (policy, host, self._now.date()), self._reader.files
        loaded = self._reader.attempt(path, lambda: self._kept.load(key, filesOf(policy), seen, load))
        self.warnings += getattr(loaded, "warnings", ())
        return loaded

    # -- connect ----------------------------------------------------------------------------------------------------

    def _connect(
        self,
        settings: RouteSettings,
        table: Mapping[str, Any],
        path: str,
        listen: Address | None,
        tls: ServerTLS | None,
    ) -> Connect:
        lists = self._reader.settings(TargetSettings, table.get("targets", {}), f"{path}.targets")
        if not lists.allow:
            self._reader.tell(f"{path}.targets.allow", "say what clients may ask for, as in *.example.com:443")
        allow = self._reader.each(lists.allow, f"{path}.targets.allow", lambda text: parseTarget(text, True))
        deny = self._reader.each(lists.deny, f"{path}.targets.deny", lambda text: parseTarget(text, False))
        users = None
        if settings.users:
            self._reader.files.see([settings.users])
            users = self._reader.attempt(f"{path}.users", lambda: Users.load(settings.users))
            self.warnings += users.warnings if users is not None else ()
        self.warnings += [_everywhere(one) for one in allow if _holdsLoopback(one)]
        if listen is not None and not isPrivate(listen):
            if settings.users and "tls" not in table:
                self.warnings.append("passwords cross the network in clear: give it a cert, or listen on loopback")
            elif not settings.users and not (tls is not None and tls.knowsEverybody):
                self.warnings.append("whoever reaches the proxy may use it: give it users, or client_ca")
        return Connect(targets=Targets(allow=allow, deny=deny), tls=tls, users=users)

    # -- addresses --------------------------------------------------------------------------------------------------

    def _tellTaken(self, listen: Address, name: str, path: str) -> None:
        """
        Two routes cannot share an address.
        """
        for other, owner in self._listening:
            if _clash(listen, other):
                self._reader.tell(path, f"{listen} is taken by {other} of route {owner}")
        self._listening.append((listen, name))


def _tablesOf(table: object) -> Mapping[str, type[Any] | None]:
    """
    Find the tables of a route, each with the class of its keys where its mode takes them.
    """
    mode = table.get("mode") if isinstance(table, Mapping) else None
    takes = _TAKES.get(mode) if isinstance(mode, str) else None
    if takes is None:
        return _TABLES
    return {key: cls if key in takes or key not in _SOME else None for key, cls in _TABLES.items()}


def isPrivate(listen: Address) -> bool:
    """
    Tell whether only this machine reaches an address.  Where systemd listens is not known.
    """
    if isinstance(listen, Endpoint):
        kind, *arguments = re.split(r"(?<!\\):", listen.description)
        if kind == "haproxy":
            kind, *arguments = arguments
        hosts = [one.removeprefix("interface=").replace("\\", "") for one in arguments]
        return kind == "unix" or (kind in ("tcp", "tcp6") and any(map(_isLoopback, hosts)))
    return isinstance(listen, Unix) or _isLoopback(listen.host)


def _isLoopback(host: str) -> bool:
    return host == "localhost" or (isLiteral(host) and ipaddress.ip_address(host).is_loopback)


def _holdsLoopback(target: Target) -> bool:
    """
    Tell whether a network is so large that this machine is in it without having been meant.
    """
    network = target.network
    if isinstance(network, ipaddress.IPv4Network):
        return network.prefixlen < 8 and ipaddress.IPv4Address("127.0.0.1") in network
    return network is not None and network.prefixlen < 64 and ipaddress.IPv6Address("::1") in network


def _everywhere(target: Target) -> str:
    return (
        f"{target} of [route.targets] allows loopback, cloud metadata and this proxy's own ports, too: "
        "for all other hosts, write *:PORT"
    )


def _clash(one: Address, other: Address) -> bool:
    """
    Tell whether two addresses cannot be listened on together.
    """
    if not isinstance(one, TCP) or not isinstance(other, TCP):
        return one == other
    if one.port != other.port or one.port == 0:
        return False
    if isLiteral(one.host) and isLiteral(other.host):
        first, second = ipaddress.ip_address(one.host), ipaddress.ip_address(other.host)
        return first == second or (first.version == second.version and (first.is_unspecified or second.is_unspecified))
    # A name may have an address of either family, or of one alone.
    return not one.host or not other.host or one.host.lower() == other.host.lower()
