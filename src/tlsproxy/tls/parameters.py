# -*- test-case-name: tests.tls.test_parameters -*-
"""
What both roles of TLS choose from, brought from a policy into the library's contexts: versions, cipher suites, groups
and application protocols.  DTLS (RFC 6347) has the same, but for its one version.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from OpenSSL import SSL

from tlsproxy.errors import AdmissionRefused, ConfigurationError, Problem
from tlsproxy.tls.native import setGroups
from tlsproxy.tls.policy import Policy
from tlsproxy.tls.printing import few

__all__ = ["Checks", "chooseALPN", "contextFor", "parseProtocol", "tellParameters"]

T = TypeVar("T")

_VERSIONS: Final = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
_DTLS_1_2: Final = 0xFEFD  # RFC 6347, section 4.1
_NO_1_3: Final = "there is no DTLS 1.3 here"
_DATAGRAMS: Final = frozenset({SSL.DTLS_CLIENT_METHOD, SSL.DTLS_SERVER_METHOD})

# <openssl/ssl.h>: what is left of a write is copied aside and tried again from there; and no chain is sent but the
# one that is given: OpenSSL would make one of the CAs that client certificates are verified by, root included.
_MODE_ACCEPT_MOVING_WRITE_BUFFER: Final = 0x2
_MODE_NO_AUTO_CHAIN: Final = 0x8


class Checks:
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
        except ValueError as e:
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
    try:
        context.set_cipher_list(ciphers.encode("ascii", "replace"))
    except SSL.Error:
        raise ValueError(f"OpenSSL finds no cipher suite in {ciphers!r}") from None


def _knowCiphers(ciphers: str) -> None:
    # OpenSSL passes silently over the names that it does not know as long as it knows one, so each is asked for alone.
    for name in ciphers.split(":"):
        if name and name[0] not in "!-+@":
            try:
                SSL.Context(SSL.TLS_METHOD).set_cipher_list(name.encode("ascii", "replace"))
            except SSL.Error:
                raise ValueError(f"OpenSSL knows no TLS 1.2 cipher suite {name!r}") from None
    _setCiphers(SSL.Context(SSL.TLS_METHOD), ciphers)


def _knowCiphersuites(ciphersuites: str) -> None:
    for name in ciphersuites.split(":"):
        try:
            SSL.Context(SSL.TLS_METHOD).set_tls13_ciphersuites(name.encode("ascii", "replace"))
        except SSL.Error:
            raise ValueError(f"OpenSSL knows no TLS 1.3 cipher suite {name!r}") from None


def parseProtocol(name: str | bytes) -> bytes:
    """
    Take the name of an application protocol (RFC 7301).

    @raise ValueError: It is none.
    """
    encoded = name.encode() if isinstance(name, str) else name
    if not 0 < len(encoded) < 256:
        raise ValueError(f"{name!r} is no ALPN protocol name: 1 to 255 bytes")
    return encoded


def tellParameters(policy: Policy, checks: Checks, datagrams: bool = False) -> None:
    """
    See that L{contextFor} can do as a policy says.

    @param checks: Collects what is wrong with the policy.
    @param datagrams: Whether it is to be DTLS.
    """
    if datagrams:
        _tellDatagrams(policy, checks)
    if policy.minVersion > policy.maxVersion:
        checks.tell("min_version", "min_version is above max_version, so no version is left")
    checks.attempt("ciphers", lambda: _knowCiphers(policy.ciphers))
    if policy.ciphersuites:
        checks.attempt("ciphersuites", lambda: _knowCiphersuites(policy.ciphersuites))
    checks.attempt("groups", lambda: setGroups(SSL.Context(SSL.TLS_METHOD), policy.groups))
    checks.attempt("alpn", lambda: [parseProtocol(name) for name in policy.alpn])
    if "mirror" in policy.alpn and not policy.mirrors:
        checks.tell("alpn", '"mirror" stands alone: the upstream chooses from what the client offers')


def _tellDatagrams(policy: Policy, checks: Checks) -> None:
    """
    See that a policy asks for nothing that DTLS 1.2 has not.
    """
    if policy.minVersion == "1.3":
        checks.tell("min_version", f"{_NO_1_3}: leave this out")
    if policy.ciphersuites:
        checks.tell("ciphersuites", f"they are those of version 1.3, and {_NO_1_3}: leave this out")
    if all("MLKEM" in name.upper() for name in policy.groups.split(":")):
        checks.tell("groups", f"they are those of version 1.3, and {_NO_1_3}: add another, such as X25519")
    if policy.mirrors:
        checks.tell(
            "alpn",
            '"mirror" keeps a client waiting for the upstream, and one of DTLS says its hello again meanwhile: '
            "name the protocols",
        )


def contextFor(method: int, policy: Policy) -> SSL.Context:
    """
    Make a context with what both roles have in common.

    @param method: The role, with TLS or with DTLS, as pyOpenSSL names it.
    @param policy: One that L{tellParameters} finds nothing wrong with.
    """
    context = SSL.Context(method)
    context.set_mode(_MODE_ACCEPT_MOVING_WRITE_BUFFER | _MODE_NO_AUTO_CHAIN | SSL.MODE_RELEASE_BUFFERS)
    context.set_options(SSL.OP_IGNORE_UNEXPECTED_EOF | SSL.OP_NO_RENEGOTIATION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    if method in _DATAGRAMS:
        context.set_min_proto_version(_DTLS_1_2)
        context.set_max_proto_version(_DTLS_1_2)
        context.set_options(SSL.OP_NO_QUERY_MTU)  # In memory there is nobody to be asked.
    else:
        context.set_min_proto_version(_VERSIONS[policy.minVersion])
        context.set_max_proto_version(_VERSIONS[policy.maxVersion])
    _setCiphers(context, policy.ciphers)
    if policy.ciphersuites:
        context.set_tls13_ciphersuites(policy.ciphersuites.encode("ascii"))
    setGroups(context, policy.groups)
    return context


def chooseALPN(ours: Sequence[bytes]) -> Callable[[SSL.Connection, list[bytes]], bytes]:
    """
    Make what chooses an application protocol for a client.

    @param ours: The protocols, most wanted first.
    """

    def choose(connection: SSL.Connection, theirs: list[bytes]) -> bytes:
        for protocol in ours:
            if protocol in theirs:
                return protocol
        # Raising is what makes the library send no_application_protocol (RFC 7301 section 3.2).
        offered = few(repr(protocol.decode("ascii", "backslashreplace")) for protocol in theirs)
        raise AdmissionRefused(
            f"the client offers only the application protocols {offered}, none of the route's; "
            "add one to alpn of tls, or have it offer another"
        )

    return choose
