# -*- test-case-name: tests.tls.test_authority -*-
"""
A small certificate authority, for trying things out on one machine.

Its certificates follow RFC 5280 closely enough for verifiers in their strict modes, and the authority is bound by name
constraints, so that whoever trusts it, for a demonstration say, has trusted it for those few names only.
"""

from __future__ import annotations

import fcntl
import os
import pathlib
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from attrs import field, frozen
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tlsproxy.tls.certificates import Identity, loadIdentity
from tlsproxy.tls.pem import CertificateProblem, PrivateKey, printable

__all__ = ["LEAF_LIFETIME", "Authority", "developmentAuthority", "writeDevelopmentFiles"]

_BACKDATED = timedelta(hours=1)
_AUTHORITY_LIFETIME, _AUTHORITY_RENEWAL = timedelta(days=365), timedelta(days=30)
LEAF_LIFETIME = timedelta(days=90)
"""
How long to let a certificate for development live: few enough days for the strictest browser.
"""

_LOOPBACK = (
    x509.DNSName("localhost"),
    x509.IPAddress(IPv4Network("127.0.0.0/8")),
    x509.IPAddress(IPv6Network("::1/128")),
)

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
            (_keyUsage(authority=False), True),
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

    def pem(self) -> bytes:
        """
        Write the certificate, without the key, as those who shall trust it need it.
        """
        return self.certificate.public_bytes(Encoding.PEM)


def developmentAuthority(stateDir: pathlib.Path, *, now: datetime) -> tuple[Authority, pathlib.Path]:
    """
    Give the authority of this machine's demonstrations, which is good for C{localhost} and loopback addresses only.

    It is kept in the state directory, and made anew when there is none that is whole, private to this user, as this
    version would make it, and valid for 30 days more. Several processes may ask at once and get the same.

    @param stateDir: the state directory; it is made, for this user only, if it does not exist.
    @param now: the current time, with its time zone.

    @return: the authority, and the file with its certificate.

    @raise CertificateProblem: if the directory cannot be used.
    """
    certificateFile = stateDir / "dev-ca.pem"
    keyFile = stateDir / "dev-ca-key.pem"
    try:
        stateDir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(stateDir):
            authority = _loadDevelopment(certificateFile, keyFile, now)
            if authority is None:
                name = _developmentName()
                authority = Authority.create(name, permitted=_LOOPBACK, lifetime=_AUTHORITY_LIFETIME, now=now)
                _replace(keyFile, _keyPEM(authority.key), 0o600)
                _replace(certificateFile, authority.pem(), 0o644)
    except OSError as error:
        raise CertificateProblem(
            f"{printable(str(stateDir))} cannot keep the development CA ({error.strerror}): "
            "give a state directory that this user may write"
        ) from error
    return authority, certificateFile


def writeDevelopmentFiles(
    directory: pathlib.Path, *, names: Sequence[str] = ("localhost", "127.0.0.1", "::1"), now: datetime
) -> list[pathlib.Path]:
    """
    Write a throw-away authority's certificate, and a certificate and key of its making for a server and for a client.

    The key of the authority is not kept, so it never issues anything else. It is bound to the names all the same.

    @param directory: where to write; it is made if it does not exist.
    @param names: the DNS names and IP addresses that both certificates are good for.
    @param now: the current time, with its time zone.

    @return: the files: C{ca.pem}, C{server.pem}, C{server-key.pem}, C{client.pem}, C{client-key.pem}.

    @raise CertificateProblem: if a name is no DNS name or IP address, if there is none, if one of the files exists, or
        if they cannot be written. Then none is left behind.
    """
    if not names:
        raise CertificateProblem("there is no name to issue a certificate for: give a DNS name or an IP address")
    permitted = [_constraint(each) for each in names]
    authority = Authority.create(_developmentName(), permitted=permitted, lifetime=LEAF_LIFETIME, now=now)
    server, client = (
        authority.issue(
            commonName=f"tlsproxy development {role}",
            names=names,
            server=role == "server",
            client=role == "client",
            lifetime=LEAF_LIFETIME,
            now=now,
        )
        for role in ("server", "client")
    )
    return _writeNew(
        directory,
        {
            "ca.pem": (authority.pem(), 0o644),
            "server.pem": (server.chain[0].public_bytes(Encoding.PEM), 0o644),
            "server-key.pem": (_keyPEM(server.key), 0o600),
            "client.pem": (client.chain[0].public_bytes(Encoding.PEM), 0o644),
            "client-key.pem": (_keyPEM(client.key), 0o600),
        },
    )


def _developmentName() -> str:
    """
    Name a new authority. Each gets a name of its own, as trust stores confuse those that share one.
    """
    return f"tlsproxy development CA {secrets.token_hex(4)}"


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
        (_keyUsage(authority=True), True),
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


def _keyUsage(*, authority: bool) -> x509.KeyUsage:
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


def _constraint(name: str) -> x509.DNSName | x509.IPAddress:
    """
    Make the narrowest name constraint that allows a DNS name or an IP address.
    """
    alternative = _alternative(name)
    if isinstance(alternative, x509.DNSName):
        return x509.DNSName(alternative.value.removeprefix("*."))
    return x509.IPAddress(ip_network(ip_address(name).packed))


def _loadDevelopment(certificateFile: pathlib.Path, keyFile: pathlib.Path, now: datetime) -> Authority | None:
    """
    Load the development authority, if there is one that is as it would be made today and not about to end.
    """
    try:
        identity = loadIdentity(str(certificateFile), str(keyFile), now=now)
        # Whoever owns the key can open its mode again, and knows the key.
        private = keyFile.stat(follow_symlinks=False).st_uid == os.geteuid() and not identity.warnings
        [certificate] = identity.chain
        certificate.verify_directly_issued_by(certificate)
        found = [(each.value, each.critical) for each in certificate.extensions]
    except (OSError, InvalidSignature, TypeError, UnsupportedAlgorithm, ValueError):
        return None
    key = identity.key
    if not private or certificate.not_valid_after_utc - now < _AUTHORITY_RENEWAL:
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or found != _authorityExtensions(key.public_key(), _LOOPBACK):
        return None
    return Authority(certificate, key)


@contextmanager
def _locked(directory: pathlib.Path) -> Iterator[None]:
    """
    Hold the lock of the state directory, waiting for the process that has it.
    """
    descriptor = os.open(directory / "dev-ca.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: pathlib.Path, data: bytes, mode: int) -> None:
    """
    Write a file so that readers find the old one or the new one, whole.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    _create(temporary, data, mode)
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink()
        raise


def _create(path: pathlib.Path, data: bytes, mode: int) -> None:
    """
    Write a file that did not exist, whole or not at all, and with its mode from the start.
    """
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file, ExitStack() as undo:
        undo.callback(path.unlink)
        file.write(data)
        file.flush()
        undo.pop_all()


def _writeNew(directory: pathlib.Path, files: dict[str, tuple[bytes, int]]) -> list[pathlib.Path]:
    """
    Write several files, by name with content and mode, into a directory: all of them, and over no other, or none.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with ExitStack() as undo:
            for name, (data, mode) in files.items():
                _create(directory / name, data, mode)
                undo.callback((directory / name).unlink)
            undo.pop_all()
    except FileExistsError as error:
        raise CertificateProblem(
            f"{printable(str(error.filename))} exists already: remove it, or give another directory"
        ) from error
    except OSError as error:
        raise CertificateProblem(
            f"{printable(str(directory))} cannot be written ({error.strerror}): give another directory"
        ) from error
    return [directory / name for name in files]


def _keyPEM(key: PrivateKey) -> bytes:
    """
    Write a private key, not encrypted.
    """
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
