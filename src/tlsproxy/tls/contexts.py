# -*- test-case-name: tests.tls.test_contexts -*-
"""
From a policy to the library's contexts, with everything checked that can be checked before the first connection.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from attrs import evolve, field, frozen
from cryptography import x509
from OpenSSL import SSL, crypto

from tlsproxy.errors import AdmissionRefused, ConfigurationError, Problem
from tlsproxy.given import kindOf, takes
from tlsproxy.tls.certificates import CertificateProblem, Identity, loadAuthorities, loadIdentity
from tlsproxy.tls.native import TLSStream, requireName, setGroups
from tlsproxy.tls.pem import few
from tlsproxy.tls.policy import CertificateFiles, ClientPolicy, Policy, ServerPolicy
from tlsproxy.wire.host import asciiName, isLiteral

__all__ = ["ClientTLS", "ServerTLS", "contextFor", "isClientTLS", "isServerTLS", "parseProtocol"]

T = TypeVar("T")

_VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}

# <openssl/ssl.h>: what is left of a write is copied aside and tried again from there.
_MODE_ACCEPT_MOVING_WRITE_BUFFER = 0x2


class _Checks:
    """
    Collects what is wrong, so that all of it can be told at once.
    """

    def __init__(self, section: str) -> None:
        self.section = section
        self.problems: list[Problem] = []

    def attempt(self, key: str, action: Callable[[], T]) -> T | None:
        """
        Do something that may find a problem with a key's value.
        """
        try:
            return action()
        except (CertificateProblem, ValueError) as e:
            self.tell(key, str(e))
        return None

    def tell(self, key: str, sentence: str) -> None:
        """
        Note a problem with a key's value.
        """
        self.problems.append(Problem(f"{self.section}.{key}", sentence))

    def done(self) -> None:
        """
        @raise ConfigurationError: Anything was wrong.
        """
        if self.problems:
            raise ConfigurationError(self.problems)


def _setCiphers(context: SSL.Context, ciphers: str) -> None:
    # OpenSSL passes silently over the names that it does not know as long as it knows one, so each is asked for alone.
    for name in ciphers.split(":"):
        if name and name[0] not in "!-+@":
            try:
                SSL.Context(SSL.TLS_METHOD).set_cipher_list(name.encode("ascii", "replace"))
            except SSL.Error:
                raise ValueError(f"OpenSSL knows no TLS 1.2 cipher suite {name!r}") from None
    try:
        context.set_cipher_list(ciphers.encode("ascii", "replace"))
    except SSL.Error:
        raise ValueError(f"OpenSSL finds no cipher suite in {ciphers!r}") from None


def _setCiphersuites(context: SSL.Context, ciphersuites: str) -> None:
    for name in ciphersuites.split(":"):
        try:
            SSL.Context(SSL.TLS_METHOD).set_tls13_ciphersuites(name.encode("ascii", "replace"))
        except SSL.Error:
            raise ValueError(f"OpenSSL knows no TLS 1.3 cipher suite {name!r}") from None
    context.set_tls13_ciphersuites(ciphersuites.encode("ascii"))


def parseProtocol(name: str | bytes) -> bytes:
    """
    Take the name of an application protocol (RFC 7301).

    @raise ValueError: It is none.
    """
    encoded = name.encode() if isinstance(name, str) else name
    if not 0 < len(encoded) < 256:
        raise ValueError(f"{name!r} is no ALPN protocol name: 1 to 255 bytes")
    return encoded


def contextFor(method: int, policy: Policy, checks: _Checks) -> SSL.Context:
    """
    Make a context with what both roles have in common.

    @param checks: Collects what is wrong with the policy.
    """
    context = SSL.Context(method)
    context.set_mode(_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL.MODE_RELEASE_BUFFERS)
    context.set_options(SSL.OP_IGNORE_UNEXPECTED_EOF | SSL.OP_NO_RENEGOTIATION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    if policy.minVersion > policy.maxVersion:
        checks.tell("min_version", "min_version is above max_version, so no version is left")
    context.set_min_proto_version(_VERSIONS[policy.minVersion])
    context.set_max_proto_version(_VERSIONS[policy.maxVersion])
    checks.attempt("ciphers", lambda: _setCiphers(context, policy.ciphers))
    if policy.ciphersuites:
        checks.attempt("ciphersuites", lambda: _setCiphersuites(context, policy.ciphersuites))
    checks.attempt("groups", lambda: setGroups(context, policy.groups))
    checks.attempt("alpn", lambda: [parseProtocol(name) for name in policy.alpn])
    return context


def _present(context: SSL.Context, files: CertificateFiles, checks: _Checks, now: datetime) -> Identity | None:
    """
    Have a context present a chain.
    """
    identity = checks.attempt("cert", lambda: loadIdentity(files.chain, files.key, now=now))
    if identity is not None:
        context.use_certificate(identity.chain[0])
        for certificate in identity.chain[1:]:
            context.add_extra_chain_cert(certificate)
        context.use_privatekey(identity.key)
    return identity


def _trust(context: SSL.Context, authorities: Sequence[x509.Certificate]) -> None:
    """
    Have a context trust these certificates as anchors, self-signed or not.
    """
    store = context.get_cert_store()
    if store is not None:
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
        for authority in authorities:
            store.add_cert(crypto.X509.from_cryptography(authority))


def _chooseALPN(ours: Sequence[bytes]) -> Callable[[SSL.Connection, list[bytes]], bytes]:
    def choose(connection: SSL.Connection, theirs: list[bytes]) -> bytes:
        for protocol in ours:
            if protocol in theirs:
                return protocol
        # Raising is what makes the library send no_application_protocol (RFC 7301 section 3.2).
        offered = few(repr(protocol.decode("ascii", "backslashreplace")) for protocol in theirs)
        raise AdmissionRefused(f"the client offers only the application protocols {offered}, none of the route's")

    return choose


@frozen
class ServerTLS:
    """
    TLS toward clients, ready to use.

    @ivar policy: What it was made from.
    @ivar identity: The chain that is presented.
    @ivar context: The library's context.
    @ivar warnings: What is doubtful but works, one sentence each.
    """

    policy: ServerPolicy
    identity: Identity
    context: SSL.Context = field(eq=False, repr=False)
    warnings: tuple[str, ...] = ()

    @classmethod
    def load(cls, policy: ServerPolicy, now: datetime | None = None, section: str = "tls") -> ServerTLS:
        """
        Read and check the files of a policy.

        @param now: The time that certificates have to be valid at; L{None} for now.
        @param section: What the keys of problems start with.
        @raise ConfigurationError: With all problems at once.
        """
        if not isinstance(policy, ServerPolicy):
            raise TypeError(f"ServerTLS.load() takes a ServerPolicy, not {kindOf(policy)}")
        checks = _Checks(section)
        context = contextFor(SSL.TLS_SERVER_METHOD, policy, checks)
        files = policy.cert
        identity = None
        if files is None:
            checks.tell("cert", "a certificate is needed to speak TLS with clients")
        else:
            identity = _present(context, files, checks, now or datetime.now(UTC))
        auth = policy.clientAuth or ("required" if policy.clientCa else "none")
        if auth == "none":
            # Tickets only: nothing is kept here for a client that never comes back.
            context.set_session_id(b"tlsproxy")
        else:
            if not policy.clientCa:
                checks.tell("client_ca", "client certificates are asked for, but no CA is named")
            for authority in checks.attempt("client_ca", lambda: loadAuthorities(policy.clientCa)) or ():
                _trust(context, [authority])
                context.add_client_ca(authority)
            required = SSL.VERIFY_FAIL_IF_NO_PEER_CERT if auth == "required" else 0
            context.set_verify(SSL.VERIFY_PEER | required, None)
            # A resumed session would escape a changed CA or rule.  Without tickets, and with the cache off, there is
            # none; the id is set because OpenSSL otherwise fails a client that tries.
            context.set_options(SSL.OP_NO_TICKET)
            context.set_session_id(b"tlsproxy")
        if policy.alpn:
            context.set_alpn_select_callback(_chooseALPN([protocol.encode() for protocol in policy.alpn]))
        checks.done()
        assert identity is not None
        return cls(policy, identity, context, identity.warnings)

    def connect(self, sock: socket.socket) -> TLSStream:
        """
        Start the server's side of TLS on a connected socket.
        """
        return TLSStream(self.context, sock, server=True)


@frozen
class ClientTLS:
    """
    TLS toward an upstream, ready to use.

    @ivar policy: What it was made from.
    @ivar name: The DNS name (ASCII) or IP address that the upstream's certificate has to show, and, where it is a
        DNS name, the server name we ask for.
    @ivar context: The library's context.
    @ivar warnings: What is doubtful but works, one sentence each.
    """

    policy: ClientPolicy
    name: str
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
        checks = _Checks(section)
        context = contextFor(SSL.TLS_CLIENT_METHOD, policy, checks)
        warnings: list[str] = []
        name = policy.name or host
        if policy.cert is not None:
            identity = _present(context, policy.cert, checks, now or datetime.now(UTC))
            warnings += identity.warnings if identity else ()
        if policy.auth == "none":
            context.set_verify(SSL.VERIFY_NONE, None)
            warnings.append(
                'the upstream is not verified at all (auth = "none"): whoever answers in its place is believed'
            )
        else:
            if not name:
                checks.tell("name", "say which name the upstream's certificate must show")
            files = [file for file in policy.ca if file != "system"]
            if "system" in policy.ca:
                context.set_default_verify_paths()
            if not policy.ca:
                checks.tell("ca", 'say which CA to trust: a PEM file, or "system"')
            _trust(context, checks.attempt("ca", lambda: loadAuthorities(files)) or ())
            context.set_verify(SSL.VERIFY_PEER, None)
        if name:
            name = checks.attempt("name", lambda: _checkedName(name)) or ""
        checks.done()
        return cls(policy, name, context, tuple(warnings))

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
