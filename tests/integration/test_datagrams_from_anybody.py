# -*- test-case-name: tests.integration.test_datagrams_from_anybody -*-
"""
Whatever comes from whatever address, nothing is kept for who has not shown to be there, and others are served.
"""

from __future__ import annotations

import contextlib
import os
import socket

from OpenSSL import SSL

from tests.integration.running import waitUntil
from tests.integration.test_datagrams_through_each_mode import LOOPBACK, DatagramTestCase, Echo

MANY = 20_000


def firstHello() -> bytes:
    """
    Make what a client says first.
    """
    context = SSL.Context(SSL.DTLS_CLIENT_METHOD)
    context.set_options(SSL.OP_NO_QUERY_MTU)
    connection = SSL.Connection(context)
    connection.set_connect_state()
    connection.set_ciphertext_mtu(1200)
    with contextlib.suppress(SSL.WantReadError):
        connection.do_handshake()
    return connection.bio_read(65536)


class AnybodyTests(DatagramTestCase):
    """
    A route on datagrams, and many who send it something.
    """

    def setUp(self) -> None:
        """
        Serve.
        """
        super().setUp()
        self.echo = Echo(self)
        self.serving = self.proxy(*self.routes(self.offload(self.echo.port)))
        self.port = self.serving.port("offload")

    def send(self, datagram: bytes, number: int) -> bytes:
        """
        Send something from one of very many addresses.

        @return: What came back at once.
        """
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.bind((f"127.{1 + (number >> 14 & 63)}.{number >> 7 & 127}.{1 + (number & 127)}", 0))
            sock.sendto(datagram, (LOOPBACK, self.port))
            with contextlib.suppress(BlockingIOError):
                return sock.recv(65536)
        return b""

    def assertServed(self) -> None:
        """
        Assert that a client is served.
        """
        client = self.openssl(self.port)
        client.waitFor("Verify return code: 0")
        self.say(client, "hello\n")
        client.waitFor("(?m)^hello\r?$")
        assert client.process.stdin is not None
        client.process.stdin.close()

    def test_hellos(self) -> None:
        """
        First hellos from many addresses cost no memory and no descriptor, and get no more than they are.
        """
        hello = firstHello()
        for number in range(2000):
            self.send(hello, number)
        self.assertServed()
        descriptors = waitUntil(self.serving.descriptors, "its descriptors")
        memory = self.serving.resident()
        answers = [self.send(hello, number) for number in range(MANY)]
        self.assertTrue(all(len(answer) <= len(hello) for answer in answers))
        self.assertServed()
        self.assertTrue(self.serving.resident() - memory < 2 << 20, self.serving.resident() - memory)
        self.assertTrue(self.serving.descriptors() <= descriptors + 2)
        self.assertEqual(len(self.echo.peers), 2)

    def test_garbage(self) -> None:
        """
        Garbage is not answered, from where there is an association neither.
        """
        hello = firstHello()
        for number in range(3000):
            junk = os.urandom(number % 1500)
            if number % 3 == 0:
                at = number % len(hello)
                junk = hello[:at] + bytes([hello[at] ^ 255]) + hello[at + 1 :]
            answer = self.send(junk, number)
            self.assertTrue(len(answer) <= len(junk))
        self.assertServed()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((LOOPBACK, self.port))
            context = SSL.Context(SSL.DTLS_CLIENT_METHOD)
            context.set_options(SSL.OP_NO_QUERY_MTU)
            context.load_verify_locations(str(self.certificates.ca))
            client = SSL.Connection(context, sock)
            client.set_connect_state()
            client.set_ciphertext_mtu(1200)
            client.do_handshake()
            for number in range(500):
                sock.send(os.urandom(1 + number))
                sock.send(b"\x17\xfe\xfd\0\1" + os.urandom(number))
                sock.send(hello)
            client.send(b"still here")
            # The hellos were answered, and OpenSSL passes over what is old.
            self.assertEqual(client.recv(100), b"still here")
