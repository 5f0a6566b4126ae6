# -*- test-case-name: tests.integration -*-
"""
A destination that keeps a record of who came: the judge of every attack on the way to it.
"""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.trial.unittest import SynchronousTestCase

from tests.integration.running import PATIENCE, waitUntil

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def destinationContext(
    certificate: Path, ca: Path | None, version: str = "", group: str = "", required: bool = True
) -> ssl.SSLContext:
    """
    Make what a destination speaks.

    @param ca: Who has to have issued the certificates of its clients; L{None} for asking for none.
    @param group: The one group of its key exchange; another than the client's first makes it retry.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.load_cert_chain(certificate)
    if ca is not None:
        context.load_verify_locations(ca)
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    limit(context, version)
    if group:
        context.set_ecdh_curve(group)
    return context


def browserContext(ca: Path, certificate: Path | None, version: str = "") -> ssl.SSLContext:
    """
    Make what a browser speaks.

    @param certificate: Its client certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.load_verify_locations(ca)
    if certificate is not None:
        context.load_cert_chain(certificate)
    limit(context, version)
    return context


def limit(context: ssl.SSLContext, version: str) -> None:
    """
    Have a context speak one version only; the empty one is any.
    """
    if version:
        context.minimum_version = context.maximum_version = VERSIONS[version]


@define
class Visit:
    """
    A connection that was made to a destination.

    @ivar finished: Whether its handshake was.
    @ivar client: The common name of the certificate that was shown.
    @ivar requests: What was asked for.
    @ivar how: How it ended: C{"ended"} by a close_notify, or by which error.
    """

    finished: bool = False
    client: str = ""
    version: str = ""
    resumed: bool = False
    requests: list[str] = field(factory=list)
    how: str = ""


def body(client: str, size: int) -> bytes:
    """
    The page that a client gets.
    """
    line = f"a page for {client}\n".encode()
    return (line * (size // len(line) + 1))[:size]


class Destination:
    """
    Serves pages over TLS, C{/n} of C{n} bytes.

    @ivar port: Its port.
    @ivar visits: Who came.
    """

    def __init__(self, case: SynchronousTestCase, context: ssl.SSLContext) -> None:
        self._context = context
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._socket.getsockname()[1])
        self.visits: list[Visit] = []
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        case.addCleanup(self.stop)

    def stop(self) -> None:
        """
        Listen no more, and cut whoever is there.
        """
        for sock in (self._socket, *self._open):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._socket.close()
        self._thread.join(PATIENCE)

    def over(self) -> list[Visit]:
        """
        Wait until nobody is there.

        @return: Who was.
        """
        waitUntil(lambda: all(visit.how for visit in self.visits), "the end of all visits", 5)
        return self.visits

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            visit = Visit()
            self.visits.append(visit)
            threading.Thread(target=self._serve, args=(sock, visit), daemon=True).start()

    def _serve(self, sock: socket.socket, visit: Visit) -> None:
        sock.settimeout(PATIENCE)
        try:
            tls = self._context.wrap_socket(sock, server_side=True, suppress_ragged_eofs=False)
        except OSError as e:
            visit.how = repr(e)
            sock.close()
            return
        self._open.add(tls)
        certificate: Any = tls.getpeercert() or {"subject": ()}
        visit.client = "".join(value for part in certificate["subject"] for _, value in part)
        visit.version, visit.resumed, visit.finished = tls.version() or "", bool(tls.session_reused), True
        try:
            self._answer(tls, visit)
            visit.how = "ended"
        except OSError as e:
            visit.how = repr(e)
        finally:
            self._open.discard(tls)
            tls.close()

    def _answer(self, tls: ssl.SSLSocket, visit: Visit) -> None:
        head = b""
        while data := tls.recv(4096):
            head += data
            if head.endswith(b"\r\n\r\n"):
                line = head.decode("latin-1").partition("\r\n")[0]
                visit.requests.append(line)
                page = body(visit.client, int(line.split(" ")[1].strip("/") or 100))
                tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(page) + page)
                head = b""


class Browser:
    """
    Somebody who asks for pages of a destination by way of a client proxy.

    @ivar tls: The connection to the destination.
    """

    def __init__(
        self,
        proxy: int,
        port: int,
        context: ssl.SSLContext,
        session: ssl.SSLSession | None = None,
        host: str = "localhost",
        name: str = "localhost",
    ) -> None:
        """
        @param proxy: The port of the client proxy.
        @param port: The port of the destination.
        @param session: What to resume.
        @param name: Whom the destination has to be.
        @raise OSError: There is no tunnel, or no TLS in it.
        """
        self._sock = socket.create_connection(("127.0.0.1", proxy), PATIENCE)
        try:
            self._sock.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
            self.answer = b""
            while not self.answer.endswith(b"\r\n\r\n"):
                more = self._sock.recv(1)
                if not more:
                    raise ConnectionError(f"no answer but {self.answer!r}")
                self.answer += more
            if b" 200 " not in self.answer.partition(b"\r\n")[0]:
                raise ConnectionError(self.answer.decode("latin-1") + self._sock.recv(4096).decode("latin-1"))
            self.tls = context.wrap_socket(
                self._sock, server_hostname=name, session=session, suppress_ragged_eofs=False
            )
        except BaseException:
            self._sock.close()
            raise

    def get(self, size: int = 100) -> bytes:
        """
        Ask for a page.

        @raise OSError: It did not come whole.
        """
        self.tls.sendall(f"GET /{size} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._more()
        head, _, page = answer.partition(b"\r\n\r\n")
        while len(page) < size:
            page += self._more()
        return page

    def _more(self) -> bytes:
        data = self.tls.recv(65536)
        if not data:
            raise ConnectionError("the page is not whole")
        return data

    def end(self) -> None:
        """
        Say good-bye, and read the destination's.
        """
        try:
            self.tls.unwrap()
        except OSError:
            pass
        self.close()

    def close(self) -> None:
        """
        Go without a word.
        """
        self.tls.close()
        self._sock.close()
