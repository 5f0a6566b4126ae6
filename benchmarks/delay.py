"""
Distance on one machine: a relay that holds back what it is sent, in a process of its own.

C{python delay.py LISTEN CONNECT MILLISECONDS} takes connections on the one port of the loopback address and makes each
to the other, and serves until its standard input ends. Everything arrives half of the given round trip later, in each
direction. Since the kernel finishes TCP's own handshake at once, what the client says in the first round trip counts
as said at the end of that, as if it had waited for the answer to its SYN. So only a client that speaks first is
delayed rightly, as one of TLS does.
"""

from __future__ import annotations

import queue
import socket
import sys
import threading
import time

from traffic import HOST

_PIECE = 1 << 16
_BACKLOG = 4096


class _Way:
    """
    One direction of one connection.

    @param source: what is read from.
    @param sink: what it goes to.
    @param delay: seconds until it does.
    @param earliest: the time before which nothing counts as said.
    """

    def __init__(self, source: socket.socket, sink: socket.socket, delay: float, earliest: float = 0.0) -> None:
        self._source = source
        self._sink = sink
        self._delay = delay
        self._earliest = earliest
        self._held: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._read, self._write)]

    def start(self) -> None:
        """
        Begin.
        """
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """
        Wait for the end.
        """
        for thread in self._threads:
            thread.join()

    def _read(self) -> None:
        data = b"to be replaced"
        while data:
            try:
                data = self._source.recv(_PIECE)
            except OSError:
                data = b""
            self._held.put((max(time.monotonic(), self._earliest) + self._delay, data))

    def _write(self) -> None:
        while True:
            due, data = self._held.get()
            if (left := due - time.monotonic()) > 0:
                time.sleep(left)
            try:
                if not data:
                    self._sink.shutdown(socket.SHUT_WR)
                    return
                self._sink.sendall(data)
            except OSError:
                return


def _serve(near: socket.socket, port: int, trip: float) -> None:
    began = time.monotonic()
    with near:
        try:
            far = socket.create_connection((HOST, port))
        except OSError:
            return
        with far:
            for connection in (near, far):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ways = _Way(near, far, trip / 2, began + trip if trip else 0.0), _Way(far, near, trip / 2)
            for way in ways:
                way.start()
            for way in ways:
                way.join()


def _accept(listener: socket.socket, port: int, trip: float) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_serve, args=(connection, port, trip), daemon=True).start()


def main() -> None:
    """
    Listen, say so, and serve until standard input ends.
    """
    listen, connect, milliseconds = sys.argv[1:]
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, int(listen)))
        listener.listen(_BACKLOG)
        threading.Thread(target=_accept, args=(listener, int(connect), float(milliseconds) / 1000), daemon=True).start()
        print("listening", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
