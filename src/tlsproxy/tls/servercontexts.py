# -*- test-case-name: tests.tls.test_servercontexts -*-
"""
The contexts of a route toward its clients: each made when it is first asked for, and the latest of them kept.

A context takes a hundred times the memory of a certificate, so a route with thousands of certificates has contexts only
for those that clients ask for.

A session that a client resumes is in its ticket, and the key of that is with the context that a connection was made
with.  That is always the first one here, so a context that was dropped and made again still knows its clients; what is
shown comes from the context that the connection is then switched to.  Each choice of certificates has a session id
context of its own, by which OpenSSL tells tickets apart, so that none is of use where another certificate is shown.
"""

from __future__ import annotations

import socket
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import Final, TypeVar

from cryptography.hazmat.primitives.hashes import SHA256
from OpenSSL import SSL

from tlsproxy.tls.native import TLSConnection
from tlsproxy.tls.servernames import Choice

__all__ = ["MOST_CONTEXTS", "ServerContexts"]

S = TypeVar("S", bound=TLSConnection)

MOST_CONTEXTS: Final = 1000
"""How many contexts a route keeps; each takes some 25 KiB."""


class ServerContexts:
    """
    The contexts of a route.

    @ivar first: the context of the first choice.
    """

    def __init__(
        self, make: Callable[[Choice], SSL.Context], first: Choice, resumes: bool, most: int = MOST_CONTEXTS
    ) -> None:
        """
        @param make: makes a context.
        @param first: the choice of those who ask for no name.
        @param resumes: whether sessions are resumed.
        @param most: how many contexts are kept beside the first.
        """
        self._make = make
        self._choice = first
        self._resumes = resumes
        self._most = most
        self._kept: OrderedDict[Choice, SSL.Context] = OrderedDict()
        self.first = self._made(first)

    def _made(self, choice: Choice) -> SSL.Context:
        context = self._make(choice)
        shown = b"".join(identity.chain[0].fingerprint(SHA256()) for identity in choice.identities)
        # It is set where nothing is resumed, too, as OpenSSL else fails a client that tries.
        context.set_session_id(sha256(shown).digest())
        return context

    def get(self, choice: Choice) -> SSL.Context:
        """
        Give the context of a choice.

        @raise CertificateProblem: if OpenSSL does not take one of its certificates.
        """
        if choice is self._choice:
            return self.first
        context = self._kept.get(choice)
        if context is None:
            context = self._kept[choice] = self._made(choice)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(choice)
        return context

    def connect(self, sock: socket.socket, choice: Choice, kind: Callable[[SSL.Context, socket.socket, bool], S]) -> S:
        """
        Start the server's side of TLS on a connected socket.

        @param kind: how TLS is run there, L{TLSStream<tlsproxy.tls.native.TLSStream>} say.
        @raise CertificateProblem: as L{get}.
        """
        context = self.get(choice)
        if context is self.first or not self._resumes:
            return kind(context, sock, True)
        stream = kind(self.first, sock, True)
        stream.connection.set_context(context)
        return stream
