# -*- test-case-name: tests.tls.test_certificates -*-
"""
What a TLS endpoint presents and what it trusts: read from PEM files and checked while they are loaded.

A file that cannot serve is refused with one sentence that names it and says what to do. What still works but will
soon hurt, such as an expired certificate or a key that others can read, comes back as a warning.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from attrs import Factory, evolve, field, frozen
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import NameOID, PublicKeyAlgorithmOID

from tlsproxy.tls.files import CertificateProblem
from tlsproxy.tls.keys import PrivateKey, belongs, keyFamily, keyType
from tlsproxy.tls.pem import UNDECODABLE, readPEM
from tlsproxy.tls.printing import printable, shortPrintable

__all__ = [
    "Identity",
    "arrange",
    "describe",
    "issuerOf",
    "loadAuthorities",
    "loadIdentity",
    "serverNames",
    "subjectOf",
    "validity",
]

_SOON = timedelta(days=14)


@frozen
class Identity:
    """
    What an endpoint shows to its peers: one chain and its key.

    @ivar chain: the certificate of the key, then the issuer of each. The root is left out, as peers must have it
        themselves, unless it is the certificate of the key.
    @ivar key: the private key of the first certificate.
    @ivar warnings: what the operator should know, a sentence each.
    @ivar files: the files that it was read from.
    @ivar names: the names that it is good for as a server's, as L{serverNames} tells them.
    """

    chain: tuple[x509.Certificate, ...]
    key: PrivateKey = field(repr=False)
    warnings: tuple[str, ...] = ()
    files: tuple[str, ...] = field(default=(), eq=False)
    names: tuple[str, ...] = field(
        default=Factory(lambda self: serverNames(self.chain[0]), takes_self=True), eq=False, repr=False
    )

    @property
    def notBefore(self) -> datetime:
        """
        From when on all of the chain is valid.
        """
        return max(each.not_valid_before_utc for each in self.chain)

    @property
    def notAfter(self) -> datetime:
        """
        Until when all of the chain is valid.
        """
        return min(each.not_valid_after_utc for each in self.chain)

    @property
    def keyFamily(self) -> str:
        """
        See L{tlsproxy.tls.keys.keyFamily}.
        """
        return keyFamily(self.key)

    @property
    def keyType(self) -> str:
        """
        See L{tlsproxy.tls.keys.keyType}.
        """
        return keyType(self.key)


def loadIdentity(chainFile: str, keyFile: str | None, *, now: datetime) -> Identity:
    """
    Load one certificate chain and its private key from PEM files.

    @param chainFile: the file with the certificates, in any order.
    @param keyFile: the file with the key, or C{None} when it is in C{chainFile} too.
    @param now: the current time, with its time zone.

    @return: the chain in the order of RFC 8446, section 4.4.2, with the key and the warnings.

    @raise CertificateProblem: if a file cannot be read, holds something else, is broken or is encrypted, or if the
        key is of a kind that is not supported or belongs to no certificate of the file.
    """
    pem = readPEM(chainFile, "certificate")
    certificates = pem.certificates()
    keyPEM = pem if keyFile is None else readPEM(keyFile, "private key")
    files = (chainFile,) if keyFile is None else (chainFile, keyFile)
    identity = arrange(pem.name, certificates, keyPEM.name, keyPEM.privateKey(), files)
    warnings = [*identity.warnings, *validity(identity, now), keyPEM.file.openToOthers()]
    return evolve(identity, warnings=tuple(each for each in warnings if each is not None))


def arrange(
    name: str,
    certificates: Sequence[x509.Certificate],
    keyName: str,
    key: PrivateKey,
    files: tuple[str, ...],
    *,
    tidy: bool = True,
) -> Identity:
    """
    Find the certificate of a key, and put its chain in order.

    @param name: the file with the certificates, for the messages.
    @param certificates: the certificates, in any order.
    @param keyName: the file with the key, for the messages.
    @param key: the key.
    @param files: all files that it was read from.
    @param tidy: whether to warn of what is not in order, or not needed.

    @raise CertificateProblem: if the key belongs to none of the certificates, or to one that cannot be shown.
    """
    leaf = next((each for each in certificates if belongs(key, each)), None)
    if leaf is None:
        raise CertificateProblem(
            f"{keyName} holds a private key that does not match the certificate in {name} "
            f"({describe(certificates[0])}): give the key that this certificate was issued for"
        )
    if leaf.public_key_algorithm_oid == PublicKeyAlgorithmOID.RSASSA_PSS:
        # The library makes an ordinary RSA key of it (RFC 4055, section 1.2), and then the two do not fit for OpenSSL.
        raise CertificateProblem(
            f"{name} holds a certificate whose key is for RSASSA-PSS alone, which is not supported: have it issued for "
            f"an ordinary RSA key, or for one on P-256 ({describe(leaf)})"
        )
    chain, warnings = _order(name, certificates, leaf, tidy)
    return Identity(chain, key, tuple(warnings), files)


def loadAuthorities(files: Sequence[str]) -> tuple[x509.Certificate, ...]:
    """
    Load the certificates that an endpoint trusts from PEM files.

    A certificate that is no authority is taken as well, because a self-signed one can be pinned this way.

    @param files: the files, each with one certificate or more.

    @return: the certificates of all files in their order, each of them once.

    @raise CertificateProblem: if a file cannot be read, holds no certificate or a broken one.
    """
    found = [each for name in files for each in readPEM(name, "CA certificate").certificates()]
    return tuple(dict.fromkeys(found))


def describe(certificate: x509.Certificate) -> str:
    """
    Name a certificate for a log line or a message: its subject, its issuer and its last day.

    Nothing in it is trusted: control characters are escaped, commas in names too, and long names are cut.

    @return: for example C{CN=shop.example, issued by CN=Example CA, until 2027-01-01}.
    """
    try:
        until = certificate.not_valid_after_utc.date().isoformat()
    except ValueError:
        until = "a date that cannot be read"
    return f"{subjectOf(certificate)}, issued by {issuerOf(certificate)}, until {until}"


def serverNames(certificate: x509.Certificate) -> tuple[str, ...]:
    """
    List the names that a server's certificate is good for: DNS names in lower case, and IP addresses.

    @return: each once, in their order; none where they cannot be decoded.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, *UNDECODABLE):
        return ()
    found = [
        each.value.lower().removesuffix(".") if isinstance(each, x509.DNSName) else str(each.value)
        for each in names
        if isinstance(each, (x509.DNSName, x509.IPAddress))
    ]
    return tuple(dict.fromkeys(found))


def subjectOf(certificate: x509.Certificate) -> str:
    """
    Name the holder of a certificate: by its subject, or by its first alternative name where the subject is empty.
    """
    try:
        if certificate.subject.rdns:
            return _label(certificate.subject)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        first = next(iter(names), None)
    except (x509.ExtensionNotFound, *UNDECODABLE):
        first = None
    return "no readable name" if first is None else shortPrintable(str(first.value).replace(",", "\\,"))


def issuerOf(certificate: x509.Certificate) -> str:
    """
    Name the issuer of a certificate.
    """
    try:
        return _label(certificate.issuer)
    except UNDECODABLE:
        return "no readable name"


def _label(name: x509.Name) -> str:
    """
    Write the common name (RFC 4514), which is what people know a certificate by, or all of the name without one.
    """
    common = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return shortPrintable(common[-1].rfc4514_string() if common else name.rfc4514_string())


def _signed(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    """
    Tell whether one certificate issued the other, or itself where both are the same.
    """
    if certificate.issuer != issuer.subject:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, InvalidSignature):
        return False
    except (TypeError, UnsupportedAlgorithm):
        # The signature is of a kind that cannot be checked here; the peers may know it, so the names decide.
        return True
    return True


def _order(
    name: str, certificates: Sequence[x509.Certificate], leaf: x509.Certificate, tidy: bool
) -> tuple[tuple[x509.Certificate, ...], list[str]]:
    """
    Put a chain in order, each certificate before the one that issued it, and leave out what peers do not need.

    @return: the chain, and a warning for all that was moved or left out.
    """
    given = list(dict.fromkeys(certificates))
    warnings: list[str] = []
    if tidy and len(given) < len(certificates):
        warnings.append(f"{name} holds the same certificate more than once: it is sent once")
    chain = [leaf]
    rest = [each for each in given if each != leaf]
    while not _signed(chain[-1], chain[-1]):
        # Where a root and a cross-signed twin both fit, the twin leads to more peers and the root would be left out.
        issuers = [each for each in rest if _signed(each, chain[-1]) and not _signed(each, each)]
        if not issuers:
            break
        # An issuer that was renewed may be there twice: the first will do that lasts for as long as what is shown.
        issuers.sort(key=lambda each: min(each.not_valid_after_utc, leaf.not_valid_after_utc), reverse=True)
        chain.append(issuers[0])
        rest.remove(issuers[0])
    if tidy and [each for each in given if each in chain] != chain:
        warnings.append(
            f"{name} does not have its certificates in order: they are sent in the right order, "
            "but put the certificate of the key first and after each the one that issued it"
        )
    for each in rest:
        root = _signed(each, each)
        if root and not tidy:
            continue
        reason = "is self-signed and works only where it is trusted" if root else "is not in the chain"
        warnings.append(f"{name} holds a certificate that is not sent, as it {reason}: {describe(each)}")
    return tuple(chain), warnings


def validity(identity: Identity, now: datetime) -> list[str]:
    """
    Warn of certificates of a chain that are not valid now, or not for long.
    """
    if identity.notBefore <= now and identity.notAfter - now >= _SOON:
        return []
    name = printable(identity.files[0])
    return [told for each in identity.chain if (told := _validity(name, each, now)) is not None]


def _validity(name: str, certificate: x509.Certificate, now: datetime) -> str | None:
    """
    Warn of a certificate that is not valid now, or not for long.
    """
    left = certificate.not_valid_after_utc - now
    if left < timedelta(0):
        return f"{name} HAS EXPIRED, and peers will refuse it: renew {describe(certificate)}"
    if certificate.not_valid_before_utc > now:
        start = certificate.not_valid_before_utc
        return (
            f"{name} IS NOT VALID YET, and peers will refuse it before {start:%Y-%m-%d %H:%M} UTC: "
            f"check the clock, or replace {describe(certificate)}"
        )
    if left < _SOON:
        when = {0: "in less than a day", 1: "in 1 day"}.get(left.days, f"in {left.days} days")
        return f"{name} expires {when}: renew {describe(certificate)}"
    return None
