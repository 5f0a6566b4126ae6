# -*- test-case-name: tests.integration -*-
"""
Peers whose every move a test decides: clients and servers, in plain and in TLS, that end in all the ways there are.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from tests.integration.running import PATIENCE, waitUntil
from tlsproxy.wire.connect import ESTABLISHED

VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}


def tlsContext(
    role: int,
    version: str = "",
    certificate: Path | None = None,
    ca: Path | None = None,
    alpn: Sequence[bytes] = (),
) -> SSL.Context:
    """
    Make a context for a L{Talker}.

    @param role: C{SSL.TLS_SERVER_METHOD} or C{SSL.TLS_CLIENT_METHOD}.
    @param version: The one version to speak; empty for any.
    @param certificate: A file with chain and key to show.
    @param ca: Whom to trust; a server with this demands a certificate.
    @param alpn: The application protocols to offer, or for a server to choose from.
    """
    context = SSL.Context(role)
    if version:
        context.set_min_proto_version(VERSIONS[version])
        context.set_max_proto_version(VERSIONS[version])
    if certificate is not None:
        context.use_certificate_chain_file(str(certificate))
        context.use_privatekey_file(str(certificate))
    if ca is not None:
        context.load_verify_locations(str(ca))
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, None)
    if alpn and role == SSL.TLS_CLIENT_METHOD:
        context.set_alpn_protos(list(alpn))
    elif alpn:
        context.set_alpn_select_callback(
            lambda _, offered: next((one for one in alpn if one in offered), SSL.NO_OVERLAPPING_PROTOCOLS)
        )
    return context


def serverContext(certificate: Path, version: str = "", **more: Any) -> SSL.Context:
    """
    Make a server's context.
    """
    return tlsContext(SSL.TLS_SERVER_METHOD, version, certificate, **more)


def clientContext(ca: Path | None = None, version: str = "", **more: Any) -> SSL.Context:
    """
    Make a client's context.
    """
    return tlsContext(SSL.TLS_CLIENT_METHOD, version, ca=ca, **more)


class Talker:
    """
    One side of a connection.

    All calls block; the guard of the test bounds them.

    @ivar socket: Its socket.
    @ivar tls: Its TLS, if it has any.
    @ivar how: How the peer's direction ended, once it has: C{"ended"}, C{"truncated"} or C{"reset"}.
    """

    def __init__(
        self, sock: socket.socket, context: SSL.Context | None = None, server: bool = False, name: str = "localhost"
    ) -> None:
        sock.settimeout(None)
        # What waits for ever would keep a thread.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(PATIENCE), 0))
        self.socket = sock
        self.how = ""
        self.tls: SSL.Connection | None = None
        if context is not None:
            self.startTLS(context, server, name)

    def startTLS(self, context: SSL.Context, server: bool = False, name: str = "localhost") -> None:
        """
        Speak TLS from now on.
        """
        self.tls = tls = SSL.Connection(context, self.socket)
        if server:
            tls.set_accept_state()
        else:
            tls.set_connect_state()
            if name:
                tls.set_tlsext_host_name(name.encode("ascii"))
        tls.do_handshake()

    def askTunnel(self, port: int) -> None:
        """
        Ask for a tunnel to a port of loopback, and read that it stands.
        """
        self.requestTunnel(port)
        self.readEstablished()

    def requestTunnel(self, port: int) -> None:
        """
        Ask for a tunnel to a port of loopback.
        """
        self.send(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % (port, port))

    def readEstablished(self) -> None:
        """
        Read that the tunnel stands.
        """
        answer = self.read(len(ESTABLISHED))
        assert answer == ESTABLISHED, answer + self.readAll()

    def send(self, data: bytes) -> None:
        """
        Send all of something.
        """
        (self.socket if self.tls is None else self.tls).sendall(data)

    def recv(self, limit: int = 65536) -> bytes:
        """
        Read some.

        @return: At least one byte, or none at the end; C{how} tells which it is.
        """
        try:
            data = bytes((self.socket if self.tls is None else self.tls).recv(limit))
        except SSL.ZeroReturnError:
            self.how = "ended"
        except ConnectionResetError:
            self.how = "reset"
        except SSL.SysCallError as e:
            self.how = "truncated" if e.args[0] == -1 else "reset"
        except SSL.WantReadError:
            raise AssertionError("nothing came") from None
        except SSL.Error as e:
            if "unexpected eof while reading" not in str(e):
                raise
            self.how = "truncated"
        else:
            if not data:
                self.how = "ended"
            return data
        return b""

    def read(self, count: int) -> bytes:
        """
        Read so many bytes, or fewer where the end comes before.
        """
        data = b""
        while len(data) < count and (more := self.recv(count - len(data))):
            data += more
        return data

    def readAll(self) -> bytes:
        """
        Read to the end.
        """
        parts = []
        while data := self.recv():
            parts.append(data)
        return b"".join(parts)

    def endWrite(self) -> None:
        """
        End this direction: close_notify in TLS, and a FIN.
        """
        if self.tls is not None:
            self.tls.shutdown()
        self.socket.shutdown(socket.SHUT_WR)

    def endTLS(self) -> None:
        """
        Send close_notify, and no FIN.
        """
        assert self.tls is not None
        self.tls.shutdown()

    def truncate(self) -> None:
        """
        Send a FIN, and nothing before it.
        """
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """
        Reset the connection.
        """
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        """
        Close the connection without a word.
        """
        self.socket.close()


def connect(case: SynchronousTestCase, port: int, context: SSL.Context | None = None, **more: Any) -> Talker:
    """
    Connect to a port of loopback.
    """
    sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
    case.addCleanup(sock.close)
    return Talker(sock, context, **more)


class Listener:
    """
    A server that accepts when the test says so.

    @ivar port: Its port.
    """

    def __init__(self, case: SynchronousTestCase, backlog: int = 128) -> None:
        self._case = case
        self._socket = socket.socket()
        case.addCleanup(self._socket.close)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(backlog)
        self._socket.settimeout(PATIENCE)
        self.port = int(self._socket.getsockname()[1])

    def accept(self, context: SSL.Context | None = None) -> Talker:
        """
        Take the next connection.

        @param context: The TLS to speak.
        """
        sock, _ = self._socket.accept()
        self._case.addCleanup(sock.close)
        return Talker(sock, context, server=True)

    def waiting(self) -> bool:
        """
        Tell whether somebody has connected.
        """
        return bool(select.select([self._socket], [], [], 0)[0])


class Server:
    """
    A server that answers by itself, each connection in a thread.

    @ivar port: Its port.
    @ivar accepted: How many connections it was given.
    @ivar seen: What the answers have noted.
    """

    def __init__(
        self, case: SynchronousTestCase, answer: Callable[[Talker], object], context: SSL.Context | None = None
    ) -> None:
        """
        @param answer: What to do with a connection; it is closed thereafter.
        @param context: The TLS to speak.
        """
        self._answer = answer
        self._context = context
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(4096)
        self.port = int(self._socket.getsockname()[1])
        self.accepted = 0
        self.seen: list[object] = []
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        case.addCleanup(self._stop)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            self.accepted += 1
            self._open.add(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            try:
                talker = Talker(sock, self._context, server=True)
            except SSL.Error as e:
                self.seen.append(e)
                # To close with something unread is a reset, after which the peer may not get to see our alert.
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_WR)
                    while sock.recv(65536):
                        pass
                return
            self.seen.append(self._answer(talker))
        except (OSError, SSL.Error, AssertionError) as e:
            self.seen.append(e)
        finally:
            self._open.discard(sock)
            sock.close()

    def _stop(self) -> None:
        # A blocked accept or recv wakes on a shutdown, not on a close.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for sock in list(self._open):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        waitUntil(lambda: not any(thread.is_alive() for thread in self._threads), "the end of a server's threads")


def echo(talker: Talker) -> None:
    """
    Send back all that comes, and end when the peer ends.
    """
    while data := talker.recv():
        talker.send(data)
    if talker.how == "ended":
        talker.endWrite()
