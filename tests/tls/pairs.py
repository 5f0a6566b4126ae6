"""
Two ends of TLS on a pair of sockets, carried forward without waiting; and an authority with certificates for them.

The clock of the certificates is L{tests.tls.NOW}: contexts are told that it is this time.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from attrs import frozen
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.testing.certificates import NOW, Holder, write
from tlsproxy.tls.authority import Authority
from tlsproxy.tls.certificates import Identity
from tlsproxy.tls.contexts import ClientTLS, ServerTLS
from tlsproxy.tls.native import RECORD, Buffer, TLSStream
from tlsproxy.tls.policy import CertificateFiles, ClientPolicy, ServerPolicy

VERSIONS = {"1.2": "TLSv1.2", "1.3": "TLSv1.3"}
"""
The versions of the protocol: as policies spell them, and as OpenSSL does.
"""

DAYS = timedelta(days=90)


@frozen
class Met:
    """
    What one end met in a handshake.

    @ivar error: what the handshake raised, or C{None} where it was completed.
    @ivar alert: the alert that goes with it.
    @ivar told: what C{tell} made of the error.
    """

    error: Exception | None = None
    alert: tuple[int, bool] | None = None
    told: Any = None


def shake(
    server: TLSStream, client: TLSStream, tell: Callable[[TLSStream, Exception], Any] = lambda stream, error: None
) -> tuple[Met, Met]:
    """
    Carry a handshake forward until both ends have completed it, have failed, or wait for more.

    @param tell: is asked about each error, right after the call that raised it.

    @return: what the server and the client met. Whoever still waits has met L{SSL.WantReadError}.
    """
    met: dict[TLSStream, Met] = {}
    for _ in range(10):
        for stream in (client, server):
            if stream in met and not isinstance(met[stream].error, SSL.WantReadError):
                continue
            try:
                stream.handshake()
            except SSL.WantReadError as error:
                met[stream] = Met(error)
            except Exception as error:
                met[stream] = Met(error, stream.alert(), tell(stream, error))
            else:
                met[stream] = Met()
    return met[server], met[client]


class PairCase(SynchronousTestCase):
    """
    A test with an authority and pairs of TLS ends.

    @ivar socketOf: the socket under each of the ends.
    """

    def setUp(self) -> None:
        """
        Make an authority and a place for files.
        """
        self.socketOf: dict[TLSStream, socket.socket] = {}
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.authority = Authority.create("Test CA", lifetime=timedelta(days=365), now=NOW)
        self.anchor = write(str(self.folder / "ca.pem"), self.authority.pem())

    def sockets(self) -> tuple[socket.socket, socket.socket]:
        """
        Make two sockets that are connected with each other and wait for nothing.
        """
        pair = socket.socketpair()
        for each in pair:
            each.setblocking(False)
            self.addCleanup(each.close)
        return pair

    def keep(self, name: str, identity: Identity | Holder) -> CertificateFiles:
        """
        Write a chain and its key into one file.
        """
        if isinstance(identity, Holder):
            identity = Identity((identity.certificate,), identity.key)  # type: ignore[arg-type]
        parts = [each.public_bytes(Encoding.PEM) for each in identity.chain]
        parts.append(identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return CertificateFiles(write(str(self.folder / f"{name}.pem"), *parts))

    def issued(self, *names: str, authority: Authority | None = None, age: timedelta = timedelta(0)) -> Identity:
        """
        Issue a certificate for a server and a client with these names.

        @param authority: who issues it; the test's own if C{None}.
        @param age: how long ago.
        """
        return (authority or self.authority).issue(
            commonName="a test", names=names, server=True, client=True, lifetime=DAYS, now=NOW - age
        )

    def server(self, identity: Identity | Holder | None = None, **policy: Any) -> ServerTLS:
        """
        Make the server's side, with a certificate for C{shop.example} unless one is given.
        """
        files = self.keep("server", identity or self.issued("shop.example"))
        tls = ServerTLS.load(ServerPolicy(cert=files, **policy), now=NOW)
        self.atTestTime(tls.context)
        return tls

    def client(self, host: str = "shop.example", identity: Identity | Holder | None = None, **policy: Any) -> ClientTLS:
        """
        Make the client's side, which trusts the authority, and has a certificate if one is given.
        """
        if identity is not None:
            policy["cert"] = self.keep("client", identity)
        tls = ClientTLS.load(ClientPolicy(**{"ca": (self.anchor,), **policy}), host, now=NOW)
        self.atTestTime(tls.context)
        return tls

    def atTestTime(self, context: SSL.Context) -> None:
        """
        Have a context verify certificates at the time of the tests.
        """
        store = context.get_cert_store()
        assert store is not None
        store.set_time(NOW.replace(tzinfo=None))

    def ends(self, server: ServerTLS | None = None, client: ClientTLS | None = None) -> tuple[TLSStream, TLSStream]:
        """
        Connect a server's and a client's side, and leave the handshake to the test.
        """
        here, there = self.sockets()
        ends = (server or self.server()).connect(here), (client or self.client()).connect(there)
        self.socketOf.update(zip(ends, (here, there), strict=True))
        return ends

    def connected(
        self, server: ServerTLS | None = None, client: ClientTLS | None = None
    ) -> tuple[TLSStream, TLSStream]:
        """
        Connect a server's and a client's side, and complete the handshake, tickets included.
        """
        ends = self.ends(server, client)
        for met in shake(*ends):
            if met.error is not None:
                raise met.error
        self.assertEqual(take(ends[1]), b"")
        return ends


def take(stream: TLSStream) -> bytes:
    """
    Take all that is there for a stream.
    """
    buffer = Buffer(4 * RECORD)
    taken = b""
    while True:
        count = stream.fill(buffer)
        if not count:
            return taken
        taken += buffer.view[:count]


def choke(sock: socket.socket) -> int:
    """
    Fill a socket behind the back of the TLS on it, so that it takes nothing more.

    @return: how many bytes that took; L{relieve} takes as many away.
    """
    count = 0
    for piece in (bytes(1 << 16), bytes(1)):
        try:
            while True:
                count += sock.send(piece)
        except BlockingIOError:
            pass
    return count


def relieve(sock: socket.socket, count: int) -> None:
    """
    Take away what L{choke} has sent, at the other end and no byte more.
    """
    while count:
        count -= len(sock.recv(count))
