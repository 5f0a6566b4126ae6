"""
What Twisted alone offers for the same job: C{listenSSL} and C{portforward}.

C{python stock.py LISTEN_PORT UPSTREAM_PORT CHAIN.pem KEY.pem VERSION} takes TLS and forwards it in clear.
"""

from __future__ import annotations

import sys
from typing import Any, cast

from OpenSSL import SSL
from traffic import CIPHERS, HOST, SUITE
from twisted.internet import reactor as _reactor
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.protocols.portforward import ProxyFactory

reactor = cast(Any, _reactor)


def main() -> None:
    """
    Serve until killed.
    """
    listen, upstream, chain, key, version = sys.argv[1:]
    contexts = DefaultOpenSSLContextFactory(key, chain, SSL.TLS_SERVER_METHOD)
    context = contexts.getContext()
    only = SSL.TLS1_2_VERSION if version == "1.2" else SSL.TLS1_3_VERSION
    context.set_min_proto_version(only)
    context.set_max_proto_version(only)
    context.set_cipher_list(CIPHERS.encode("ascii"))
    context.set_tls13_ciphersuites(SUITE.encode("ascii"))
    factory = ProxyFactory(HOST, int(upstream))
    factory.noisy = False
    reactor.listenSSL(int(listen), factory, contexts, 4096, HOST)
    reactor.run()


if __name__ == "__main__":
    main()
