# -*- test-case-name: tests.tls.test_revocation -*-
"""
Lists of revoked certificates (RFC 5280, section 5): read from files and checked while they are loaded.

Whether a certificate has been revoked is not guessed: where a list is missing or out of date, everybody whose
certificate it should cover is refused.  A list like that is no error of the configuration, which was right when it was
written; it comes back as a warning.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from tlsproxy.tls.files import CertificateProblem
from tlsproxy.tls.pem import UNDECODABLE, PEMFile, readPEM
from tlsproxy.tls.printing import shortPrintable

__all__ = ["isSignedBy", "loadRevocations", "uncovered"]

_SOON: Final = timedelta(days=1)


def loadRevocations(
    files: Sequence[str], authorities: Sequence[x509.Certificate], *, now: datetime
) -> tuple[list[x509.CertificateRevocationList], list[str]]:
    """
    Load lists of revoked certificates.

    @param files: PEM files, each with one list or more, or DER files.
    @param authorities: The CAs that are trusted, one of which has to have signed a list that is in its name.
    @param now: The current time, with its time zone.
    @return: The lists, and a sentence for each that is out of date.
    @raise CertificateProblem: A file cannot be read, holds no list, or one that cannot serve.
    """
    lists: list[x509.CertificateRevocationList] = []
    warnings: list[str] = []
    for path in files:
        file = readPEM(path, "certificate revocation list")
        for each in _lists(file):
            _check(file, each, authorities)
            warnings += _age(file, each, now)
            lists.append(each)
    return lists, warnings


def uncovered(
    lists: Sequence[x509.CertificateRevocationList], authorities: Sequence[x509.Certificate]
) -> list[x509.Certificate]:
    """
    Find the CAs that none of the lists is of.
    """
    names = {each.issuer for each in lists}
    return [each for each in authorities if each.subject not in names and _isAuthority(each)]


def isSignedBy(each: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    """
    Tell whether a CA has signed a list, as far as that can be told here.
    """
    try:
        return each.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return False
    except UnsupportedAlgorithm:
        # OpenSSL may know it, and has the last word.
        return True


def _isAuthority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
    except UNDECODABLE:
        return True


def _lists(file: PEMFile) -> list[x509.CertificateRevocationList]:
    texts = [each.text for each in file.blocks if each.label == "X509 CRL"]
    try:
        if not texts and not file.blocks:
            return [x509.load_der_x509_crl(file.file.data)]
        found = [x509.load_pem_x509_crl(text) for text in texts]
    except UNDECODABLE as error:
        if not texts:
            raise _lacks(file) from error
        raise CertificateProblem(
            f"{file.name} is broken, as a CRL in it cannot be decoded: copy the file again"
        ) from error
    if not found:
        raise _lacks(file)
    return found


def _lacks(file: PEMFile) -> CertificateProblem:
    labels = ", ".join(sorted({each.label for each in file.blocks}))
    what = f", only {labels}" if labels else ""
    return CertificateProblem(f"{file.name} holds no CRL{what}: give a CRL in PEM or DER form")


def _check(file: PEMFile, each: x509.CertificateRevocationList, authorities: Sequence[x509.Certificate]) -> None:
    """
    See that a list can serve.
    """
    try:
        name, extensions, until = each.issuer, each.extensions, each.next_update_utc
    except UNDECODABLE as error:
        raise CertificateProblem(
            f"{file.name} is broken, as a CRL in it cannot be decoded: copy the file again"
        ) from error
    if until is None:
        raise CertificateProblem(
            f"{file.name} does not say until when it is good (nextUpdate): have the CA make one that does"
        )
    if any(isinstance(one.value, x509.DeltaCRLIndicator) for one in extensions):
        raise CertificateProblem(f"{file.name} tells only what has changed (a delta CRL): give the whole list")
    owners = [one for one in authorities if one.subject == name]
    if owners and not any(isSignedBy(each, one) for one in owners):
        raise CertificateProblem(
            f"{file.name} is in the name of {_label(name)}, but not signed by it: get it from that CA again"
        )


def _age(file: PEMFile, each: x509.CertificateRevocationList, now: datetime) -> list[str]:
    until, since = each.next_update_utc, each.last_update_utc
    refused = f"all certificates of {_label(each.issuer)} are refused"
    if since > now:
        return [f"{file.name} is not good before {since:%Y-%m-%d %H:%M} UTC, and until then {refused}: check the clock"]
    if until is not None and until < now:
        return [f"{file.name} HAS EXPIRED, so {refused}: get a new CRL of that CA"]
    if until is not None and until - now < _SOON:
        return [f"{file.name} expires on {until:%Y-%m-%d %H:%M} UTC, and from then on {refused}: get a new CRL"]
    return []


def _label(name: x509.Name) -> str:
    return shortPrintable(name.rfc4514_string())
