# -*- test-case-name: tests.tls.test_contexts -*-
"""
From a policy to the library's contexts, with everything checked that can be checked before the first connection.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from attrs import Attribute, evolve, field, frozen
from cryptography import x509
from OpenSSL import SSL

from tlsproxy.errors import AdmissionRefused, HandshakeFailed
from tlsproxy.given import kindOf, takes
from tlsproxy.tls.certificates import Identity
from tlsproxy.tls.demands import Demand, Demands, readDemands
from tlsproxy.tls.files import CertificateProblem
from tlsproxy.tls.native import TLSConnection, TLSStream
from tlsproxy.tls.parameters import Checks, contextFor, tellParameters
from tlsproxy.tls.peers import choosePresented, requireName
from tlsproxy.tls.policy import ClientPolicy, HostPolicy, ServerPolicy
from tlsproxy.tls.presenting import Presented, present, readShown
from tlsproxy.tls.servercontexts import ServerContexts, contextsOf
from tlsproxy.tls.servernames import Choice, ServerNames
from tlsproxy.tls.verification import Particulars, Verification, readUpstream
from tlsproxy.wire.host import asciiName, isLiteral

__all__ = ["ClientTLS", "ServerTLS", "isClientTLS", "isServerTLS", "mirrorsNobody"]

S = TypeVar("S", bound=TLSConnection)
W = TypeVar("W")


def _attend(
    stream: TLSConnection,
    verification: Verification | None,
    protocols: Sequence[bytes] | None = None,
    presented: Presented | None = None,
) -> None:
    """
    Give a connection what it has of its own.
    """
    judgement = None if verification is None else verification.begin()
    if judgement is not None or protocols is not None or presented is not None:
        stream.connection.set_app_data(Particulars(judgement, protocols, presented))


@frozen
class ServerTLS:
    """
    TLS toward clients, ready to use.

    @ivar policy: What it was made from.
    @ivar identities: What is presented, each with its names, its dates, its kind of key and its files.
    @ivar files: All files and directories that were read for it.
    @ivar warnings: What is doubtful but works, one sentence each.
    @ivar datagrams: Whether it is DTLS.
    """

    policy: ServerPolicy
    identities: tuple[Identity, ...]
    files: tuple[str, ...] = field(eq=False, repr=False)
    warnings: tuple[str, ...]
    _names: ServerNames = field(eq=False, repr=False)
    _demands: Demands = field(eq=False, repr=False)
    _contexts: tuple[ServerContexts, ...] = field(eq=False, repr=False)
    datagrams: bool = False

    @classmethod
    def load(
        cls, policy: ServerPolicy, now: datetime | None = None, section: str = "tls", datagrams: bool = False
    ) -> ServerTLS:
        """
        Read and check the files of a policy.  To load a policy again costs little where few of its files have changed,
        while what was loaded before is still in use.

        @param now: The time that certificates have to be valid at; L{None} for now.
        @param section: What the keys of problems start with.
        @param datagrams: Whether it is to be DTLS.
        @raise ConfigurationError: With all problems at once.
        """
        if not isinstance(policy, ServerPolicy):
            raise TypeError(f"ServerTLS.load() takes a ServerPolicy, not {kindOf(policy)}")
        now = now or datetime.now(UTC)
        checks = Checks(section)
        method = SSL.DTLS_SERVER_METHOD if datagrams else SSL.TLS_SERVER_METHOD
        tellParameters(policy, checks, datagrams)
        if not policy.cert:
            checks.tell("cert", "a certificate is needed to speak TLS with clients")
        shown = readShown(policy, method, checks, now)
        demands, doubts = readDemands(policy, checks, now)
        if policy.mirrors and demands.required:
            checks.tell("alpn", '"mirror" asks the upstream before the client has shown a certificate, as it has to')
        checks.done()
        names = ServerNames(shown.identities, now)
        contexts = checks.attempt(
            "cert",
            lambda: [contextsOf(method, policy, names.default, each.verification) for each in demands.all],
        )
        checks.done()
        assert contexts is not None
        asking: list[ServerPolicy | HostPolicy] = [policy, *policy.host]
        trusted = [file for one in asking for file in (*one.clientCa, *one.crl)]
        files = tuple(dict.fromkeys((*shown.files, *trusted)))
        warnings = (*shown.warnings, *names.warnings, *doubts)
        return cls(policy, shown.identities, files, warnings, names, demands, tuple(contexts), datagrams)

    @property
    def context(self) -> SSL.Context:
        """
        The library's context for clients that ask for no name.
        """
        return self._contexts[0].first

    def choose(self, serverName: str | None) -> Choice:
        """
        Choose what a client is shown.

        @param serverName: The server name that it asks for, if any.
        @raise AdmissionRefused: No certificate is for that name, and it is to be refused.
        """
        if serverName is None:
            return self._names.default
        found = self._names.find(serverName)
        if found is not None:
            return found
        if self.policy.unknownSni == "refuse":
            raise AdmissionRefused(f"the client asks for {serverName}, and no certificate of the route is for that")
        return self._names.default

    def shows(self, serverName: str) -> tuple[Identity, ...]:
        """
        Tell which certificates there are for a server name.

        @return: One of each kind of key; none where there is none for it.
        """
        found = self._names.find(serverName)
        return () if found is None else found.identities

    def demand(self, serverName: str | None) -> Demand:
        """
        Tell what is asked of a client.

        @param serverName: The server name that it asks for, if any.
        @raise AdmissionRefused: What it asks for is nobody's, and what is asked for some is not asked for others.
        """
        found = self._demands.find(serverName)
        if found is None:
            asked = "names no server" if serverName is None else f"asks for {serverName}"
            raise AdmissionRefused(
                f"the client {asked}, and no [[route.tls.host]] is for that, or asks for as much as all the others"
            )
        return found

    @property
    def knowsEverybody(self) -> bool:
        """
        Whether nobody is let in without a certificate.
        """
        return self._demands.everybody

    @property
    def authorities(self) -> tuple[x509.Certificate, ...]:
        """
        All that certificates of clients are verified by.
        """
        asking = [each.verification for each in self._demands.all if each.verification is not None]
        return tuple(dict.fromkeys(authority for one in asking for authority in one.authorities))

    @property
    def resumes(self) -> bool:
        """
        Whether any client can resume a session: who is asked for a certificate cannot.
        """
        return self._demands.anybody

    @property
    def needsTLS(self) -> bool:
        """
        Whether a client that starts no TLS lacks what is asked of it: a certificate, or a server name.
        """
        found = self._demands.find(None)
        return found is None or found.asks == "required"

    def connect(
        self, sock: socket.socket, serverName: str | None = None, protocols: Sequence[bytes] | None = None
    ) -> TLSStream:
        """
        Start the server's side of TLS on a connected socket.

        @param serverName: The server name that the client asks for, if any.
        @param protocols: The application protocols to choose from where the policy mirrors the upstream's choice.
        @raise AdmissionRefused: As L{choose} and L{demand}.
        @raise HandshakeFailed: OpenSSL does not take the certificate.
        """
        return self.begin(TLSStream, sock, serverName, protocols)

    def begin(
        self,
        kind: Callable[[SSL.Context, W, bool], S],
        sock: W,
        serverName: str | None = None,
        protocols: Sequence[bytes] | None = None,
    ) -> S:
        """
        As L{connect}, with TLS of some kind.

        @param kind: What makes it of a context and the socket, and is told whether this is the server.
        @param sock: The socket, or whatever it runs on.
        """
        choice, demand = self.choose(serverName), self.demand(serverName)
        contexts = next(each for one, each in zip(self._demands.all, self._contexts, strict=True) if one is demand)
        try:
            stream = contexts.connect(sock, choice, kind)
        except CertificateProblem as e:
            raise HandshakeFailed(str(e)) from e
        _attend(stream, demand.verification, protocols)
        return stream


@frozen
class ClientTLS:
    """
    TLS toward an upstream, ready to use.

    @ivar policy: What it was made from.
    @ivar name: The DNS name (ASCII) or IP address that the upstream's certificate has to show, and, where it is a
        DNS name, the server name we ask for.
    @ivar identities: The certificates of which we present one if the upstream asks for one, if any.
    @ivar files: All files and directories that were read for it.
    @ivar context: The library's context.
    @ivar warnings: What is doubtful but works, one sentence each.
    @ivar verification: What the upstream's certificate has to be; L{None} where it is not looked at.
    @ivar datagrams: Whether it is DTLS.
    """

    policy: ClientPolicy
    name: str
    identities: tuple[Identity, ...]
    files: tuple[str, ...] = field(eq=False, repr=False)
    context: SSL.Context = field(eq=False, repr=False)
    warnings: tuple[str, ...] = ()
    verification: Verification | None = field(default=None, repr=False)
    _presented: Presented | None = field(default=None, eq=False, repr=False)
    datagrams: bool = False

    @classmethod
    def load(
        cls,
        policy: ClientPolicy,
        host: str,
        now: datetime | None = None,
        section: str = "upstream_tls",
        datagrams: bool = False,
    ) -> ClientTLS:
        """
        Read and check the files of a policy.

        @param host: The host of the upstream, for want of a C{name} in the policy; C{""} where it has none.
        @param now: The time that certificates have to be valid at; L{None} for now.
        @param section: What the keys of problems start with.
        @param datagrams: Whether it is to be DTLS.
        @raise ConfigurationError: With all problems at once.
        """
        if not isinstance(policy, ClientPolicy):
            raise TypeError(f"ClientTLS.load() takes a ClientPolicy, not {kindOf(policy)}")
        checks = Checks(section)
        method = SSL.DTLS_CLIENT_METHOD if datagrams else SSL.TLS_CLIENT_METHOD
        tellParameters(policy, checks, datagrams)
        now = now or datetime.now(UTC)
        shown = readShown(policy, method, checks, now)
        name = policy.name or host
        if policy.auth != "none" and not name:
            checks.tell("name", "say which name the upstream's certificate must show")
        if policy.mirrors:
            checks.tell("alpn", '"mirror" is for the side of the client, which is given the choice of the upstream')
        verification, doubts = readUpstream(policy, checks, now)
        if name:
            name = checks.attempt("name", lambda: _checkedName(name)) or ""
        checks.done()
        context = contextFor(method, policy)
        presented = None
        if len(shown.identities) > 1:
            presented = Presented.make(method, policy, shown.identities)
            choosePresented(context)
        else:
            present(context, shown.identities)
        if verification is None:
            context.set_verify(SSL.VERIFY_NONE, None)
        else:
            verification.trust(context)
            verification.apply(context)
        files = tuple(dict.fromkeys((*shown.files, *(file for file in policy.ca if file != "system"), *policy.crl)))
        warnings = (*shown.warnings, *doubts)
        return cls(policy, name, shown.identities, files, context, warnings, verification, presented, datagrams)

    def named(self, host: str) -> ClientTLS:
        """
        Demand another name of the upstream, all else being the same.

        @param host: The host of the upstream.
        @raise ValueError: It has no name, or none that a certificate could show.
        """
        if not host:
            raise ValueError("say which name the upstream's certificate must show")
        return evolve(self, name=_checkedName(host))

    def connect(self, sock: socket.socket, alpn: Sequence[bytes] | None = None) -> TLSStream:
        """
        Start the client's side of TLS on a connected socket.

        @param alpn: The application protocols to offer; L{None} for those of the policy.
        """
        return self.begin(TLSStream, sock, alpn)

    def begin(
        self,
        kind: Callable[[SSL.Context, W, bool], S],
        sock: W,
        alpn: Sequence[bytes] | None = None,
    ) -> S:
        """
        As L{connect}, with TLS of some kind.

        @param kind: As for L{ServerTLS.begin}.
        @param sock: As for L{ServerTLS.begin}.
        """
        stream = kind(self.context, sock, False)
        _attend(stream, self.verification, presented=self._presented)
        connection = stream.connection
        if self.name and not isLiteral(self.name):
            connection.set_tlsext_host_name(self.name.encode("ascii"))
        if self.policy.auth != "none":
            requireName(connection, self.name)
        offered = [protocol.encode() for protocol in self.policy.alpn] if alpn is None else list(alpn)
        if offered:
            connection.set_alpn_protos(offered)
        return stream


isServerTLS = takes("a ServerTLS, as ServerTLS.load(policy) makes it", ServerTLS)
"""A validator of attrs."""


def mirrorsNobody(instance: Any, attribute: Attribute[Any], value: ServerTLS | None) -> None:
    """
    A validator of attrs, for modes that speak no TLS with their upstreams.
    """
    if value is not None and value.policy.mirrors:
        where = f"{type(instance).__name__}({attribute.alias}=...)"
        raise ValueError(f'{where}: alpn "mirror" asks the upstream, which speaks no TLS here: name the protocols')


isClientTLS = takes("a ClientTLS, as ClientTLS.load(policy, host) makes it", ClientTLS)
"""The same for the other side."""


def _checkedName(name: str) -> str:
    ascii = asciiName(name)
    requireName(SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD)), ascii)
    return ascii
