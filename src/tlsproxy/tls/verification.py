# -*- test-case-name: tests.tls.test_verification -*-
"""
The verdict on a peer's certificate, beyond what OpenSSL makes of its chain and name: lists of revoked ones, rules of
who is let in, and hashes of keys.

It is given inside the handshake, at the very certificate that OpenSSL has just verified, so that a peer that is not let
in has not been answered one byte.  Nothing of it can be skipped: a handshake in which it was not given, as when an
earlier session was resumed, fails at its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from attrs import evolve, field, frozen
from cryptography import x509
from OpenSSL import SSL, crypto

from tlsproxy.errors import HandshakeFailed
from tlsproxy.tls.authorization import Allowed, namesOf, pinOf, pinText
from tlsproxy.tls.certificates import describe, issuerOf, loadAuthorities
from tlsproxy.tls.parameters import Checks
from tlsproxy.tls.peers import judgePeers
from tlsproxy.tls.policy import ClientPolicy, HostPolicy, ServerPolicy
from tlsproxy.tls.presenting import Presented
from tlsproxy.tls.revocation import loadRevocations, uncovered

__all__ = ["Judgement", "Particulars", "Verification", "readClients", "readUpstream"]

# <openssl/x509_vfy.h>
_NO_CRL: Final = frozenset({3, 33})
_REJECTED: Final = 28
_LISTS: Final = {
    3: "there is no CRL of {issuer}, so nobody can say whether {it} has been revoked: add one to crl",
    11: "the CRL of {issuer} is not good yet, so nobody can say whether {it} has been revoked: check the clock",
    12: "the CRL of {issuer} has expired, so nobody can say whether {it} has been revoked: get a new one",
    23: "{it} has been revoked, says the CRL of {issuer}",
}


@frozen
class Verification:
    """
    What the certificates of one side's peers have to be.

    @ivar allowed: Who is let in; without any rule everybody is.
    @ivar pins: Hashes of keys, of one of which the certificate has to be beside; none for any key.
    @ivar authorities: Certificates that are trusted as such.
    @ivar system: Whether those that the system trusts are, too.
    @ivar lists: Lists of revoked certificates.
    @ivar demanded: Whether a peer has to show a certificate.
    @ivar chained: Whether its chain has to verify; otherwise C{pins} alone decide.
    """

    allowed: Allowed = Allowed()
    pins: frozenset[bytes] = frozenset()
    authorities: tuple[x509.Certificate, ...] = ()
    system: bool = False
    lists: tuple[x509.CertificateRevocationList, ...] = field(default=(), repr=False)
    demanded: bool = True
    chained: bool = True

    @property
    def looks(self) -> bool:
        """
        Whether there is anything to find that OpenSSL does not find by itself.
        """
        return bool(self.lists) or bool(self.pins) or self.allowed != Allowed()

    def within(self, other: Verification) -> bool:
        """
        Tell whether every certificate that this lets in is let in by another as well.
        """
        return (
            set(self.authorities) <= set(other.authorities)
            and self.lists == other.lists
            and self.allowed.within(other.allowed)
        )

    def apply(self, context: SSL.Context) -> None:
        """
        Have a context ask for certificates, and verify them.  What it trusts is another matter.
        """
        mode = SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if self.demanded else 0)
        if self.looks:
            judgePeers(context, mode)
        else:
            context.set_verify(mode, None)

    def trust(self, context: SSL.Context) -> None:
        """
        Have a context trust these certificates as anchors, self-signed or not, and refuse what has been revoked, all
        along the chain.
        """
        if self.system:
            context.set_default_verify_paths()
        store = context.get_cert_store()
        assert store is not None
        flags = crypto.X509StoreFlags.PARTIAL_CHAIN
        if self.lists:
            flags |= crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.CRL_CHECK_ALL
        store.set_flags(flags)
        for authority in self.authorities:
            store.add_cert(crypto.X509.from_cryptography(authority))
        for each in self.lists:
            store.add_crl(each)

    def begin(self) -> Judgement | None:
        """
        Begin to look at one peer; L{None} where OpenSSL does by itself.
        """
        return Judgement(self) if self.looks else None

    def whyNot(self, certificate: x509.Certificate) -> str:
        """
        Say why a certificate is not let in.

        @return: The end of a sentence; C{""} for one that is.
        """
        if self.pins and pinOf(certificate) not in self.pins:
            return f"its key is another than those pinned ({describe(certificate)}; its pin is {pinText(certificate)})"
        if self.allowed != Allowed() and not self.allowed.matches(certificate):
            names = namesOf(certificate)
            return f"no rule allows it ({describe(certificate)}" + (f"; {names})" if names else ")")
        return ""


class Judgement:
    """
    What is found of the certificate of one peer.

    @ivar refusal: Why it is refused, where OpenSSL does not know or does not say it well; C{""} otherwise.
    """

    __slots__ = ("_passed", "_verification", "refusal")

    def __init__(self, verification: Verification) -> None:
        self._verification = verification
        self._passed = False
        self.refusal = ""

    def heard(self, code: int, depth: int, certificate: crypto.X509) -> int:
        """
        Take what OpenSSL has found of a certificate of the chain, and say what it is to go by.

        @param code: What is wrong with it; 0 where it has been verified.
        @param depth: How far it is from the peer's own.
        @param certificate: It.
        @return: As C{code}.
        """
        verification = self._verification
        try:
            if code and verification.chained:
                known = certificate.to_cryptography()
                if code in _NO_CRL and known in verification.authorities:
                    # Nobody but its owner can say that what is trusted by itself is not to be trusted any more.
                    return 0
                if code in _LISTS:
                    it = "it" if depth == 0 else describe(known)
                    self.refusal = _LISTS[code].format(issuer=issuerOf(known), it=it)
                return code
            if depth:
                return 0
            self.refusal = verification.whyNot(certificate.to_cryptography())
        except Exception:
            # It is the peer's, and so is what is wrong with it.
            self.refusal = "it cannot be read"
        self._passed = not self.refusal
        return _REJECTED if self.refusal else 0

    def settled(self, shown: bool) -> None:
        """
        See at the end of a handshake that the verdict has been given.

        @param shown: Whether the peer has a certificate.
        @raise HandshakeFailed: It has not.
        """
        if not self._passed and (shown or self._verification.demanded):
            raise HandshakeFailed("the handshake passed over the certificate, and so nobody is let in by it")


class Particulars:
    """
    What one connection has of its own, beside its context.

    @ivar judgement: What is found of its peer's certificate; L{None} where OpenSSL alone decides.
    @ivar protocols: The application protocols that a server chooses from, where they are not its policy's.
    @ivar presented: The certificates that a client chooses from, where it has several.
    @ivar refusal: Why none of them fits.
    """

    __slots__ = ("judgement", "presented", "protocols", "refusal")

    def __init__(
        self,
        judgement: Judgement | None = None,
        protocols: Sequence[bytes] | None = None,
        presented: Presented | None = None,
    ) -> None:
        self.judgement, self.protocols, self.presented = judgement, protocols, presented
        self.refusal = ""


def _lists(
    files: Sequence[str], authorities: Sequence[x509.Certificate], checks: Checks, now: datetime
) -> tuple[tuple[x509.CertificateRevocationList, ...], list[str]]:
    """
    Read lists of revoked certificates.

    @return: They, and what is doubtful.
    """
    loaded = checks.attempt("crl", lambda: loadRevocations(files, authorities, now=now)) if files else None
    if loaded is None:
        return (), []
    lists, warnings = loaded
    for authority in uncovered(lists, authorities):
        warnings.append(f"crl has no CRL of {describe(authority)}, so what it issued is refused")
    return tuple(lists), warnings


def _rules(policy: ServerPolicy | HostPolicy | ClientPolicy, checks: Checks) -> tuple[Allowed, list[str]]:
    """
    Read who is let in.

    @return: That, and the keys that say so.
    """
    allowed = Allowed.read(policy, checks.tell)
    words = {
        "allow_cn": policy.allowCn,
        "allow_ou": policy.allowOu,
        "allow_dns": policy.allowDns,
        "allow_uri": policy.allowUri,
        "pins": policy.pins,
    }
    return allowed, [key for key, given in words.items() if given]


def readClients(
    policy: ServerPolicy | HostPolicy, checks: Checks, now: datetime
) -> tuple[Verification | None, list[str]]:
    """
    Read what the certificates of clients have to be.

    @param checks: Collects what is wrong with the policy.
    @return: That, or L{None} where none is asked for; and what is doubtful.
    """
    allowed, keys = _rules(policy, checks)
    if policy.allowAll and keys:
        checks.tell("allow_all", f"it lets everybody in whom {' and '.join(keys)} would not: leave one of them out")
    if policy.asks == "none":
        for key in (["allow_all"] if policy.allowAll else []) + keys + (["crl"] if policy.crl else []):
            what = "and none are asked for: leave this out" if policy.clientAuth else "so give client_ca, too"
            checks.tell(key, f"this is for client certificates, {what}")
        return None, []
    if not policy.clientCa:
        checks.tell("client_ca", "client certificates are asked for, but no CA is named")
    authorities = checks.attempt("client_ca", lambda: loadAuthorities(policy.clientCa)) or ()
    lists, warnings = _lists(policy.crl, authorities, checks, now)
    required = policy.asks == "required"
    return Verification(allowed, authorities=authorities, lists=lists, demanded=required), warnings


def readUpstream(policy: ClientPolicy, checks: Checks, now: datetime) -> tuple[Verification | None, list[str]]:
    """
    Read what the certificate of an upstream has to be.

    @return: As L{readClients}.
    """
    allowed, keys = _rules(policy, checks)
    rules = [key for key in keys if key != "pins"]
    if policy.allowAll and rules:
        checks.tell("allow_all", f"it lets in what {' and '.join(rules)} would not: leave one of them out")
    verification = Verification(evolve(allowed, pins=frozenset()), allowed.pins)
    if policy.auth == "none":
        if policy.crl:
            checks.tell("crl", 'auth = "none" leaves this without a use: leave one of them out')
        if policy.pins:
            return evolve(verification, chained=False), []
        for key in rules:
            checks.tell(key, 'auth = "none" believes whatever a certificate says: give pins, or leave this out')
        return None, ['the upstream is not verified at all (auth = "none"): whoever answers in its place is believed']
    if not policy.ca:
        checks.tell("ca", 'say which CA to trust: a PEM file, or "system"')
    files = [file for file in policy.ca if file != "system"]
    authorities = checks.attempt("ca", lambda: loadAuthorities(files)) or ()
    lists, warnings = _lists(policy.crl, authorities, checks, now)
    return evolve(verification, authorities=authorities, system="system" in policy.ca, lists=lists), warnings
