# -*- test-case-name: tests.test_routes -*-
"""
From the table of a route to the route.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from tlsproxy.address import TCP, UDP, Address
from tlsproxy.clienttables import readClient
from tlsproxy.datagramtables import tellDatagrams
from tlsproxy.enrolltables import EnrollReader
from tlsproxy.handlertables import Told, readHandlers, tellTLS, whyBlind
from tlsproxy.installed import Installed
from tlsproxy.interfaces import FAR, IPattern
from tlsproxy.keeping import Kept
from tlsproxy.listening import clash, isPrivate
from tlsproxy.modekeys import SIDES, TAKES, tablesOf, tellUnused
from tlsproxy.patterns.bridge import Bridge
from tlsproxy.patterns.encrypt import Encrypt
from tlsproxy.patterns.offload import Offload
from tlsproxy.patterns.passthrough import Passthrough
from tlsproxy.proxytables import readBalancers, readSent
from tlsproxy.reading import Reader
from tlsproxy.route import Limits, Route
from tlsproxy.rules import Rule
from tlsproxy.ruletables import hostOf, readRules
from tlsproxy.sequentialtables import readSequentialServer
from tlsproxy.settings import MODES, ProxySettings, RouteSettings, TargetSettings
from tlsproxy.tls.policy import ClientPolicy
from tlsproxy.tlstables import TLSReader
from tlsproxy.tunneltables import readConnect

__all__ = ["RouteReader"]


class RouteReader:
    """
    Makes routes.

    @ivar warnings: What is doubtful but works, one sentence each.
    """

    def __init__(
        self, reader: Reader, now: datetime, installed: Installed, kept: Kept, stateDir: Path = Path()
    ) -> None:
        """
        @param reader: Reads tables, and collects what is wrong.
        @param now: The time that certificates have to be valid at.
        @param installed: The handlers that there are.
        @param kept: What was loaded before.
        @param stateDir: The state directory.
        """
        self._reader = reader
        self._installed = installed
        self._listening: list[tuple[Address, str]] = []
        self.warnings: list[str] = []
        self._tls = TLSReader(reader, now, kept, self.warnings)
        self._enrolling = EnrollReader(reader, self._tls, now, kept, stateDir, self.warnings)

    def read(self, table: object, path: str) -> Route | None:
        """
        Read a route.

        @return: None where something is wrong with it.
        """
        reader = self._reader
        before = len(reader.problems)
        settings = reader.settings(RouteSettings, table, path, tablesOf(table), {"proxy": ProxySettings})
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
            self._tls.serverPolicy(table.get("tls", {}), f"{path}.tls")
            reader.settings(ClientPolicy, table.get("upstream_tls", {}), f"{path}.upstream_tls")
            reader.settings(TargetSettings, table.get("targets", {}), f"{path}.targets")
            self._upstream(settings, path)
            if "rule" in table:
                readRules(reader, table["rule"], f"{path}.rule", "", None)
            return None
        tellUnused(reader, settings.mode, table, path)
        sides = SIDES.get(settings.mode, ())
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
        tellDatagrams(reader, settings, table, path, handlers)
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
            mtu=settings.mtu,
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
        if isinstance(listen, UDP):
            self._reader.tell(path, "it is told by HTTP, on a stream: give a port, or HOST:PORT")
            return None
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
        takes = TAKES[mode]
        upstream = self._upstream(settings, path)
        tls = upstreamTLS = None
        if mode == "sequential-client":
            return readClient(self._reader, self._tls, settings, table, path, listen, self.warnings), ()
        if "upstream_tls" in takes:
            host = None if upstream is None else hostOf(upstream)
            upstreamTLS = self._tls.client(
                table.get("upstream_tls", {}), f"{path}.upstream_tls", host, mode, isinstance(listen, UDP)
            )
        rules: tuple[Rule, ...] = ()
        if "rule" in takes:
            if "rule" in table:
                if mode == "encrypt" or ("require_tls" in takes and not settings.requireTls):
                    blind = "this route sees no TLS hello"
                rules = readRules(self._reader, table["rule"], f"{path}.rule", blind, upstreamTLS)
            self._tellUpstream(settings, table, rules, path)
        if "tls" in takes and (mode != "connect" or "tls" in table):
            datagrams = isinstance(listen, UDP)
            tls = self._tls.server(table.get("tls", {}), f"{path}.tls", mode, "enroll" in table, datagrams)
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
            pattern = readConnect(self._reader, settings, table, path, listen, tls, self.warnings)
        elif mode == "sequential-server":
            pattern = readSequentialServer(self._reader, settings, table, path, tls, self.warnings, self._enrolling)
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

    # -- addresses --------------------------------------------------------------------------------------------------

    def _tellTaken(self, listen: Address, name: str, path: str) -> None:
        """
        Two routes cannot share an address.
        """
        for other, owner in self._listening:
            if clash(listen, other):
                self._reader.tell(path, f"{listen} is taken by {other} of route {owner}")
        self._listening.append((listen, name))
