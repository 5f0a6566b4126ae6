# -*- test-case-name: tests.tls.test_peers -*-
"""
What OpenSSL looks at in a peer's certificate, inside the handshake: its name, and what a judgement of ours says.

Beside L{tlsproxy.tls.native}, this is the only module that touches the private bindings of pyOpenSSL.
"""

from __future__ import annotations

import ipaddress
from typing import Any, Final

from OpenSSL import SSL, _util, crypto

from tlsproxy.tls.native import seeBindings
from tlsproxy.wire.host import isLiteral

__all__ = ["judgePeers", "requireName"]

_lib: Any = _util.lib
_ffi: Any = _util.ffi

_NEEDED: Final = (
    "SSL_CTX_set_verify",
    "SSL_get0_param",
    "SSL_get_ex_data_X509_STORE_CTX_idx",
    "X509_STORE_CTX_get_current_cert",
    "X509_STORE_CTX_get_error",
    "X509_STORE_CTX_get_error_depth",
    "X509_STORE_CTX_get_ex_data",
    "X509_STORE_CTX_set_error",
    "X509_VERIFY_PARAM_set1_host",
    "X509_VERIFY_PARAM_set1_ip",
    "X509_VERIFY_PARAM_set_hostflags",
    "X509_up_ref",
)

seeBindings(_NEEDED)

# Values of <openssl/x509v3.h> that the bindings do not name.
_CHECK_NO_PARTIAL_WILDCARDS: Final = 0x4
_CHECK_NEVER_SUBJECT: Final = 0x20


@_ffi.callback("int (*)(int, X509_STORE_CTX *)", error=0)  # type: ignore[untyped-decorator]
def _judge(ok: int, context: Any) -> int:
    """
    Ask a connection's L{Judgement<tlsproxy.tls.verification.Judgement>} about a certificate of its peer's chain.

    pyOpenSSL can do that, too, but then the alert would be one that says no more than that something is wrong here.
    Whatever is raised, the certificate is refused.
    """
    ssl = _lib.X509_STORE_CTX_get_ex_data(context, _lib.SSL_get_ex_data_X509_STORE_CTX_idx())
    own = SSL.Connection._reverse_mapping[ssl].get_app_data()
    if own is None or own.judgement is None:
        return 0
    certificate = _lib.X509_STORE_CTX_get_current_cert(context)
    _lib.X509_up_ref(certificate)
    depth = _lib.X509_STORE_CTX_get_error_depth(context)
    code = 0 if ok else _lib.X509_STORE_CTX_get_error(context)
    found = own.judgement.heard(code, depth, crypto.X509._from_raw_x509_ptr(certificate))
    _lib.X509_STORE_CTX_set_error(context, found)
    return int(found == 0)


def judgePeers(context: SSL.Context, mode: int) -> None:
    """
    Have a context's connections verify their peers, and ask each one's own judgement.

    @param mode: As for C{SSL.Context.set_verify}.
    """
    _lib.SSL_CTX_set_verify(context._context, mode, _judge)


def requireName(connection: SSL.Connection, name: str) -> None:
    """
    Have the peer's certificate checked for a name inside the handshake (RFC 9525): subject alternative names only,
    a wildcard for the whole left-most label only.

    @param name: A DNS name in ASCII, or an IP address.
    @raise ValueError: The name cannot be one.
    """
    parameters = _lib.SSL_get0_param(connection._ssl)
    if isLiteral(name):
        packed = ipaddress.ip_address(name).packed
        if _lib.X509_VERIFY_PARAM_set1_ip(parameters, packed, len(packed)) != 1:
            raise ValueError(f"OpenSSL does not take the address {name}")
    else:
        encoded = name.encode("ascii")
        _lib.X509_VERIFY_PARAM_set_hostflags(parameters, _CHECK_NO_PARTIAL_WILDCARDS | _CHECK_NEVER_SUBJECT)
        if b"\0" in encoded or _lib.X509_VERIFY_PARAM_set1_host(parameters, encoded, len(encoded)) != 1:
            raise ValueError(f"{name!r} is no name that a certificate could show")
