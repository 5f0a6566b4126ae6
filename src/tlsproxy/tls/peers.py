# -*- test-case-name: tests.tls.test_peers -*-
"""
What OpenSSL looks at in a peer's certificate, inside the handshake: its name, and what a judgement of ours says; and
which of our own certificates it shows to a server that wants one.

Beside L{tlsproxy.tls.native} and L{tlsproxy.tls.datagrams}, this is the only module that touches the private bindings
of pyOpenSSL.
"""

from __future__ import annotations

import ipaddress
from typing import Any, Final

from OpenSSL import SSL, _util, crypto

from tlsproxy.tls.native import seeBindings
from tlsproxy.wire.host import isLiteral

__all__ = ["choosePresented", "judgePeers", "requireName"]

_lib: Any = _util.lib
_ffi: Any = _util.ffi

_NEEDED: Final = (
    "OPENSSL_free",
    "SSL_CTX_set_cert_cb",
    "SSL_CTX_set_verify",
    "SSL_get0_param",
    "SSL_get_client_CA_list",
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
    "i2d_X509_NAME",
    "sk_X509_NAME_num",
    "sk_X509_NAME_value",
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


@_ffi.callback("int (*)(SSL *, void *)", error=0)  # type: ignore[untyped-decorator]
def _present(ssl: Any, _: Any) -> int:
    """
    Have a connection show the certificate that fits what its server announces.  Where none does, the handshake fails.
    """
    connection = SSL.Connection._reverse_mapping[ssl]
    own = connection.get_app_data()
    if own is None or own.presented is None:
        return 1  # There is none to show.
    context, own.refusal = own.presented.choose(_announced(ssl))
    if context is None:
        return 0
    connection.set_context(context)
    return 1


def _announced(ssl: Any) -> list[bytes]:
    """
    Tell the names of the authorities that a server announced (RFC 8446, section 4.2.4), each in DER.
    """
    names = _lib.SSL_get_client_CA_list(ssl)
    found = []
    for position in range(0 if names == _ffi.NULL else _lib.sk_X509_NAME_num(names)):
        space = _ffi.new("unsigned char **")
        length = _lib.i2d_X509_NAME(_lib.sk_X509_NAME_value(names, position), space)
        if length < 0:
            raise ValueError("a name cannot be encoded")
        try:
            found.append(bytes(_ffi.buffer(space[0], length)))
        finally:
            _lib.OPENSSL_free(space[0])
    return found


def choosePresented(context: SSL.Context) -> None:
    """
    Have a context's connections show what each one's own L{Presented<tlsproxy.tls.presenting.Presented>} chooses, once
    the server is verified and wants a certificate.
    """
    _lib.SSL_CTX_set_cert_cb(context._context, _present, _ffi.NULL)


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
