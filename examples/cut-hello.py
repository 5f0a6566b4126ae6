#!/usr/bin/env python3
"""
Ask a TLS server for a name, with a ClientHello that is cut into small TLS records, and tell who answers.

    python3 cut-hello.py HOST PORT SERVERNAME RECORDSIZE [--segments]

RECORDSIZE is how many bytes of the hello go into each record, at most.  All records go out at once, or with --segments
each by itself, a little later than the one before.  Then the handshake goes on as usual.  Certificates are shown and
not verified.  Needs nothing but Python.  Exits with 0 when a certificate came.
"""

from __future__ import annotations

import argparse
import socket
import ssl
import sys
import time
from collections.abc import Iterator

PATIENCE = 10.0  # seconds
PAUSE = 0.005  # seconds between two segments
COMMON_NAME = b"\x55\x04\x03"
ALTERNATIVE_NAMES = b"\x55\x1d\x11"


def cut(hello: bytes, size: int) -> list[bytes]:
    """
    Cut what came in one TLS record into records with fewer bytes each.
    """
    head, message = hello[:3], hello[5:]
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    return [head + len(part).to_bytes(2, "big") + part for part in parts]


def values(der: bytes) -> Iterator[tuple[int, bytes]]:
    """
    Walk through DER, and give the tag and the content of all that is not made of parts itself.
    """
    at = 0
    while at < len(der):
        tag, length = der[at], der[at + 1]
        at += 2
        if length & 0x80:
            width = length & 0x7F
            length, at = int.from_bytes(der[at : at + width], "big"), at + width
        content = der[at : at + length]
        at += length
        if tag & 0x20:
            yield from values(content)
        else:
            yield tag, content


def namesIn(certificate: bytes) -> str:
    """
    Tell the common name and the alternative names in a certificate.

    @param certificate: in DER.
    """
    common, alternative = "-", ["-"]
    last = b""
    for tag, content in values(certificate):
        if tag == 6:
            last = content
        elif last == COMMON_NAME:
            # The issuer's name stands before the subject's.
            common = content.decode("utf-8", "replace")
        elif last == ALTERNATIVE_NAMES and tag == 4:
            alternative = [name.decode("latin-1") for kind, name in values(content) if kind == 0x82] or ["-"]
    return f"CN={common}, DNS={','.join(alternative)}"


def send(connection: socket.socket, records: list[bytes], segments: bool) -> None:
    """
    Send the records of the hello.
    """
    if not segments:
        connection.sendall(b"".join(records))
        return
    for record in records:
        connection.sendall(record)
        time.sleep(PAUSE)


def answer(host: str, port: int, name: str, size: int, segments: bool) -> tuple[bool, str]:
    """
    Do the handshake.

    @return: whether a certificate came, and what to tell.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with socket.create_connection((host, port), PATIENCE) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = False
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                finished = False
            except ssl.SSLError as error:
                return False, f"the handshake failed: {error.reason}"
            else:
                finished = True
            ready = outgoing.read()
            if not began:
                records = cut(ready, size)
                print(f"hello: {len(ready) - 5} bytes in {len(records)} records")
                send(connection, records, segments)
                began = True
            elif ready:
                connection.sendall(ready)
            if finished:
                certificate = tls.getpeercert(binary_form=True)
                assert certificate is not None
                return True, namesIn(certificate)
            received = connection.recv(65536)
            if not received:
                return False, "the connection was closed"
            incoming.write(received)


def main() -> int:
    """
    Run the command.
    """
    parser = argparse.ArgumentParser(description="Ask a TLS server for a name, with a hello cut into small records.")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("servername")
    parser.add_argument("recordsize", type=int)
    parser.add_argument("--segments", action="store_true", help="send each record by itself")
    options = parser.parse_args()
    if not 1 <= options.recordsize <= 16384:
        parser.error("a record carries 1 to 16384 bytes")
    try:
        good, told = answer(options.host, options.port, options.servername, options.recordsize, options.segments)
    except TimeoutError:
        good, told = False, f"nothing came within {PATIENCE:.0f} seconds"
    except OSError as error:
        good, told = False, f"the connection failed: {error.strerror or error}"
    print(f"answer: {told}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
