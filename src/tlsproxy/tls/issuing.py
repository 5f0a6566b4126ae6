# -*- test-case-name: tests.tls.test_issuing -*-
"""
The authority that certifies client proxies, and is good for nothing else.

It is bound by name constraints (RFC 5280, section 4.2.1.10) to the SPIFFE IDs of one trust domain, so whoever has
stolen its key can make clients of that domain, and neither servers nor anybody else.  Of what a client proxy asks for,
only the key is taken; all else in the certificate is the authority's own.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Network
from typing import Final, TypeAlias

from attrs import field, frozen
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tlsproxy.tls.authority import keyUsage
from tlsproxy.tls.certificates import describe
from tlsproxy.tls.files import CertificateProblem
from tlsproxy.tls.keys import PrivateKey, belongs
from tlsproxy.tls.pem import UNDECODABLE, readPEM
from tlsproxy.tls.printing import printable

__all__ = ["BACKDATED", "NAME", "Issuer", "IssuerKeyProblem", "PublicKey", "readRequest"]

PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
"""The keys that a client proxy may have."""

BACKDATED: Final = timedelta(hours=1)
"""How long before it is issued a certificate begins, for peers whose clocks are slow."""

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
"""What a client proxy may be called."""

_DOMAIN: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9-]{1,63}(?<!-))*", re.ASCII)
_NOBODY: Final = "invalid"
"""A name that nobody has (RFC 6761, section 6.4): a kind of name that is not mentioned is not constrained at all."""
_EVERYWHERE: Final = (x509.IPAddress(IPv4Network("0.0.0.0/0")), x509.IPAddress(IPv6Network("::/0")))
_CURVES: Final = ("secp256r1", "secp384r1")
_RSA: Final = range(2048, 4096 + 1)
_EXPONENTS: Final = range(65537, 1 << 32, 2)
_HASHES: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_FOR_CLIENTS: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])


class IssuerKeyProblem(CertificateProblem):
    """
    The key of an authority cannot be used.
    """


@frozen
class Issuer:
    """
    The authority.

    @ivar certificate: Its certificate.
    @ivar domain: The trust domain whose SPIFFE IDs it may issue.
    """

    certificate: x509.Certificate
    domain: str
    _key: PrivateKey = field(repr=False, eq=False)

    @classmethod
    def load(cls, ca: str, key: str, now: datetime) -> Issuer:
        """
        Read it from PEM files.

        @param ca: The file with its certificate.
        @param key: The file with its key.
        @param now: The current time, with its time zone.
        @raise IssuerKeyProblem: The file of the key cannot be used; others than its owner can read it, or the key is
            somebody else's.
        @raise CertificateProblem: The other cannot; the authority is not made for this, or not valid now.
        """
        name = printable(ca)
        found = readPEM(ca, "CA certificate").certificates()
        if len(found) > 1:
            raise CertificateProblem(f"{name} holds {len(found)} certificates: leave the one that issues")
        certificate = found[0]
        try:
            domain = _domainOf(certificate)
        except UNDECODABLE:
            domain = ""
        if not domain:
            raise CertificateProblem(
                f"{name} is not made for certifying client proxies and nothing else, as its constraints have to say: "
                f"make one with tlsproxy setup: {describe(certificate)}"
            )
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            raise CertificateProblem(f"{name} is not valid now: replace {describe(certificate)}")
        try:
            pem = readPEM(key, "private key")
            exposed = pem.file.openToOthers("the private key of a CA")
            if exposed:
                raise IssuerKeyProblem(exposed)
            private = pem.privateKey()
        except CertificateProblem as e:
            raise IssuerKeyProblem(str(e)) from None
        if not belongs(private, certificate):
            raise IssuerKeyProblem(
                f"{pem.name} holds a private key that does not match the certificate in {name} "
                f"({describe(certificate)}): give the key that this certificate was issued for"
            )
        return cls(certificate, domain, private)

    @classmethod
    def create(
        cls, domain: str, lifetime: timedelta, now: datetime, commonName: str = "Client proxies"
    ) -> tuple[Issuer, PrivateKey]:
        """
        Make a new one, with a new key on P-256.

        @param domain: The trust domain: a DNS name.
        @param lifetime: How long it is valid.
        @param now: The current time, with its time zone.
        @param commonName: What it is called, up to 64 characters.
        @return: It, and its key, to be kept.
        @raise CertificateProblem: The domain is no DNS name in lower case.
        """
        if not _isDomain(domain):
            raise CertificateProblem(f"{printable(domain)!r} is no DNS name in lower case, as a trust domain has to be")
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _subject(commonName, commonName)
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=True, path_length=0), True),
            (keyUsage(authority=True), True),
            (_FOR_CLIENTS, False),
            (identifier, False),
            (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), False),
            (_constraints(domain, commonName), True),
        ]
        validity = now - BACKDATED, now + lifetime
        certificate = _signed(key, subject, subject, key.public_key(), validity, extensions)
        return cls(certificate, domain, key), key

    def identity(self, name: str) -> str:
        """
        Give the SPIFFE ID of a client proxy.

        @param name: What it is called.
        """
        return f"spiffe://{self.domain}/{name}"

    def issue(self, name: str, public: PublicKey, until: datetime, now: datetime) -> x509.Certificate:
        """
        Certify a client proxy.

        @param name: What it is called.
        @param public: Its key.
        @param until: When the certificate ends, if the authority does not end before.
        @param now: The current time, with its time zone.
        @raise ValueError: That is no name.
        """
        if not NAME.fullmatch(name):
            raise ValueError(f"{printable(name)!r} is no name of a client proxy")
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (keyUsage(authority=False), True),
            (_FOR_CLIENTS, False),
            (x509.SubjectKeyIdentifier.from_public_key(public), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False),
            (x509.SubjectAlternativeName([x509.UniformResourceIdentifier(self.identity(name))]), False),
        ]
        issuer = self.certificate.subject
        subject = _subject(_organization(issuer), name)
        validity = now - BACKDATED, min(until, self.certificate.not_valid_after_utc)
        return _signed(self._key, issuer, subject, public, validity, extensions)

    def hasIssued(self, chain: tuple[x509.Certificate, ...]) -> bool:
        """
        Tell whether a certificate is one of this authority's: by its name and key, as it may have several certificates.

        @param chain: The certificate, and those that it was verified by.
        """
        if len(chain) < 2:
            return False
        try:
            signer, mine = chain[1], self.certificate
            return (
                chain[0].issuer == signer.subject == mine.subject
                and signer.public_key() == mine.public_key()
                and chain[0] != signer
            )
        except (*UNDECODABLE, UnsupportedAlgorithm):
            return False


def readRequest(der: bytes) -> PublicKey:
    """
    Read a request for a certificate (PKCS#10, RFC 2986).  Nothing is taken of it but the key.

    @raise CertificateProblem: It is malformed, not signed by its own key, or the key is too weak.
    """
    try:
        request = x509.load_der_x509_csr(der)
        key = request.public_key()
    except (*UNDECODABLE, UnsupportedAlgorithm):
        raise CertificateProblem("the request for a certificate is malformed, or of an unknown kind of key") from None
    match key:
        case ec.EllipticCurvePublicKey() if key.curve.name in _CURVES:
            public: PublicKey = key
        case rsa.RSAPublicKey() if key.key_size in _RSA and key.public_numbers().e in _EXPONENTS:
            public = key
        case ed25519.Ed25519PublicKey():
            public = key
        case _:
            raise CertificateProblem(
                "the request's key is too weak, or of another kind than EC on P-256 or P-384, Ed25519, and RSA of 2048 "
                "to 4096 bits"
            )
    try:
        algorithm = request.signature_hash_algorithm
        good = request.is_signature_valid and (algorithm is None or isinstance(algorithm, _HASHES))
    except (*UNDECODABLE, UnsupportedAlgorithm):
        good = False
    if not good:
        raise CertificateProblem("the request is not signed by the key that it is for")
    return public


def _isDomain(domain: str) -> bool:
    # A last label of digits is an address gone wrong, never a name (RFC 3696, section 2).
    return len(domain) <= 253 and bool(_DOMAIN.fullmatch(domain)) and not domain.rpartition(".")[2].isdigit()


def _domainOf(certificate: x509.Certificate) -> str:
    """
    Find the trust domain that an authority is for.

    @return: C{""} where it may do other things, too.
    """
    extensions = certificate.extensions
    try:
        basic = extensions.get_extension_for_class(x509.BasicConstraints)
        usage = extensions.get_extension_for_class(x509.KeyUsage)
        purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage)
        names = extensions.get_extension_for_class(x509.NameConstraints)
    except x509.ExtensionNotFound:
        return ""
    domain = next((each.value for each in names.value.permitted_subtrees or () if _isURI(each)), "")
    organization = _organization(certificate.subject)
    if not _isDomain(domain) or not organization:
        return ""
    wanted = _constraints(domain, organization)
    bound = names.critical and all(
        set(ours or ()) == set(theirs or ())
        for ours, theirs in (
            (wanted.permitted_subtrees, names.value.permitted_subtrees),
            (wanted.excluded_subtrees, names.value.excluded_subtrees),
        )
    )
    alone = basic.critical and basic.value.ca and basic.value.path_length == 0 and usage.value.key_cert_sign
    return domain if bound and alone and purposes.value == _FOR_CLIENTS else ""


def _isURI(name: x509.GeneralName) -> bool:
    return isinstance(name, x509.UniformResourceIdentifier)


def _constraints(domain: str, organization: str) -> x509.NameConstraints:
    permitted = [
        x509.UniformResourceIdentifier(domain),
        x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)])),
        x509.DNSName(_NOBODY),
        x509.RFC822Name(_NOBODY),
    ]
    return x509.NameConstraints(permitted, list(_EVERYWHERE))


def _organization(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return str(found[0].value) if len(found) == 1 and name.rdns[0] == x509.RelativeDistinguishedName(found) else ""


def _subject(organization: str, name: str) -> x509.Name:
    # A common name with a dot in it is taken for a DNS name by verifiers, and a client proxy has none of those.
    kind = NameOID.USER_ID if "." in name else NameOID.COMMON_NAME
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization), x509.NameAttribute(kind, name)])


def _signed(
    signer: PrivateKey,
    issuer: x509.Name,
    subject: x509.Name,
    public: PublicKey,
    validity: tuple[datetime, datetime],
    extensions: list[tuple[x509.ExtensionType, bool]],
) -> x509.Certificate:
    builder = x509.CertificateBuilder(issuer, subject, public, x509.random_serial_number(), *validity)
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    return builder.sign(signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256())
