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

from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives.hashes import SHA256
from OpenSSL import SSL

from tlsproxy.tls.datagrams import believeCookies
from tlsproxy.tls.native import TLSConnection, shareTrust
from tlsproxy.tls.parameters import chooseALPN, contextFor
from tlsproxy.tls.policy import ServerPolicy
from tlsproxy.tls.presenting import present
from tlsproxy.tls.servernames import Choice
from tlsproxy.tls.verification import Verification

__all__ = ["MOST_CONTEXTS", "ServerContexts", "contextsOf"]

S = TypeVar("S", bound=TLSConnection)
W = TypeVar("W")

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

    def connect(self, sock: W, choice: Choice, kind: Callable[[SSL.Context, W, bool], S]) -> S:
        """
        Start the server's side of TLS on a connected socket.

        @param sock: the socket, or whatever C{kind} runs on.
        @param kind: how TLS is run there, L{TLSStream<tlsproxy.tls.native.TLSStream>} say.
        @raise CertificateProblem: as L{get}.
        """
        context = self.get(choice)
        if context is self.first or not self._resumes:
            return kind(context, sock, True)
        stream = kind(self.first, sock, True)
        stream.connection.set_context(context)
        return stream


def _mirror(connection: SSL.Connection, theirs: list[bytes]) -> Any:
    """
    Choose the application protocol that the upstream has chosen.
    """
    own = connection.get_app_data()
    if own is None or not own.protocols:
        return SSL.NO_OVERLAPPING_PROTOCOLS
    return chooseALPN(own.protocols)(connection, theirs)


def contextsOf(method: int, policy: ServerPolicy, first: Choice, verification: Verification | None) -> ServerContexts:
    """
    Make the contexts of a server.

    @param method: With TLS or with DTLS.
    @param first: What is shown to those who ask for no name.
    @param verification: What the certificates of clients have to be; L{None} where none are asked for.
    """
    choose = _mirror if policy.mirrors else chooseALPN([protocol.encode() for protocol in policy.alpn])
    trusting: SSL.Context | None = None

    def make(choice: Choice) -> SSL.Context:
        nonlocal trusting
        context = contextFor(method, policy)
        present(context, choice.identities)
        if method == SSL.DTLS_SERVER_METHOD:
            believeCookies(context)
        if policy.alpn:
            context.set_alpn_select_callback(choose)
        if verification is not None:
            if trusting is None:
                verification.trust(context)
                trusting = context
            else:
                shareTrust(context, trusting)
            verification.apply(context)
            for authority in verification.authorities:
                context.add_client_ca(authority)
            # A resumed session would escape a changed CA, list or rule.  Without tickets, and with the cache off, there
            # is none.
            context.set_options(SSL.OP_NO_TICKET)
        return context

    return ServerContexts(make, first, resumes=verification is None)
