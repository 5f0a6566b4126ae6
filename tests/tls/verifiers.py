"""
A TLS client in memory that tells what it finds wrong with a server's certificate.
"""

from __future__ import annotations

import contextlib
from ipaddress import ip_address

from cryptography import x509
from OpenSSL import SSL, crypto
from OpenSSL._util import lib

from tlsproxy.testing.certificates import NOW
from tlsproxy.tls.certificates import Identity

PERMITTED_VIOLATION = 47
EXCLUDED_VIOLATION = 48
"""
How OpenSSL numbers a name that the constraints do not permit, and one that they exclude.
"""


def subject(name: str) -> x509.DNSName | x509.IPAddress:
    """
    Make of a name what a verifier looks for.
    """
    with contextlib.suppress(ValueError):
        return x509.IPAddress(ip_address(name))
    return x509.DNSName(name)


def refusals(anchor: x509.Certificate, identity: Identity, name: str) -> list[int]:
    """
    Let a TLS client that trusts one authority, to the letter of RFC 5280, connect in memory.

    @return: the errors of OpenSSL for which it refuses the server, none if it is content.
    """
    errors: list[int] = []

    def look(connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, good: int) -> bool:
        if not good:
            errors.append(error)
        return bool(good)

    serverContext, clientContext = SSL.Context(SSL.TLS_SERVER_METHOD), SSL.Context(SSL.TLS_CLIENT_METHOD)
    serverContext.use_certificate(identity.chain[0])
    serverContext.use_privatekey(identity.key)
    clientContext.set_verify(SSL.VERIFY_PEER, look)
    store = clientContext.get_cert_store()
    assert store is not None
    store.add_cert(crypto.X509.from_cryptography(anchor))
    store.set_flags(crypto.X509StoreFlags.X509_STRICT)
    store.set_time(NOW.replace(tzinfo=None))
    server, client = SSL.Connection(serverContext), SSL.Connection(clientContext)
    server.set_accept_state()
    client.set_connect_state()
    parameters = lib.SSL_get0_param(client._ssl)
    if isinstance(subject(name), x509.IPAddress):
        address = ip_address(name).packed
        lib.X509_VERIFY_PARAM_set1_ip(parameters, address, len(address))
    else:
        lib.X509_VERIFY_PARAM_set1_host(parameters, name.encode(), len(name))
    try:
        for here, there in ((client, server), (server, client), (client, server)):
            with contextlib.suppress(SSL.WantReadError):
                here.do_handshake()
            there.bio_write(here.bio_read(1 << 16))
        server.do_handshake()
    except SSL.WantReadError:
        raise AssertionError("The handshake stopped in the middle.") from None
    except SSL.Error:
        assert errors, "The handshake failed for another reason."
    return errors
