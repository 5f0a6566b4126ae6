# -*- test-case-name: tests.test_tlstables -*-
"""
From the tables of a route's TLS to what is loaded for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TypeVar

from attrs import evolve

from tlsproxy.keeping import Kept, filesOf
from tlsproxy.patterns.sequentialserver import SequentialServer
from tlsproxy.reading import Reader
from tlsproxy.settings import BESIDE_CERT
from tlsproxy.tls.contexts import ClientTLS, ServerTLS
from tlsproxy.tls.policy import ClientPolicy, HostPolicy, Policy, ServerPolicy
from tlsproxy.wire.enrolling import ALPN

__all__ = ["TLSReader"]

T = TypeVar("T")


class TLSReader:
    """
    Reads the TLS of routes.

    @ivar warnings: What is doubtful but works, one sentence each.
    """

    def __init__(self, reader: Reader, now: datetime, kept: Kept, warnings: list[str]) -> None:
        """
        @param reader: Reads tables, and collects what is wrong.
        @param now: The time that certificates have to be valid at.
        @param kept: What was loaded before.
        @param warnings: Gets what is doubtful.
        """
        self._reader = reader
        self._now = now
        self._kept = kept
        self.warnings = warnings

    @property
    def now(self) -> datetime:
        """
        The time that certificates have to be valid at.
        """
        return self._now

    def serverPolicy(self, table: object, path: str) -> ServerPolicy:
        """
        Read what is wanted of the TLS toward clients.
        """
        hosts: object = None
        if isinstance(table, Mapping):
            hosts = table.get("host")
            table = {key: value for key, value in table.items() if key != "host"}
        policy = self._reader.settings(ServerPolicy, table, path)
        if hosts is not None:
            policy = evolve(policy, host=self._hosts(hosts, f"{path}.host"))
        self._tellUnasked(policy, path)
        return policy

    def server(
        self, table: object, path: str, mode: str, enrolls: bool = False, datagrams: bool = False
    ) -> ServerTLS | None:
        """
        Read the TLS toward clients.

        @param enrolls: Whether client proxies enroll by the route.
        @param datagrams: Whether it is DTLS.
        @return: L{None} where something is wrong with it.
        """
        policy = self.serverPolicy(table, path)
        if mode == "sequential-server":
            return self._sequential(policy, path, enrolls)
        if policy.mirrors and mode == "offload":
            self._reader.tell(
                f"{path}.alpn", '"mirror" asks the upstream, which speaks no TLS in mode offload: name the protocols'
            )
        if mode == "connect" and set(policy.alpn) - {"http/1.1"}:
            self._reader.tell(f"{path}.alpn", 'mode connect speaks "http/1.1" only')
        loaded = self._load(path, policy, "", lambda: ServerTLS.load(policy, self._now, path, datagrams), datagrams)
        return None if policy.mirrors and mode != "bridge" else loaded

    def _sequential(self, policy: ServerPolicy, path: str, enrolls: bool) -> ServerTLS | None:
        """
        Read the TLS of a mode that knows its clients by their certificates.
        """
        if policy.alpn:
            self._reader.tell(f"{path}.alpn", "mode sequential-server chooses the protocol itself: leave this out")
        asked: tuple[tuple[ServerPolicy | HostPolicy, str], ...] = (
            (policy, path),
            *((host, f"{path}.host[{number}]") for number, host in enumerate(policy.host)),
        )
        for one, place in asked:
            if one.clientAuth in ("none", "optional"):
                self._reader.tell(f"{place}.client_auth", "mode sequential-server lets nobody in without a certificate")
            elif not one.clientCa and not (one is policy and policy.host):
                self._reader.tell(f"{place}.client_ca", "say which CA issues the certificates of the clients")
        policy = evolve(policy, alpn=SequentialServer.enrolling if enrolls else SequentialServer.alpn)
        return self._load(path, policy, "", lambda: ServerTLS.load(policy, self._now, path))

    def enrolling(self, policy: ServerPolicy, path: str) -> ServerTLS | None:
        """
        Read the TLS toward client proxies that have no certificate yet.

        @param policy: That of all others.
        @param path: The key of what this is read for.
        """
        own = ServerPolicy(
            cert=policy.cert,
            alpn=(ALPN,),
            minVersion="1.3",
            ciphersuites=policy.ciphersuites,
            groups=policy.groups,
        )
        return self._load(path, own, "", lambda: ServerTLS.load(own, self._now, path))

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

    def client(
        self, table: object, path: str, host: str | None, mode: str, datagrams: bool = False
    ) -> ClientTLS | None:
        """
        Read the TLS toward an upstream.

        @param host: The upstream's; L{None} where there is none, or where it could not be read, which has been told.
        @param datagrams: Whether it is DTLS.
        """
        policy = self._reader.settings(ClientPolicy, table, path)
        if mode == "bridge" and policy.alpn:
            self._reader.tell(f"{path}.alpn", "mode bridge offers what its client negotiated: leave this out")
        known = "localhost" if host is None else host
        load = lambda: ClientTLS.load(policy, known, self._now, path, datagrams)  # noqa: E731
        return self._load(path, policy, known, load, datagrams)

    def _load(self, path: str, policy: Policy, host: str, load: Callable[[], T], datagrams: bool = False) -> T | None:
        # Without its key, the certificate would be taken for one that lacks it.
        if {problem.key for problem in self._reader.problems} & {f"{path}.{key}" for key in BESIDE_CERT}:
            return None
        # What is valid today may not be so tomorrow.
        key, seen = (policy, host, datagrams, self._now.date()), self._reader.files
        loaded = self._reader.attempt(path, lambda: self._kept.load(key, filesOf(policy), seen, load))
        self.warnings += getattr(loaded, "warnings", ())
        return loaded
