"""
What the comparison over DTLS works with: clients that have one datagram under way each, and, as a program of its own,
a UDP port that sends all back.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from collections.abc import Sequence

from OpenSSL import SSL
from processes import ProcessError

from tlsproxy.tls.datagrams import DTLSConnection

LOOPBACK = "127.0.0.1"
CIPHER = b"ECDHE-ECDSA-AES256-GCM-SHA384"
SIZE = 64
"""Bytes of a datagram."""

_MTU = 1200
_PATIENCE = 10.0


class Client:
    """
    One association.
    """

    def __init__(self, context: SSL.Context, port: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect((LOOPBACK, port))
        self._dtls = DTLSConnection(context, _MTU, False)
        self._shake()

    def fileno(self) -> int:
        """
        Tell the descriptor.
        """
        return self._socket.fileno()

    def _flush(self) -> None:
        for datagram in self._dtls.output():
            self._socket.send(datagram)

    def _shake(self) -> None:
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                self._dtls.handshake()
            except SSL.WantReadError:
                self._flush()
            else:
                self._flush()
                return
            if not select.select([self], [], [], self._dtls.timeout())[0]:
                self._dtls.handleTimeout()
            else:
                self._dtls.receive(self._socket.recv(65536))
            if time.monotonic() > end:
                raise ProcessError("a handshake did not end")

    def ask(self) -> None:
        """
        Send a datagram.
        """
        self._dtls.write(bytes(SIZE))
        self._flush()

    def heard(self) -> bool:
        """
        Take a datagram that has come.
        """
        self._dtls.receive(self._socket.recv(65536))
        return self._dtls.read() == bytes(SIZE)

    def close(self) -> None:
        """
        End it.
        """
        self._dtls.endWrite()
        self._flush()
        self._socket.close()


def context() -> SSL.Context:
    """
    What the clients speak.  They trust anybody: it is the proxy that is measured.
    """
    made = SSL.Context(SSL.DTLS_CLIENT_METHOD)
    made.set_options(SSL.OP_NO_QUERY_MTU)
    made.set_cipher_list(CIPHER)
    made.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    return made


def roundTrips(clients: Sequence[Client], seconds: float) -> int:
    """
    Have each client send its next datagram when it has the last one back.

    @return: how many came back.
    """
    poll = select.epoll()
    known = {client.fileno(): client for client in clients}
    for number in known:
        poll.register(number, select.EPOLLIN)
    for client in clients:
        client.ask()
    done, end = 0, time.monotonic() + seconds
    left = set(known)
    while left:
        ready = poll.poll(_PATIENCE)
        if not ready:
            raise ProcessError("a datagram did not come back")
        for number, _ in ready:
            if not known[number].heard():
                raise ProcessError("a datagram came back otherwise")
            done += 1
            if time.monotonic() < end:
                known[number].ask()
            else:
                left.discard(number)
    poll.close()
    return done


def echo() -> None:
    """
    Send all back, for ever.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.bind((LOOPBACK, 0))
    print(sock.getsockname()[1], flush=True)
    while True:
        sock.sendto(*sock.recvfrom(65536))


if __name__ == "__main__":
    sys.exit(echo())  # type: ignore[func-returns-value]
