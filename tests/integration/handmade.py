# -*- test-case-name: tests.integration.test_sequential_precedents -*-
"""
Tunnels of sequential connect that a test makes by hand, record by record, and the bytes of an inner TLS to put there.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.innertls import records
from tests.integration.running import PATIENCE
from tests.integration.stdlibheads import readOuterHead
from tests.integration.stdlibouter import RecordOuter

SUITE = 76
"""Where a ServerHello's suite stands in its record, behind an echoed session id of 32 bytes."""


class InnerBytes:
    """
    What a client and a server say to each other.

    @ivar hello: The client's first flight.
    @ivar serverHello: The server's first record.
    @ivar rest: What the server says right after that.
    @ivar finished: The client's second flight.
    """

    def __init__(self, certificate: Path, version: str = "1.3", name: str = "localhost") -> None:
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(certificate)
        server.maximum_version = ssl.TLSVersion.TLSv1_3 if version == "1.3" else ssl.TLSVersion.TLSv1_2
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        near = client.wrap_bio(down, up, server_hostname=name or None)
        far = server.wrap_bio(up, down, server_side=True)
        flights = []
        for _ in range(2):
            for side, out in ((near, up), (far, down)):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    pass
                flights.append(out.read())
                (up if out is up else down).write(flights[-1])
        self.hello, answer, self.finished, self.last = flights
        self.serverHello = next(records(answer))
        self.rest = answer[len(self.serverHello) :]


def data(size: int, seed: int = 0) -> bytes:
    """
    Make a record of data, as they look in TLS 1.3.
    """
    return b"\x17\x03\x03" + size.to_bytes(2, "big") + bytes((seed + n * 7) % 251 for n in range(size))


class Collected:
    """
    In the place of a socket, keeps what is sent, and sends it when told.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.kept = b""

    def sendall(self, more: bytes) -> None:
        """
        Keep it.
        """
        self.kept += more

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class Hand:
    """
    One side of the TLS between two proxies.

    @ivar outer: It.
    @ivar answer: The head that the other side has sent.
    """

    def __init__(self, sock: socket.socket, outer: RecordOuter) -> None:
        self.sock, self.outer, self.answer = sock, outer, b""

    def send(self, *more: bytes) -> None:
        """
        Send inside TLS, each in a record of its own.
        """
        for one in more:
            self.outer.send(one)

    def plain(self, *more: bytes) -> None:
        """
        Send without TLS.
        """
        self.sock.sendall(b"".join(more))

    def endWrite(self) -> None:
        """
        Send close_notify.
        """
        self.outer.endWrite()

    def together(self, inside: bytes, plain: bytes, step: int = 0) -> None:
        """
        Send bytes inside TLS, close_notify, and bytes in plain.

        @param step: In pieces of how many bytes; all at once if 0.
        """
        collected = Collected(self.sock)
        self.outer.sock = collected  # type: ignore[assignment]
        if inside:
            self.outer.send(inside)
        self.outer.endWrite()
        self.outer.sock = self.sock
        whole = collected.kept + plain
        for piece in (whole[at : at + step] for at in range(0, len(whole), step)) if step else [whole]:
            self.sock.sendall(piece)

    def read(self, count: int) -> bytes:
        """
        Read so many bytes inside TLS.
        """
        got = b""
        while len(got) < count:
            more = self.outer.recv()
            assert more != b"", f"TLS ended after {len(got)} of {count} bytes"
            got += more or b""
        assert len(got) == count, f"{len(got) - count} bytes too many"
        return got

    def readEnd(self) -> None:
        """
        Read close_notify.
        """
        while (more := self.outer.recv()) is None:
            pass
        assert more == b"", f"{len(more)} bytes before the end"

    def silent(self, seconds: float = 0.2) -> bool:
        """
        Tell whether nothing comes.
        """
        self.sock.settimeout(seconds)
        try:
            return not self.sock.recv(1, socket.MSG_PEEK) and False
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(PATIENCE)

    def readPlain(self, count: int) -> bytes:
        """
        Read so many bytes without TLS.
        """
        return b"".join(self._pieces(count))

    def _pieces(self, count: int) -> Iterator[bytes]:
        while count and (more := self.sock.recv(count)):
            count -= len(more)
            yield more

    def readAll(self) -> bytes:
        """
        Read to the end, however that comes.
        """
        got = b""
        try:
            while more := self.sock.recv(65536):
                got += more
        except TimeoutError:
            raise AssertionError(f"no end after {got[:100]!r}") from None
        except OSError:
            pass
        return got


def ask(
    case: SynchronousTestCase, port: int, context: ssl.SSLContext, target: str, wishes: str = "handshake, none"
) -> Hand:
    """
    Be a client proxy: ask a reverse proxy for a tunnel.

    @param port: Its port.
    """
    sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
    case.addCleanup(sock.close)
    hand = Hand(sock, RecordOuter(sock, context, False, "localhost"))
    more = f"Connection: TLS-Downgrade\r\nTLS-Downgrade: {wishes}\r\n" if wishes else ""
    hand.send(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{more}\r\n".encode())
    hand.answer, rest = readOuterHead(hand.outer)
    assert not rest, rest
    return hand


def grant(case: SynchronousTestCase, sock: socket.socket, context: ssl.SSLContext, value: str = "handshake") -> Hand:
    """
    Be a reverse proxy: grant a tunnel to a client proxy.

    @param sock: Its connection.
    """
    sock.settimeout(PATIENCE)
    case.addCleanup(sock.close)
    hand = Hand(sock, RecordOuter(sock, context, True))
    hand.answer, rest = readOuterHead(hand.outer)
    assert not rest, rest
    more = f"Connection: TLS-Downgrade\r\nTLS-Downgrade: {value}\r\n" if value else ""
    hand.send(f"HTTP/1.1 200 Connection established\r\n{more}\r\n".encode())
    return hand
