"""
Who takes part in the example beside the proxies: the browser, the mainframe's application, and somebody who listens on
the wire between the two proxies.  C{run.py} is where to begin.
"""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

CLIENT_PROXY, WIRE, REVERSE_PROXY, MAINFRAME, APPLICATION = PORTS = 3128, 8444, 8443, 9443, 9023
PATIENCE = 20.0  # seconds
QUESTION = b"BALANCE 4711\n"
ANSWER = b"4711: 1234.56 EUR\n"
TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=", "tlsproxy"]


def checkPorts() -> None:
    """
    See that the ports are free, which are the same each time.
    """
    for port in PORTS:
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError as e:
            sys.exit(f"port {port} of 127.0.0.1, which this example needs, cannot be had: {os.strerror(e.errno or 0)}")


def application(listening: socket.socket) -> None:
    """
    The mainframe's application: answers one question a connection, without TLS.
    """
    while True:
        connection, _ = listening.accept()
        with connection:
            if connection.recv(100) == QUESTION:
                connection.sendall(ANSWER)


class Wire:
    """
    The wire between the two proxies, and somebody who listens.
    """

    def __init__(self) -> None:
        self.heard = {"to the DMZ": bytearray(), "from the DMZ": bytearray()}
        self.listening = socket.create_server(("127.0.0.1", WIRE))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            near, _ = self.listening.accept()
            far = socket.create_connection(("127.0.0.1", REVERSE_PROXY))
            for way, source, sink in (("to the DMZ", near, far), ("from the DMZ", far, near)):
                threading.Thread(target=self._carry, args=(way, source, sink), daemon=True).start()

    def _carry(self, way: str, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                self.heard[way] += data
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def has(self, words: bytes) -> str:
        """
        Tell whether some words were heard, in either direction.
        """
        return "heard" if any(words in heard for heard in self.heard.values()) else "not heard"

    def records(self) -> str:
        """
        Take what was heard for TLS records.
        """
        count = 0
        for heard in self.heard.values():
            at = 0
            while at < len(heard):
                if heard[at] not in range(20, 24) or heard[at + 1] != 3:
                    return f"not all TLS: {heard[at : at + 20]!r}"
                at += 5 + int.from_bytes(heard[at + 3 : at + 5], "big")
                count += 1
        return f"{sum(map(len, self.heard.values()))} bytes, all of them TLS: {count} records"


def start(host: Path) -> subprocess.Popen[bytes]:
    """
    Start a host's proxy, and wait until it listens.
    """
    log = host / "log"
    with log.open("wb") as output:
        config = host / f"{host.name}.toml"
        process = subprocess.Popen([*TWISTD, "--config", str(config)], stdout=output, stderr=output)
    try:
        waitFor(process, log, " listens on ")
    except BaseException:
        process.kill()
        raise
    return process


def waitFor(process: subprocess.Popen[bytes], log: Path, words: str) -> str:
    """
    Wait until some words stand in the log of a proxy.

    @return: The last line with them.
    """
    end = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < end:
        lines = [line for line in log.read_text().splitlines() if words in line]
        if lines:
            return lines[-1]
        time.sleep(0.05)
    sys.exit(f"a proxy did not come as far as {words.strip()!r}; this is its log:\n{log.read_text()}")


def ask(browser: Path, target: str) -> tuple[bytes, str]:
    """
    Be the browser: have the client proxy make a tunnel, and speak TLS with whoever is at its other end.

    @return: The answer, and the version of TLS; or what the client proxy said instead, and nothing.
    """
    context = ssl.create_default_context(cafile=str(browser / "bank-ca.pem"))
    context.load_cert_chain(browser / "browser.pem", browser / "browser-key.pem")
    with socket.create_connection(("127.0.0.1", CLIENT_PROXY), PATIENCE) as connection:
        connection.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1) or sys.exit(f"the client proxy hung up: {head!r}")
        if b" 200 " not in head:
            return connection.recv(1000).strip(), ""
        with context.wrap_socket(connection, server_hostname=target.partition(":")[0]) as tls:
            tls.sendall(QUESTION)
            answer, version = tls.recv(100), tls.version() or ""
            tls.unwrap()
            return answer, version


def inMemory(process: subprocess.Popen[bytes], words: bytes) -> str:
    """
    Look for some words in all of the memory of a process.
    """
    try:
        with open(f"/proc/{process.pid}/maps") as maps, open(f"/proc/{process.pid}/mem", "rb", 0) as memory:
            for line in maps:
                span, rights, *_ = line.split()
                first, last = (int(one, 16) for one in span.split("-"))
                if rights.startswith("rw"):
                    try:
                        memory.seek(first)
                        if words in memory.read(last - first):
                            return "found"
                    except (OSError, OverflowError):
                        continue
    except OSError as e:
        return f"could not be looked for ({e.strerror})"
    return "not found"
