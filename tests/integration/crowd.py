# -*- test-case-name: tests.integration.test_reloads_lose_nobody -*-
"""
A crowd: clients that come at a steady pace, whatever becomes of those before them, in a process of its own.

It writes a line for each client when that has gone: C{ok} and the serial number of the certificate that it has seen, or
C{failed} and what has befallen it.  When its input ends nobody comes any more, and when the last has gone it writes
C{rate} and how many came in a second, and how many of them late, which is to be known and decides nothing.
"""

from __future__ import annotations

import socket
import ssl
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

PATIENCE = 20.0
MOST = 100
"""How many are there at once, at most; who comes later waits for one of them to go, and counts as come."""
LATE = 0.1
"""How many seconds after its time a client begins that is late."""
ASK = b"GET /small HTTP/1.0\r\n\r\n"


class Crowd:
    """
    Clients of one port of loopback.
    """

    def __init__(self, port: int, ca: str) -> None:
        """
        @param ca: The file with the authority that they trust.
        """
        self._port = port
        self._context = ssl.create_default_context(cafile=ca)
        self._writing = threading.Lock()
        self._late = 0

    def come(self, due: float) -> None:
        """
        Connect, ask, hear all of the answer and how it ends, and go.

        @param due: The time for it.
        """
        late = time.monotonic() > due + LATE
        try:
            with socket.create_connection(("127.0.0.1", self._port), PATIENCE) as plain:
                with self._context.wrap_socket(
                    plain, server_hostname="localhost", suppress_ragged_eofs=False
                ) as client:
                    certificate = client.getpeercert()
                    client.sendall(ASK)
                    answer = b"".join(iter(lambda: client.recv(65536), b""))
                    client.unwrap()
            if certificate is None or not answer.endswith(b"here"):
                raise ValueError(f"it heard {answer!r}")
            outcome = f"ok {certificate['serialNumber']}"
        except Exception as e:
            outcome = f"failed {e!r}"
        self.tell(outcome, late)

    def tell(self, line: str, late: bool = False) -> None:
        """
        Write a line.
        """
        with self._writing:
            self._late += late
            print(line, flush=True)

    def run(self, pace: float) -> None:
        """
        Have clients come until the input ends.

        @param pace: How many a second.
        """
        over = threading.Event()

        def heed() -> None:
            sys.stdin.read()
            over.set()

        threading.Thread(target=heed, daemon=True).start()
        began = time.monotonic()
        count = 0
        with ThreadPoolExecutor(MOST) as pool:
            # Each has its time; where that has passed it comes at once.
            while not over.wait(max(0.0, (due := began + count / pace) - time.monotonic())):
                pool.submit(self.come, due)
                count += 1
            rate = count / (time.monotonic() - began)
        self.tell(f"rate {rate:.1f}, {self._late} late")


if __name__ == "__main__":
    Crowd(int(sys.argv[1]), sys.argv[2]).run(float(sys.argv[3]))
