"""
GnuTLS, as far as it verifies certificates.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

__all__ = ["available", "verifies"]

_DER = 0
_PURPOSE = 2
_CLIENT = b"1.3.6.1.5.5.7.3.2"


class _Datum(ctypes.Structure):
    _fields_ = (("data", ctypes.c_char_p), ("size", ctypes.c_uint))


class _Wanted(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int), ("data", ctypes.c_char_p), ("size", ctypes.c_uint))


def _library() -> Any:
    name = ctypes.util.find_library("gnutls")
    return None if name is None else ctypes.CDLL(name)


def available() -> bool:
    """
    Tell whether it is there.
    """
    return _library() is not None


def _load(library: Any, certificate: x509.Certificate) -> Any:
    data = certificate.public_bytes(Encoding.DER)
    loaded = ctypes.c_void_p()
    assert library.gnutls_x509_crt_init(ctypes.byref(loaded)) == 0
    assert library.gnutls_x509_crt_import(loaded, ctypes.byref(_Datum(data, len(data))), _DER) == 0
    return loaded


def verifies(anchor: x509.Certificate, leaf: x509.Certificate) -> bool:
    """
    Tell whether it takes a certificate for a TLS client's, at the present time.

    @param anchor: The only authority that it trusts.
    """
    library, trust, status = _library(), ctypes.c_void_p(), ctypes.c_uint()
    assert library.gnutls_x509_trust_list_init(ctypes.byref(trust), 0) == 0
    try:
        # The list owns the authority from now on.
        assert library.gnutls_x509_trust_list_add_cas(trust, ctypes.byref(_load(library, anchor)), 1, 0) == 1
        loaded = _load(library, leaf)
        wanted = _Wanted(_PURPOSE, _CLIENT, 0)
        found = library.gnutls_x509_trust_list_verify_crt2(
            trust, ctypes.byref(loaded), 1, ctypes.byref(wanted), 1, 0, ctypes.byref(status), None
        )
        library.gnutls_x509_crt_deinit(loaded)
        return bool(found == 0 and status.value == 0)
    finally:
        library.gnutls_x509_trust_list_deinit(trust, 1)
