# -*- test-case-name: tests.testing.test_streampeers -*-
"""
The other ends of connections in tests: they write what they are told, remember what they got, and tell how it ended.

The TLS of a peer runs on memory and not on the socket, so a test can cut and join its bytes as it likes.
"""

from __future__ import annotations

import functools
import socket
import struct
import warnings
from collections.abc import Sequence
from typing import Any, Final

from OpenSSL import SSL

from tlsproxy.testing.certificates import certificate, certify
from tlsproxy.tls.certificates import Identity

__all__ = ["Browser", "Origin", "Peer", "TLSPeer"]

_VERSIONS: Final = {"TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}


class Peer:
    """
    A plain peer.

    @ivar received: What it got.
    @ivar heard: How much of that was taken, see L{take}.
    @ivar ended: How its stream ended: C{"end"}, C{"truncated"}, C{"reset"} or C{"failed"}; C{""} while it has not.
    @ivar reading: Whether it reads.
    @ivar step: The most bytes it sends and reads at a time.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.received = bytearray()
        self.heard = 0
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

    def unheard(self) -> bytes:
        """
        Tell what came and was not taken yet.
        """
        return bytes(self.received[self.heard :])

    def take(self, most: int | None = None) -> bytes:
        """
        Take what came since this was last called.

        @param most: How many bytes at most; the rest is for the next time.
        """
        taken = self.unheard()[:most]
        self.heard += len(taken)
        return taken

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
        if self._fin and not self.unsent and not self._pending():
            self._fin = False
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # Reading tells.
            return True
        return count > 0

    def _pending(self) -> bool:
        """
        Tell whether something is to be sent before the end that cannot be sent yet.
        """
        return False

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

    @ivar clear: Whether it has not begun with TLS: it speaks in clear until L{startTLS}.
    @ivar plain: What came behind the other side's close_notify.
    @ivar told: Whether a close_notify came.
    @ivar ready: Whether the handshake is done.
    """

    def __init__(
        self, sock: socket.socket, version: str, server: bool, clear: bool = False, context: SSL.Context | None = None
    ) -> None:
        """
        @param sock: Its socket.
        @param version: The only version it speaks: C{"TLSv1.2"} or C{"TLSv1.3"}.
        @param server: Whether it is the server of the handshake.
        @param clear: Whether to begin in clear.
        @param context: Its TLS; L{None} for one with a certificate that nobody trusts.
        """
        super().__init__(sock)
        self.connection = SSL.Connection(_context(version, server) if context is None else context, None)
        if server:
            self.connection.set_accept_state()
        else:
            self.connection.set_connect_state()
        self.clear = clear
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
        if not self.clear and not self.ready and not self.ended and self.socket.fileno() >= 0:
            self._handshake()
        return super().pump()

    def startTLS(self) -> None:
        """
        Begin with TLS, behind what was said in clear.  Bytes that came and were not taken by L{take} belong to it.
        """
        early = self.unheard()
        del self.received[self.heard :]
        self.clear = False
        self._handshake()
        if early:
            self._got(early)

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
        Send something: inside TLS, unless it has not begun.
        """
        if self.clear:
            self.unsent += data
            return
        self._waiting += data
        if self.ready:
            if self._waiting:
                self.connection.sendall(bytes(self._waiting))
                self._waiting.clear()
            if self._ending:
                self._ending = False
                self.connection.shutdown()
            self._flush()

    def _pending(self) -> bool:
        return not self.ended and not self.ready and bool(self._waiting or self._ending)

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
        Send close_notify, if TLS has begun, and a FIN.
        """
        if not self.clear:
            self.endTLS()
        self.cut()

    def _got(self, data: bytes) -> None:
        if self.clear:
            super()._got(data)
            return
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


class Browser(TLSPeer):
    """
    A client that speaks TLS, and believes whatever certificate it is shown.
    """

    def __init__(
        self,
        sock: Any,
        serverName: str = "shop.example",
        alpn: Sequence[bytes] = (),
        identity: Identity | None = None,
        version: str = "TLSv1.3",
        clear: bool = False,
    ) -> None:
        """
        @param sock: Its socket.
        @param serverName: Whom it asks for; C{""} for nobody.
        @param alpn: The application protocols that it offers.
        @param identity: What it shows if it is asked for a certificate, see L{certificate}.
        @param version: The only version it speaks: C{"TLSv1.2"} or C{"TLSv1.3"}.
        @param clear: Whether to begin in clear, see L{TLSPeer.startTLS}.
        """
        super().__init__(sock, version, server=False, clear=clear)
        if serverName:
            self.connection.set_tlsext_host_name(serverName.encode())
        if alpn:
            self.connection.set_alpn_protos(list(alpn))
        if identity is not None:
            self.connection.use_certificate(identity.chain[0])
            self.connection.use_privatekey(identity.key)


class Origin(TLSPeer):
    """
    An upstream that speaks TLS.
    """

    def __init__(
        self,
        sock: Any,
        alpn: bytes = b"",
        name: str = "upstream.example",
        version: str = "TLSv1.3",
        clear: bool = False,
    ) -> None:
        """
        @param sock: Its socket.
        @param alpn: The one application protocol it speaks; C{b""} if it knows of none.
        @param name: The name that its certificate is for, one of the authority that our side trusts.
        @param version: The only version it speaks: C{"TLSv1.2"} or C{"TLSv1.3"}.
        @param clear: Whether to begin in clear, see L{TLSPeer.startTLS}.
        """
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(_VERSIONS[version])
        context.set_max_proto_version(_VERSIONS[version])
        identity = certificate("upstream", name)
        context.use_certificate(identity.chain[0])
        context.use_privatekey(identity.key)
        if alpn:
            context.set_alpn_select_callback(
                lambda _, offered: alpn if alpn in offered else SSL.NO_OVERLAPPING_PROTOCOLS
            )
        super().__init__(sock, version, server=True, clear=clear, context=context)
