"""
Handshakes of two OpenSSLs with each other, in memory, and what passes between them; and such flights made to order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from OpenSSL import SSL, crypto

from tests.wire.clienthellos import numbers, vector
from tlsproxy.interfaces import INWARD, OUTWARD, Way
from tlsproxy.testing.certificates import Holder, certify
from tlsproxy.wire.innertls import InnerTLS

Flight = tuple[Way, bytes]
"""Who sends, and what."""

RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""The random of a HelloRetryRequest, RFC 8446 section 4.1.3."""


@lru_cache
def holder() -> Holder:
    """
    Make the certificate of all who need one.
    """
    return certify("shop.example")


class Pair:
    """
    A client and a server in memory, and what passed between them.

    @ivar flights: What passed, in the order sent.
    """

    def __init__(
        self,
        version: int,
        *,
        suites: bytes = b"",
        group: str = "",
        tickets: bool = True,
        asks: bool = False,
    ) -> None:
        """
        @param version: The highest TLS version that the server knows.
        @param suites: The cipher suites of TLS 1.2 that the client offers, as OpenSSL names them.
        @param group: The only group that the server takes; any if empty.
        @param asks: Whether the server asks for a certificate of the client.
        """
        self.server = SSL.Context(SSL.TLS_METHOD)
        self.client = SSL.Context(SSL.TLS_METHOD)
        self.server.set_max_proto_version(version)
        self.server.set_session_id(b"tests")
        for context in (self.server, self.client):
            context.use_certificate(holder().certificate)
            context.use_privatekey(holder().key)  # type: ignore[arg-type]
        if suites:
            self.client.set_cipher_list(suites)
            self.server.set_cipher_list(suites)
        if group:
            self.server.set_tmp_ecdh(crypto.get_elliptic_curve(group))
        if not tickets:
            self.server.set_options(SSL.OP_NO_TICKET)
        if asks:
            self.server.set_verify(SSL.VERIFY_PEER, lambda *_: True)
        self.flights: list[Flight] = []
        self.last: SSL.Connection | None = None

    def shake(self, session: SSL.Session | None = None) -> SSL.Session:
        """
        Have them shake hands, and send a little each way.

        @param session: What the client resumes.
        @return: The client's session.
        """
        self.flights = []
        client, server = SSL.Connection(self.client, None), SSL.Connection(self.server, None)
        client.set_tlsext_host_name(b"shop.example")
        client.set_connect_state()
        server.set_accept_state()
        if session is not None:
            client.set_session(session)
        ways: list[tuple[Way, SSL.Connection, SSL.Connection]] = [(OUTWARD, client, server), (INWARD, server, client)]
        for _ in range(5):
            for way, end, other in ways:
                try:
                    end.do_handshake()
                except SSL.WantReadError:
                    pass
                self._carry(way, end, other)
        for way, end, other in ways:
            end.send(b"hello")
            self._carry(way, end, other)
            assert other.recv(100) == b"hello"
        self.last = client
        found = client.get_session()
        assert found is not None
        return found

    def _carry(self, way: Way, end: SSL.Connection, other: SSL.Connection) -> None:
        try:
            data = end.bio_read(1 << 20)
        except SSL.WantReadError:
            return
        self.flights.append((way, data))
        other.bio_write(data)


def records(wire: bytes) -> Iterator[bytes]:
    """
    Take a flight apart into its records.
    """
    while wire:
        end = 5 + int.from_bytes(wire[3:5], "big")
        yield wire[:end]
        wire = wire[end:]


def record(kind: int, content: bytes, version: int = 0x0303) -> bytes:
    """
    Make a record.
    """
    return bytes([kind]) + numbers([version]) + vector(2, content)


CCS = record(20, b"\1")


def message(kind: int, content: bytes = b"") -> bytes:
    """
    Make a handshake message, without its record.
    """
    return bytes([kind]) + vector(3, content)


def serverHello(
    *,
    suite: int = 0x1301,
    version: int | None = 0x0304,
    legacyVersion: int = 0x0303,
    random: bytes = bytes(range(32)),
    sessionID: bytes = b"",
    group: int | None = 29,
    extensions: Sequence[tuple[int, bytes]] = (),
    compression: int = 0,
) -> bytes:
    """
    Make the handshake message of a ServerHello, without its record; of a HelloRetryRequest if its random is C{RETRY}.

    @param version: In the extension supported_versions, L{None} for no such extension.
    @param group: Of the key share, L{None} for none.
    @param extensions: More of them.
    """
    found = [*extensions]
    if version is not None:
        found.append((43, numbers([version])))
    if group is not None:
        found.append((51, numbers([group]) + (b"" if random == RETRY else vector(2, bytes(32)))))
    block = b"".join(numbers([kind]) + vector(2, content) for kind, content in found)
    body = numbers([legacyVersion]) + random + vector(1, sessionID) + numbers([suite]) + bytes([compression])
    return message(2, body + vector(2, block))


def stepAll(inner: InnerTLS, way: Way, data: bytes) -> list[int]:
    """
    Have all bytes of a flight taken.

    @return: How many were at each step.
    """
    taken = []
    while data:
        taken.append(inner.step(way, data))
        data = data[taken[-1] :]
    return taken
