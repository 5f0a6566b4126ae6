# -*- test-case-name: tests.tls.test_contexts -*-
"""
From a policy to the library's contexts, with everything checked that can be checked before the first connection.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from datetime import UTC, datetime

from attrs import evolve, field, frozen
from cryptography import x509
from OpenSSL import SSL, crypto

from tlsproxy.errors import AdmissionRefused, HandshakeFailed
from tlsproxy.given import kindOf, takes
from tlsproxy.tls.certificates import Identity, loadAuthorities, validity
from tlsproxy.tls.files import CertificateProblem
from tlsproxy.tls.identities import findIdentities
from tlsproxy.tls.native import TLSStream, requireName, shareTrust
from tlsproxy.tls.parameters import Checks, chooseALPN, contextFor, tellParameters
from tlsproxy.tls.policy import ClientPolicy, ServerPolicy
from tlsproxy.tls.presenting import present, tryPresenting
from tlsproxy.tls.servercontexts import ServerContexts
from tlsproxy.tls.servernames import Choice, ServerNames
from tlsproxy.wire.host import asciiName, isLiteral

__all__ = ["ClientTLS", "ServerTLS", "isClientTLS", "isServerTLS"]


@frozen
class _Shown:
    """
    What one side shows.

    @ivar identities: The identities.
    @ivar files: What was read for them.
    @ivar warnings: What is doubtful but works, one sentence each.
    """

    identities: tuple[Identity, ...] = ()
    files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def _readShown(policy: ServerPolicy | ClientPolicy, method: int, checks: Checks, now: datetime) -> _Shown:
    """
    Read the certificates of a policy, and see that OpenSSL takes them.
    """
    sources = policy.cert if isinstance(policy, ServerPolicy) else [policy.cert] if policy.cert else []
    found = findIdentities(sources, directories=isinstance(policy, ServerPolicy))
    for place, sentence in found.problems:
        checks.tell(f"cert{place}", sentence)
    warnings: list[str] = []
    for identity in found.identities:
        warnings += identity.warnings
        warnings += validity(identity, now)
    if not checks.problems:
        for problem in tryPresenting(contextFor(method, policy), found.identities):
            checks.tell("cert", str(problem))
    return _Shown(tuple(found.identities), tuple(dict.fromkeys(found.files)), tuple(dict.fromkeys(warnings)))


def _trust(context: SSL.Context, authorities: Sequence[x509.Certificate]) -> None:
    """
    Have a context trust these certificates as anchors, self-signed or not.
    """
    store = context.get_cert_store()
    if store is not None:
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
        for authority in authorities:
            store.add_cert(crypto.X509.from_cryptography(authority))


def _readAuthorities(policy: ServerPolicy, checks: Checks) -> tuple[x509.Certificate, ...] | None:
    """
    Read the CAs of the clients' certificates.

    @return: The CAs; L{None} where no certificate is asked for.
    """
    if (policy.clientAuth or ("required" if policy.clientCa else "none")) == "none":
        return None
    if not policy.clientCa:
        checks.tell("client_ca", "client certificates are asked for, but no CA is named")
    return checks.attempt("client_ca", lambda: loadAuthorities(policy.clientCa)) or ()


def _askClients(context: SSL.Context, policy: ServerPolicy, authorities: Sequence[x509.Certificate]) -> None:
    """
    Have a context ask for client certificates.  What it trusts is another matter.
    """
    for authority in authorities:
        context.add_client_ca(authority)
    required = 0 if policy.clientAuth == "optional" else SSL.VERIFY_FAIL_IF_NO_PEER_CERT
    context.set_verify(SSL.VERIFY_PEER | required, None)
    # A resumed session would escape a changed CA or rule.  Without tickets, and with the cache off, there is none.
    context.set_options(SSL.OP_NO_TICKET)


def _serverContexts(
    policy: ServerPolicy, first: Choice, authorities: Sequence[x509.Certificate] | None
) -> ServerContexts:
    """
    Make the contexts of a server.

    @param first: What is shown to those who ask for no name.
    @param authorities: The CAs of the clients' certificates; L{None} where none is asked for.
    """
    choose = chooseALPN([protocol.encode() for protocol in policy.alpn])
    trusting: SSL.Context | None = None

    def make(choice: Choice) -> SSL.Context:
        nonlocal trusting
        context = contextFor(SSL.TLS_SERVER_METHOD, policy)
        present(context, choice.identities)
        if policy.alpn:
            context.set_alpn_select_callback(choose)
        if authorities is not None:
            if trusting is None:
                _trust(context, authorities)
                trusting = context
            else:
                shareTrust(context, trusting)
            _askClients(context, policy, authorities)
        return context

    return ServerContexts(make, first, resumes=authorities is None)


@frozen
class ServerTLS:
    """
    TLS toward clients, ready to use.

    @ivar policy: What it was made from.
    @ivar identities: What is presented, each with its names, its dates, its kind of key and its files.
    @ivar files: All files and directories that were read for it.
    @ivar warnings: What is doubtful but works, one sentence each.
    """

    policy: ServerPolicy
    identities: tuple[Identity, ...]
    files: tuple[str, ...] = field(eq=False, repr=False)
    warnings: tuple[str, ...]
    _names: ServerNames = field(eq=False, repr=False)
    _contexts: ServerContexts = field(eq=False, repr=False)

    @classmethod
    def load(cls, policy: ServerPolicy, now: datetime | None = None, section: str = "tls") -> ServerTLS:
        """
        Read and check the files of a policy.  To load a policy again costs little where few of its files have changed,
        while what was loaded before is still in use.

        @param now: The time that certificates have to be valid at; L{None} for now.
        @param section: What the keys of problems start with.
        @raise ConfigurationError: With all problems at once.
        """
        if not isinstance(policy, ServerPolicy):
            raise TypeError(f"ServerTLS.load() takes a ServerPolicy, not {kindOf(policy)}")
        now = now or datetime.now(UTC)
        checks = Checks(section)
        tellParameters(policy, checks)
        if not policy.cert:
            checks.tell("cert", "a certificate is needed to speak TLS with clients")
        shown = _readShown(policy, SSL.TLS_SERVER_METHOD, checks, now)
        authorities = _readAuthorities(policy, checks)
        checks.done()
        names = ServerNames(shown.identities, now)
        contexts = checks.attempt("cert", lambda: _serverContexts(policy, names.default, authorities))
        checks.done()
        assert contexts is not None
        files = tuple(dict.fromkeys((*shown.files, *policy.clientCa)))
        return cls(policy, shown.identities, files, (*shown.warnings, *names.warnings), names, contexts)

    @property
    def context(self) -> SSL.Context:
        """
        The library's context for clients that ask for no name.
        """
        return self._contexts.first

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

    def connect(self, sock: socket.socket, serverName: str | None = None) -> TLSStream:
        """
        Start the server's side of TLS on a connected socket.

        @param serverName: The server name that the client asks for, if any.
        @raise AdmissionRefused: As L{choose}.
        @raise HandshakeFailed: OpenSSL does not take the certificate.
        """
        choice = self.choose(serverName)
        try:
            return self._contexts.connect(sock, choice)
        except CertificateProblem as e:
            raise HandshakeFailed(str(e)) from e


def _readRoots(policy: ClientPolicy, name: str, checks: Checks) -> tuple[x509.Certificate, ...]:
    """
    Read the CAs of the upstream's certificate.

    @param name: The name that it has to show.
    """
    if not name:
        checks.tell("name", "say which name the upstream's certificate must show")
    if not policy.ca:
        checks.tell("ca", 'say which CA to trust: a PEM file, or "system"')
    files = [file for file in policy.ca if file != "system"]
    return checks.attempt("ca", lambda: loadAuthorities(files)) or ()


def _verifyUpstream(context: SSL.Context, policy: ClientPolicy, authorities: Sequence[x509.Certificate]) -> None:
    """
    Have a context verify the upstream's certificate, or not.
    """
    if policy.auth == "none":
        context.set_verify(SSL.VERIFY_NONE, None)
        return
    if "system" in policy.ca:
        context.set_default_verify_paths()
    _trust(context, authorities)
    context.set_verify(SSL.VERIFY_PEER, None)


@frozen
class ClientTLS:
    """
    TLS toward an upstream, ready to use.

    @ivar policy: What it was made from.
    @ivar name: The DNS name (ASCII) or IP address that the upstream's certificate has to show, and, where it is a
        DNS name, the server name we ask for.
    @ivar identity: The certificate that we present if the upstream asks for one, if any.
    @ivar files: All files that were read for it.
    @ivar context: The library's context.
    @ivar warnings: What is doubtful but works, one sentence each.
    """

    policy: ClientPolicy
    name: str
    identity: Identity | None
    files: tuple[str, ...] = field(eq=False, repr=False)
    context: SSL.Context = field(eq=False, repr=False)
    warnings: tuple[str, ...] = ()

    @classmethod
    def load(
        cls, policy: ClientPolicy, host: str, now: datetime | None = None, section: str = "upstream_tls"
    ) -> ClientTLS:
        """
        Read and check the files of a policy.

        @param host: The host of the upstream, for want of a C{name} in the policy; C{""} where it has none.
        @param now: The time that certificates have to be valid at; L{None} for now.
        @param section: What the keys of problems start with.
        @raise ConfigurationError: With all problems at once.
        """
        if not isinstance(policy, ClientPolicy):
            raise TypeError(f"ClientTLS.load() takes a ClientPolicy, not {kindOf(policy)}")
        checks = Checks(section)
        tellParameters(policy, checks)
        shown = _readShown(policy, SSL.TLS_CLIENT_METHOD, checks, now or datetime.now(UTC))
        warnings = list(shown.warnings)
        name = policy.name or host
        authorities: Sequence[x509.Certificate] = ()
        if policy.auth == "none":
            warnings.append(
                'the upstream is not verified at all (auth = "none"): whoever answers in its place is believed'
            )
        else:
            authorities = _readRoots(policy, name, checks)
        if name:
            name = checks.attempt("name", lambda: _checkedName(name)) or ""
        checks.done()
        context = contextFor(SSL.TLS_CLIENT_METHOD, policy)
        present(context, shown.identities)
        _verifyUpstream(context, policy, authorities)
        identity = shown.identities[0] if shown.identities else None
        files = tuple(dict.fromkeys((*shown.files, *(file for file in policy.ca if file != "system"))))
        return cls(policy, name, identity, files, context, tuple(warnings))

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
        stream = TLSStream(self.context, sock, server=False)
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
isClientTLS = takes("a ClientTLS, as ClientTLS.load(policy, host) makes it", ClientTLS)
"""The same for the other side."""


def _checkedName(name: str) -> str:
    ascii = asciiName(name)
    requireName(SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD)), ascii)
    return ascii
