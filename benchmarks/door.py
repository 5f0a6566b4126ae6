"""
How the load client comes into a proxy: what it has to say before its first order.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
from pathlib import Path

from attrs import field, frozen
from steps import Steps, finish, tried
from traffic import HOST, NAME, TrafficError, clientContext

SNI = "bench.example"
"""The name that a proxy routes by where it leaves the TLS alone."""

_HEAD_END = b"\r\n\r\n"
_LONGEST_HEAD = 4096


def clientHello(name: str) -> bytes:
    """
    What a TLS client of this Python says first, as one whole record.

    @param name: whom it wants to talk to.
    """
    out = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


@frozen
class Door:
    """
    A proxy's port and the way in. Without any of the others the connection is plain from its first byte.

    @param port: on the loopback address.
    @param ca: the root certificate's file, where the client speaks TLS: with the proxy, or with the target behind it.
    @param sni: a name to be routed by. A real ClientHello is sent, and plain bytes behind it: no proxy that leaves TLS
        alone looks further, and neither client nor backend is slowed by a cipher.
    @param target: where the proxy is told to go by CONNECT, C{HOST:PORT}.
    @param version: the version of TLS to speak with the proxy.
    """

    port: int
    ca: Path | None = None
    sni: str = ""
    target: str = ""
    version: str = "1.3"
    context: ssl.SSLContext | None = field(init=False)
    _hello: bytes = field(init=False)

    @context.default
    def _makeContext(self) -> ssl.SSLContext | None:
        return None if self.ca is None else clientContext(self.ca, self.version)

    @_hello.default
    def _makeHello(self) -> bytes:
        return clientHello(self.sni) if self.sni else b""

    def options(self) -> list[str]:
        """
        The same, as the load client's command line has it.
        """
        words = [str(self.port)]
        for name, value in (
            ("--ca", self.ca),
            ("--sni", self.sni),
            ("--target", self.target),
            ("--version", self.version),
        ):
            if value:
                words += [name, str(value)]
        return words

    def open(self, session: ssl.SSLSession | None = None) -> socket.socket:
        """
        A new blocking connection, ready for orders.

        @param session: the one to resume.
        @raise TrafficError: if the handshake resumed what it should not or did not what it should, or the proxy refused
            the target.
        """
        connection = finish(self.enter(session))
        connection.setblocking(True)
        return connection

    def enter(self, session: ssl.SSLSession | None = None) -> Steps[socket.socket]:
        """
        The same without blocking.
        """
        connection = socket.socket()
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if connection.connect_ex((HOST, self.port)):
                yield connection.fileno(), select.EPOLLOUT
            failure = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if failure:
                raise OSError(failure, os.strerror(failure))
            if self.target:
                yield from _tunnel(connection, self.target)
            if self.context is not None:
                name = self.target.rpartition(":")[0] or NAME
                connection = yield from _handshake(connection, self.context, name, session)
            if self._hello:
                # What is said first always finds room.
                connection.send(self._hello)
        except BaseException:
            connection.close()
            raise
        return connection


def _handshake(
    raw: socket.socket, context: ssl.SSLContext, name: str, session: ssl.SSLSession | None
) -> Steps[ssl.SSLSocket]:
    connection = context.wrap_socket(raw, server_hostname=name, do_handshake_on_connect=False, session=session)
    try:
        yield from tried(connection, connection.do_handshake)
        if connection.session_reused and session is None:
            raise TrafficError("the handshake resumed a session: new connections must be new")
        if session is not None and not connection.session_reused:
            raise TrafficError("the session was not resumed")
    except BaseException:
        connection.close()
        raise
    return connection


def _tunnel(raw: socket.socket, target: str) -> Steps[None]:
    raw.send(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode("ascii"))
    head = b""
    while _HEAD_END not in head:
        piece = yield from tried(raw, lambda: raw.recv(_LONGEST_HEAD))
        head += piece
        if not piece or len(head) > _LONGEST_HEAD:
            raise TrafficError(f"the answer to CONNECT has no end: {head[:64]!r}")
    # The backend never speaks first, so nothing may stand behind the head.
    status = head.partition(b"\r\n")[0]
    if status.split(b" ")[1:2] != [b"200"] or not head.endswith(_HEAD_END):
        raise TrafficError(f"the answer to CONNECT is {status!r}")
