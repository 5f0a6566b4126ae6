# -*- test-case-name: tests.tls.test_development -*-
"""
Certificates for trying things out on one machine: the ones of the demonstrations, which a state directory keeps, and
throw-away ones for examples.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tlsproxy.tls.authority import Authority, narrowestConstraint
from tlsproxy.tls.certificates import Identity, loadIdentity
from tlsproxy.tls.files import CertificateProblem
from tlsproxy.tls.keys import PrivateKey
from tlsproxy.tls.pem import UNDECODABLE
from tlsproxy.tls.printing import printable

__all__ = [
    "LEAF_LIFETIME",
    "developmentAuthority",
    "developmentClient",
    "developmentServer",
    "writeDevelopmentFiles",
]

LEAF_LIFETIME = timedelta(days=90)
"""
How long to let a certificate for development live: few enough days for the strictest browser.
"""

_AUTHORITY_LIFETIME = timedelta(days=365)
_RENEWAL = timedelta(days=30)

_LOOPBACK = (
    x509.DNSName("localhost"),
    x509.IPAddress(IPv4Network("127.0.0.0/8")),
    x509.IPAddress(IPv6Network("::1/128")),
)
_NAMES = ("localhost", "127.0.0.1", "::1")


def developmentAuthority(stateDir: Path, *, now: datetime) -> tuple[Authority, Path]:
    """
    Give the authority of this machine's demonstrations, which is good for C{localhost} and loopback addresses only.

    It is kept in the state directory, and made anew when there is none that is whole, private to this user, as this
    version would make it, and valid for 30 days more. Several processes may ask at once and get the same.

    @param stateDir: the state directory; it is made, for this user only, if it does not exist.
    @param now: the current time, with its time zone.

    @return: the authority, and the file with its certificate.

    @raise CertificateProblem: if the directory cannot be used.
    """
    with _locked(stateDir):
        return _keptAuthority(stateDir, now)


def developmentServer(stateDir: Path, *, now: datetime) -> tuple[Path, Path]:
    """
    Give the certificate of this machine's demonstrations, which the L{developmentAuthority} issues for C{localhost},
    C{127.0.0.1} and C{::1}.

    It is kept in the state directory, and made anew when there is none that is whole, private to this user, of the
    present authority's making, and valid for 30 days more. Several processes may ask at once and get the same.

    @param stateDir: the state directory; it is made, for this user only, if it does not exist.
    @param now: the current time, with its time zone.

    @return: the file with the certificate of the authority, for those who connect, and the file with the server's
        certificate and key.

    @raise CertificateProblem: if the directory cannot be used.
    """
    return _kept(stateDir, "server", now)


def developmentClient(stateDir: Path, *, now: datetime) -> tuple[Path, Path]:
    """
    As L{developmentServer}, for the client of a demonstration that wants a certificate of it.

    @return: the file with the certificate of the authority, and the file with the client's certificate and key.
    """
    return _kept(stateDir, "client", now)


def _kept(stateDir: Path, role: str, now: datetime) -> tuple[Path, Path]:
    file = stateDir / f"dev-{role}.pem"
    with _locked(stateDir):
        authority, authorityFile = _keptAuthority(stateDir, now)
        holder = _loadKept(file, None, now)
        if holder is None or not _issued(authority, holder):
            holder = authority.issue(
                commonName=f"tlsproxy development {role}",
                names=_NAMES,
                server=role == "server",
                client=role == "client",
                lifetime=LEAF_LIFETIME,
                now=now,
            )
            _replace(file, holder.chain[0].public_bytes(Encoding.PEM) + _keyPEM(holder.key), 0o600)
    return authorityFile, file


def writeDevelopmentFiles(directory: Path, *, names: Sequence[str] = _NAMES, now: datetime) -> list[Path]:
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
    permitted = [narrowestConstraint(each) for each in names]
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


def _keptAuthority(stateDir: Path, now: datetime) -> tuple[Authority, Path]:
    """
    Load the authority of a state directory whose lock is held, or make it anew.
    """
    certificateFile, keyFile = stateDir / "dev-ca.pem", stateDir / "dev-ca-key.pem"
    authority = _asAuthority(_loadKept(certificateFile, keyFile, now))
    if authority is None:
        authority = Authority.create(_developmentName(), permitted=_LOOPBACK, lifetime=_AUTHORITY_LIFETIME, now=now)
        _replace(keyFile, _keyPEM(authority.key), 0o600)
        _replace(certificateFile, authority.pem(), 0o644)
    return authority, certificateFile


def _loadKept(certificateFile: Path, keyFile: Path | None, now: datetime) -> Identity | None:
    """
    Load a certificate and its key, if they are whole, private to this user, and not about to end.
    """
    try:
        identity = loadIdentity(str(certificateFile), None if keyFile is None else str(keyFile), now=now)
        # Whoever owns the key can open its mode again, and knows the key.
        owner = (keyFile or certificateFile).stat(follow_symlinks=False).st_uid
    except (OSError, CertificateProblem):
        return None
    if owner != os.geteuid() or identity.warnings or len(identity.chain) != 1:
        return None
    return identity if identity.chain[0].not_valid_after_utc - now >= _RENEWAL else None


def _asAuthority(identity: Identity | None) -> Authority | None:
    """
    Make an authority of what was kept, if it is as it would be made today.
    """
    if identity is None or not isinstance(identity.key, ec.EllipticCurvePrivateKey):
        return None
    authority = Authority(identity.chain[0], identity.key)
    try:
        return authority if _issued(authority, identity) and authority.isMadeFor(_LOOPBACK) else None
    except UNDECODABLE:
        return None


def _issued(authority: Authority, identity: Identity) -> bool:
    """
    Tell whether an authority issued a certificate, which may be its own.
    """
    try:
        identity.chain[0].verify_directly_issued_by(authority.certificate)
    except (InvalidSignature, TypeError, UnsupportedAlgorithm, ValueError):
        return False
    return True


@contextmanager
def _locked(stateDir: Path) -> Iterator[None]:
    """
    Hold the lock of the state directory, waiting for the process that has it.

    @raise CertificateProblem: if the directory cannot be used, in making it or while the lock is held.
    """
    try:
        stateDir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(stateDir / "dev-ca.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
    except OSError as error:
        raise CertificateProblem(
            f"{printable(str(stateDir))} cannot keep the development CA ({error.strerror}): "
            "give a state directory that this user may write"
        ) from error


def _replace(path: Path, data: bytes, mode: int) -> None:
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


def _create(path: Path, data: bytes, mode: int) -> None:
    """
    Write a file that did not exist, whole or not at all, and with its mode from the start.
    """
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file, ExitStack() as undo:
        undo.callback(path.unlink)
        file.write(data)
        file.flush()
        undo.pop_all()


def _writeNew(directory: Path, files: dict[str, tuple[bytes, int]]) -> list[Path]:
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
