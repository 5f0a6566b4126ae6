# -*- test-case-name: tests.test_relay_pairings -*-
"""
The other ends of connections in tests: they write what they are told, remember what they got, and tell how it ended.

The TLS of a peer runs on memory and not on the socket, so a test can cut and join its bytes as it likes.
"""

from __future__ import annotations

import functools
import socket
import struct
import warnings
from typing import Final

from OpenSSL import SSL

from tests.tls import certify

__all__ = ["Peer", "TLSPeer"]

_VERSIONS: Final = {"TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}


class Peer:
    """
    A plain peer.

    @ivar received: What it got.
    @ivar ended: How its stream ended: C{"end"}, C{"truncated"}, C{"reset"} or C{"failed"}; C{""} while it has not.
    @ivar reading: Whether it reads.
    @ivar step: The most bytes it sends and reads at a time.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.received = bytearray()
        self.ended = ""
        self.reading = True
        self.step = 65536
        self.unsent = bytearray()
        self._fin = False
        self._refused = False

    def write(self, data: bytes) -> None:
        """
        Send something, as far as the socket takes it.
        """
        self.unsent += data

    def end(self) -> None:
        """
        End its direction as it should be ended.
        """
        self.cut()

    def cut(self) -> None:
        """
        Send a FIN behind what is written, and nothing else.
        """
        self._fin = True

    def close(self) -> None:
        """
        Close the socket.
        """
        self.socket.close()
        self.unsent.clear()
        self.ended = self.ended or "closed"

    def reset(self) -> None:
        """
        Reset the connection.  A Unix socket does so if it holds bytes that were not read.
        """
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def pump(self) -> bool:
        """
        Send and read what the socket lets.

        @return: Whether anything happened.
        """
        if self.socket.fileno() < 0:
            return False
        sent = self._send()
        return self._read() or sent

    def _send(self) -> bool:
        try:
            count = self.socket.send(self.unsent[: self.step]) if self.unsent else 0
        except BlockingIOError:
            return False
        except OSError as e:
            self._refused = isinstance(e, ConnectionResetError)
            self.unsent.clear()
            return True
        del self.unsent[:count]
        if self._fin and not self.unsent:
            self._fin = False
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # Reading tells.
            return True
        return count > 0

    def _read(self) -> bool:
        if not self.reading or self.ended:
            return False
        try:
            data = self.socket.recv(self.step)
        except BlockingIOError:
            return False
        except OSError:
            self.ended = "reset"
            return True
        if self._refused and not data:
            self.ended = "reset"  # The kernel tells of a reset once, and to whoever comes first.
            return True
        self._got(data)
        return True

    def _got(self, data: bytes) -> None:
        if data:
            self.received += data
        else:
            self.ended = "end"


@functools.cache
def _context(version: str, server: bool) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD if server else SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(_VERSIONS[version])
    context.set_max_proto_version(_VERSIONS[version])
    if server:
        holder = certify("peer")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            context.use_certificate(holder.certificate)
            context.use_privatekey(holder.key)  # type: ignore[arg-type]
    return context


class TLSPeer(Peer):
    """
    A TLS peer.

    @ivar plain: What came behind the other side's close_notify.
    @ivar told: Whether a close_notify came.
    @ivar ready: Whether the handshake is done.
    """

    def __init__(self, sock: socket.socket, version: str, server: bool) -> None:
        super().__init__(sock)
        self.connection = SSL.Connection(_context(version, server), None)
        if server:
            self.connection.set_accept_state()
        else:
            self.connection.set_connect_state()
        self.ready = False
        self.told = False
        self.plain = bytearray()
        self._waiting = bytearray()
        self._raw = bytearray()
        self._ending = False

    def pump(self) -> bool:
        """
        As L{Peer.pump}, and the handshake first.
        """
        if not self.ready and not self.ended and self.socket.fileno() >= 0:
            self._handshake()
        return super().pump()

    def _handshake(self) -> None:
        try:
            self.connection.do_handshake()
        except SSL.WantReadError:
            pass
        except SSL.Error:
            self.ended = "failed"
        else:
            self.ready = True
            self.write(b"")
        self._flush()

    def _flush(self) -> None:
        try:
            while True:
                self.unsent += self.connection.bio_read(65536)
        except SSL.WantReadError:
            pass

    def write(self, data: bytes) -> None:
        """
        Send something inside TLS.
        """
        self._waiting += data
        if self.ready:
            if self._waiting:
                self.connection.sendall(bytes(self._waiting))
                self._waiting.clear()
            if self._ending:
                self._ending = False
                self.connection.shutdown()
            self._flush()

    def endTLS(self) -> None:
        """
        Send close_notify, and no FIN.
        """
        self._ending = True
        self.write(b"")

    def writePlain(self, data: bytes) -> None:
        """
        Send something outside of TLS, right behind what was written before.
        """
        self._flush()
        self.unsent += data

    def end(self) -> None:
        """
        Send close_notify and a FIN.
        """
        self.endTLS()
        self.cut()

    def _got(self, data: bytes) -> None:
        if self.told:
            self.plain += data
            if not data:
                self.ended = "end"
            return
        if not data:
            self.ended = "truncated"
            return
        self._raw += data
        while self._takeRecord():
            pass

    def _takeRecord(self) -> bool:
        """
        Give one whole record to OpenSSL, or what comes behind the last one to nobody.

        @return: Whether there may be another.
        """
        length = 5 + int.from_bytes(self._raw[3:5], "big")
        if self.ended or len(self._raw) < max(length, 5):
            return False
        self.connection.bio_write(bytes(self._raw[:length]))
        del self._raw[:length]
        self._digest()
        if self.told:
            self.plain += self._raw
            self._raw.clear()
        return not self.told

    def _digest(self) -> None:
        """
        Decrypt the record that came.
        """
        if not self.ready:
            self._handshake()
            if not self.ready:
                return
        try:
            while True:
                self.received += self.connection.recv(65536)
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.told = True
        except SSL.Error:
            self.ended = "failed"
        self._flush()
