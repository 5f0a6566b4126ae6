# -*- test-case-name: tests.tls.test_reverification -*-
"""
The verdict on a certificate, once more: a tunnel may last longer than the CA, the list of revoked certificates or the
rule that let it in, and its TLS may be gone by then.

OpenSSL builds and verifies the chain as in a handshake.  What it says of lists there, a callback of ours corrects, and
here it can have none; so lists are asked by themselves, to the same effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from cryptography import x509
from OpenSSL import crypto

from tlsproxy.tls.certificates import describe, issuerOf
from tlsproxy.tls.pem import UNDECODABLE
from tlsproxy.tls.revocation import isSignedBy
from tlsproxy.tls.verification import Verification

__all__ = ["NoLongerValid", "verifyAgain"]

# <openssl/x509_vfy.h>
_NO_ISSUER: Final = frozenset({2, 7, 18, 19, 20, 21})
_FOREIGN: Final = "no CA in client_ca has issued it"


class NoLongerValid(ValueError):
    """
    A certificate that was let in would not be any more.  The text is the end of a sentence.
    """


def verifyAgain(
    verification: Verification, chain: Sequence[x509.Certificate], now: datetime
) -> tuple[x509.Certificate, ...]:
    """
    Verify a certificate that was verified before, by what may be other rules.

    @param verification: What is asked of it now.
    @param chain: It, and those that it was verified by.
    @param now: The time that it has to be valid at, with its time zone.
    @return: It, and those that it is verified by now.
    @raise NoLongerValid: It is not let in any more.
    """
    store = crypto.X509Store()
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    store.set_time(now.replace(tzinfo=None))
    for authority in verification.authorities:
        store.add_cert(crypto.X509.from_cryptography(authority))
    leaf, *issuers = map(crypto.X509.from_cryptography, chain)
    try:
        found = crypto.X509StoreContext(store, leaf, issuers).get_verified_chain()
        path = tuple(each.to_cryptography() for each in found)
        if verification.lists:
            _knowUnrevoked(path, verification, now)
        why = verification.whyNot(path[0])
    except crypto.X509StoreContextError as e:
        raise NoLongerValid(_FOREIGN if e.errors[0] in _NO_ISSUER else str(e)) from e
    except UNDECODABLE as e:
        if isinstance(e, NoLongerValid):
            raise
        raise NoLongerValid("it cannot be read") from e
    if why:
        raise NoLongerValid(why)
    return path


def _knowUnrevoked(path: Sequence[x509.Certificate], verification: Verification, now: datetime) -> None:
    """
    See that lists say of the certificates of a path that they have not been revoked.
    """
    owed = True
    for number, each in enumerate(path):
        # Nobody but its owner can say that what is trusted by itself is not to be trusted any more.
        owed = owed and each not in verification.authorities
        current = False
        for one in verification.lists:
            if one.issuer != each.issuer or not isSignedBy(one, path[min(number + 1, len(path) - 1)]):
                continue
            it = describe(each) if number else "it"
            if one.get_revoked_certificate_by_serial_number(each.serial_number) is not None:
                raise NoLongerValid(f"{it} has been revoked, says the CRL of {issuerOf(each)}")
            until = one.next_update_utc
            current = current or (one.last_update_utc <= now and (until is None or now <= until))
        if owed and not current:
            raise NoLongerValid(
                f"there is no CRL of {issuerOf(each)} that is good now, so nobody can say whether "
                f"{describe(each) if number else 'it'} has been revoked"
            )
