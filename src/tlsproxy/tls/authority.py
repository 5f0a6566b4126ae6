# -*- test-case-name: tests.tls.test_authority -*-
"""
A small certificate authority, for trying things out on one machine.

Its certificates follow RFC 5280 closely enough for verifiers in their strict modes, and the authority is bound by name
constraints, so that whoever trusts it, for a demonstration say, has trusted it for those few names only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tlsproxy.tls.certificates import Identity
from tlsproxy.tls.files import CertificateProblem
from tlsproxy.tls.keys import PrivateKey
from tlsproxy.tls.printing import printable

__all__ = ["Authority", "keyUsage", "narrowestConstraint"]

_BACKDATED = timedelta(hours=1)
_EVERYWHERE = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))

_HOST = re.compile(r"(?:\*\.)?(?!-)[a-z0-9-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9-]{1,63}(?<!-))*", re.ASCII | re.IGNORECASE)

_Extensions: TypeAlias = list[tuple[x509.ExtensionType, bool]]
"""
What a certificate says, each with whether it is critical.
"""

_USAGES = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]


@frozen
class Authority:
    """
    A certificate authority with its key in memory.

    @ivar certificate: its self-signed certificate, which those who trust it hold.
    @ivar key: its private key.
    """

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def create(
        cls, commonName: str, *, permitted: Sequence[x509.GeneralName] = (), lifetime: timedelta, now: datetime
    ) -> Authority:
        """
        Make a new authority, with a new key on P-256, that may issue for endpoints but not for other authorities.

        @param commonName: the name it is known by, up to 64 characters.
        @param permitted: the DNS names, each with all names below it, and the IP networks it may issue for, all other
            names of these two kinds being shut out (RFC 5280, section 4.2.1.10). If empty, it may issue for any.
        @param lifetime: how long it is valid from now on.
        @param now: the current time, with its time zone.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, commonName)])
        extensions = _authorityExtensions(key.public_key(), permitted)
        return cls(_sign(key, subject, subject, key, (now, now + lifetime), extensions), key)

    def issue(
        self,
        *,
        commonName: str,
        names: Sequence[str],
        server: bool,
        client: bool,
        lifetime: timedelta,
        now: datetime,
        key: PrivateKey | None = None,
    ) -> Identity:
        """
        Issue a certificate for an endpoint. It is not checked against the authority's own constraints; peers do that.

        @param commonName: the name of its holder, up to 64 characters. Plain words are best, as verifiers may hold one
            that looks like a DNS name or an address against the constraints. In a server's certificate for addresses
            alone it is left out, because GnuTLS does so with plain words too.
        @param names: the DNS names, a first label C{*} allowed, and the IP addresses it is good for.
        @param server: whether it is good for a TLS server.
        @param client: whether it is good for a TLS client.
        @param lifetime: how long it is valid from now on, at most for as long as the authority is.
        @param now: the current time, with its time zone.
        @param key: the key of the endpoint; a new one on P-256 if C{None}.

        @raise CertificateProblem: if one of the names is neither a DNS name nor an IP address.
        @raise ValueError: if it is for neither a server nor a client.
        """
        if key is None:
            key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key()
        until = min(now + lifetime, self.certificate.not_valid_after_utc)
        usages = [usage for usage, wanted in zip(_USAGES, (server, client), strict=True) if wanted]
        if not usages:
            raise ValueError("a certificate is for a server, for a client, or for both")
        extensions: _Extensions = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (keyUsage(authority=False), True),
            (x509.ExtendedKeyUsage(usages), False),
            (x509.SubjectKeyIdentifier.from_public_key(public), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False),
        ]
        alternatives = [_alternative(each) for each in names]
        addressesAlone = server and bool(names) and all(isinstance(each, x509.IPAddress) for each in alternatives)
        if names:
            # Where the subject is empty they must be critical (RFC 5280, section 4.2.1.6).
            extensions.append((x509.SubjectAlternativeName(alternatives), addressesAlone))
        subject = x509.Name([] if addressesAlone else [x509.NameAttribute(NameOID.COMMON_NAME, commonName)])
        leaf = _sign(self.key, self.certificate.subject, subject, key, (now, until), extensions)
        return Identity((leaf,), key)

    def isMadeFor(self, permitted: Sequence[x509.GeneralName]) -> bool:
        """
        Tell whether the certificate says of the key just what L{create} would have it say.

        @param permitted: as for L{create}.

        @raise ValueError: if the certificate cannot be decoded; so do the others of L{tlsproxy.tls.pem.UNDECODABLE}.
        """
        found = [(each.value, each.critical) for each in self.certificate.extensions]
        return found == _authorityExtensions(self.key.public_key(), permitted)

    def pem(self) -> bytes:
        """
        Write the certificate, without the key, as those who shall trust it need it.
        """
        return self.certificate.public_bytes(Encoding.PEM)


def narrowestConstraint(name: str) -> x509.DNSName | x509.IPAddress:
    """
    Make the narrowest name constraint that allows a DNS name, a first label C{*} allowed, or an IP address.

    @raise CertificateProblem: if it is neither.
    """
    alternative = _alternative(name)
    if isinstance(alternative, x509.DNSName):
        return x509.DNSName(alternative.value.removeprefix("*."))
    return x509.IPAddress(ip_network(ip_address(name).packed))


def _sign(
    signer: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    subject: x509.Name,
    key: PrivateKey,
    validity: tuple[datetime, datetime],
    extensions: _Extensions,
) -> x509.Certificate:
    """
    Make a certificate. It starts a little in the past, for peers whose clocks are slow.
    """
    begin, end = validity
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(begin - _BACKDATED).not_valid_after(end)
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    return builder.sign(signer, hashes.SHA256())


def _authorityExtensions(key: ec.EllipticCurvePublicKey, permitted: Sequence[x509.GeneralName]) -> _Extensions:
    """
    List what the certificate of an authority says.
    """
    identifier = x509.SubjectKeyIdentifier.from_public_key(key)
    extensions: _Extensions = [
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (keyUsage(authority=True), True),
        # Here too, so that it signs neither mail nor programs, which name constraints do not rule out.
        (x509.ExtendedKeyUsage(_USAGES), False),
        (identifier, False),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), False),
    ]
    if permitted:
        allowed = list(permitted)
        # A kind of name that is not mentioned is not constrained at all, so each kind is always mentioned.
        if not any(isinstance(each, x509.DNSName) for each in allowed):
            # Nobody has such a name (RFC 6761, section 6.4); excluding the empty name is not understood everywhere.
            allowed.append(x509.DNSName("invalid"))
        versions = {each.value.version for each in allowed if isinstance(each, x509.IPAddress)}
        excluded = [x509.IPAddress(each) for each in _EVERYWHERE if each.version not in versions]
        extensions.append((x509.NameConstraints(allowed, excluded or None), True))
    return extensions


def keyUsage(*, authority: bool) -> x509.KeyUsage:
    """
    Say what a key is for: signing certificates, or signing handshakes.
    """
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(name: str) -> x509.DNSName | x509.IPAddress:
    """
    Make a subject alternative name of a DNS name or an IP address.
    """
    with suppress(ValueError):
        return x509.IPAddress(ip_address(name))
    # A last label of digits is an address gone wrong, never a name (RFC 3696, section 2).
    if not _HOST.fullmatch(name) or len(name) > 253 or name.rpartition(".")[2].isdigit():
        raise CertificateProblem(
            f"{printable(name)!r} is neither a DNS name nor an IP address: give one, in ASCII and without brackets"
        )
    return x509.DNSName(name.lower())
