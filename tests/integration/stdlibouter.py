# -*- test-case-name: tests.integration.test_sequential_stdlib -*-
"""
TLS that can be taken off again, by Python's own C{ssl}, in two ways.
"""

from __future__ import annotations

import os
import socket
import ssl
from typing import Any, Protocol

PATIENCE = 4.0
"""Seconds after which a peer is held to be gone."""


class Cut(Exception):
    """
    The TCP stream has ended, and the TLS in it has not.
    """


class Outer(Protocol):
    """
    A TLS connection that can be taken off.

    @ivar sock: The socket, for all that comes in plain.
    """

    sock: socket.socket

    def agreed(self) -> str:
        """
        The application protocol; empty for none.
        """

    def peer(self) -> str:
        """
        The common name of the peer's certificate.
        """

    def recv(self) -> bytes | None:
        """
        Read what comes next.

        @return: Nothing (C{b""}) at the peer's close_notify; L{None} where what came was no data.
        @raise Cut: The end came without.
        """

    def send(self, data: bytes) -> None:
        """
        Send all of something.
        """

    def endWrite(self) -> bool:
        """
        Send close_notify.

        @return: Whether the peer's was read as well.
        """

    def pending(self) -> bool:
        """
        Whether something has been read that L{recv} has not yet given.
        """

    def under(self) -> socket.socket:
        """
        The socket under the TLS.
        """

    def close(self) -> None:
        """
        Close the connection.
        """


def _commonName(certificate: Any) -> str:
    return "".join(value for part in certificate["subject"] for key, value in part if key == "commonName")


class SocketOuter:
    """
    C{SSLSocket.unwrap()}: it sends close_notify and waits for the peer's, which has to be the next record.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server: bool, name: str = "") -> None:
        self.tls: ssl.SSLSocket = context.wrap_socket(
            sock, server_side=server, server_hostname=name or None, suppress_ragged_eofs=False
        )
        # C{wrap_socket} takes the descriptor over, and C{unwrap} returns the same object.
        self.sock: socket.socket = self.tls
        self._under: socket.socket | None = None

    def agreed(self) -> str:
        """
        See L{Outer}.
        """
        return self.tls.selected_alpn_protocol() or ""

    def peer(self) -> str:
        """
        See L{Outer}.
        """
        return _commonName(self.tls.getpeercert())

    def recv(self) -> bytes | None:
        """
        See L{Outer}.
        """
        try:
            return self.tls.recv(65536)
        except ssl.SSLZeroReturnError:
            return b""
        except ssl.SSLEOFError as e:
            raise Cut from e

    def send(self, data: bytes) -> None:
        """
        See L{Outer}.
        """
        self.tls.sendall(data)

    def endWrite(self) -> bool:
        """
        See L{Outer}.
        """
        self.sock = self.tls.unwrap()
        return True

    def pending(self) -> bool:
        """
        See L{Outer}.
        """
        return self.tls.pending() > 0

    def under(self) -> socket.socket:
        """
        See L{Outer}.
        """
        if self._under is None:
            self._under = socket.socket(fileno=os.dup(self.sock.fileno()))
        return self._under

    def close(self) -> None:
        """
        See L{Outer}.
        """
        self.sock.close()
        if self._under is not None:
            self._under.close()


class RecordOuter:
    """
    C{SSLObject.unwrap()}: the library is fed one record at a time, so that it can never have what comes after the last.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server: bool, name: str = "") -> None:
        self.sock = sock
        self._into, self._outOf = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._into, self._outOf, server_side=server, server_hostname=name or None)
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._feed()
            except ssl.SSLError:
                self._flush()
                raise
            else:
                self._flush()
                break

    def _flush(self) -> None:
        if data := self._outOf.read():
            self.sock.sendall(data)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.sock.recv(count - len(data))
            if not more:
                raise Cut
            data += more
        return data

    def _feed(self) -> None:
        head = self._exactly(5)
        if not 20 <= head[0] <= 23 or head[1] != 3:
            raise Cut(f"no TLS record: {head!r}")
        self._into.write(head + self._exactly(int.from_bytes(head[3:], "big")))

    def agreed(self) -> str:
        """
        See L{Outer}.
        """
        return self.tls.selected_alpn_protocol() or ""

    def peer(self) -> str:
        """
        See L{Outer}.
        """
        return _commonName(self.tls.getpeercert())

    def recv(self) -> bytes | None:
        """
        See L{Outer}.
        """
        for last in (False, True):
            try:
                return self.tls.read(65536)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLWantReadError:
                self._flush()
                if not last:
                    self._feed()
        return None

    def send(self, data: bytes) -> None:
        """
        See L{Outer}.
        """
        while data:
            data = data[self.tls.write(data[:16384]) :]
            self._flush()

    def endWrite(self) -> bool:
        """
        See L{Outer}.
        """
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            return False
        else:
            return True
        finally:
            self._flush()

    def pending(self) -> bool:
        """
        See L{Outer}.
        """
        return self.tls.pending() > 0

    def under(self) -> socket.socket:
        """
        See L{Outer}.
        """
        return self.sock

    def close(self) -> None:
        """
        See L{Outer}.
        """
        self.sock.close()
