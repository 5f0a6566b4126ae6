"""
Tests for L{tlsproxy.wire.dtls}.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.dtlshellos import record
from tlsproxy.testing.certificates import certify
from tlsproxy.wire.cookies import Cookies
from tlsproxy.wire.dtls import APPLICATION_DATA, HEAD, Record, RecordError, records, recut
from tlsproxy.wire.dtlshello import helloVerifyRequest, readHello

MTU = 300
ONE = record(b"one", type=22, sequence=5)

anyRecord = st.builds(
    lambda payload, type, version, epoch, sequence: Record(type, version, epoch, sequence, payload),
    st.binary(max_size=60),
    st.sampled_from([20, 21, 22, 23, 24]),
    st.sampled_from([0xFEFF, 0xFEFD, 0xFE00]),
    st.integers(0, 0xFFFF),
    st.integers(0, 2**48 - 1),
)


def written(one: Record) -> bytes:
    """
    Write a record as it is sent.
    """
    return record(one.payload, type=one.type, version=one.version, epoch=one.epoch, sequence=one.sequence)


class RecordsTests(SynchronousTestCase):
    """
    L{records} takes a datagram apart.
    """

    def assertRefused(self, datagram: bytes, sentence: str) -> None:
        """
        Fail unless a datagram is refused with a sentence.
        """
        self.assertEqual(str(self.assertRaises(RecordError, records, datagram)), sentence)

    @given(several=st.lists(anyRecord, min_size=1, max_size=5))
    def test_all(self, several: list[Record]) -> None:
        """
        All records of a datagram are told, with all that is in their headers.
        """
        self.assertEqual(records(b"".join(map(written, several))), tuple(several))

    def test_empty(self) -> None:
        """
        An empty datagram is refused.
        """
        self.assertRefused(b"", "the datagram is empty")

    def test_otherProtocols(self) -> None:
        """
        What is no record is refused, also after one.
        """
        for before in (b"", ONE):
            self.assertRefused(before + b"GET / ", "a byte 0x47 stands where a DTLS record must begin")
            self.assertRefused(before + b"\x13" + bytes(20), "a byte 0x13 stands where a DTLS record must begin")

    def test_otherForms(self) -> None:
        """
        The records of DTLS 1.3, and those with a connection ID, are told as such.
        """
        for first in (0x20, 0x2C, 0x3F):
            self.assertRefused(
                bytes([first]) + bytes(30),
                "the record is none of DTLS 1.2; it may be one of DTLS 1.3, which is not supported",
            )
        self.assertRefused(b"\x19" + bytes(30), "the DTLS record has a connection ID, which is not supported")

    def test_cutOff(self) -> None:
        """
        A record that the datagram cuts off is refused, wherever it is cut.
        """
        for before in (b"", ONE):
            for length in range(1, len(ONE)):
                where = "the header of a DTLS record" if length < HEAD else "a DTLS record"
                self.assertRefused(before + ONE[:length], f"the datagram ends within {where}")

    def test_most(self) -> None:
        """
        Where somebody unknown may have sent it, it is not taken apart to the end.
        """
        record = b"\x16\xfe\xfd" + bytes(8) + b"\0\1x"
        self.assertEqual(len(records(record * 16, 16)), 16)
        problem = self.assertRaises(RecordError, records, record * 17 + b"rubbish", 16)
        self.assertEqual(str(problem), "the datagram holds more than 16 DTLS records")

    def test_version(self) -> None:
        """
        A version that is none of DTLS is refused, TLS 1.2 and Cisco's old one among them.
        """
        for version in (0x0303, 0x0100, 0xFDFF):
            self.assertRefused(record(b"x", version=version), f"the DTLS record has the version 0x{version:04x}")

    def test_tooLong(self) -> None:
        """
        A record carries at most 2,048 bytes more than 16 KiB.
        """
        self.assertEqual(len(records(record(bytes(18432)))[0].payload), 18432)
        self.assertRefused(record(bytes(18433)), "the DTLS record is too long: 18433 bytes")

    @given(data=st.binary(max_size=80), before=st.sampled_from([b"", b"\x16\xfe\xfd", ONE, ONE[:HEAD]]))
    def test_anything(self, data: bytes, before: bytes) -> None:
        """
        Whatever the bytes are, they are records to the last of them, or refused.
        """
        try:
            found = records(before + data)
        except RecordError:
            return
        self.assertEqual(b"".join(map(written, found)), before + data)


class RecutTests(SynchronousTestCase):
    """
    L{recut} finds the datagrams in what a library wrote.
    """

    def test_nothing(self) -> None:
        """
        Nothing is no datagram.
        """
        self.assertEqual(recut(b"", 1200), [])

    def test_greedy(self) -> None:
        """
        As many records go into a datagram as fit, and not one byte more.
        """
        several = [record(bytes(size)) for size in (71, 1103, 1135, 39, 537, 12)]
        self.assertEqual(
            recut(b"".join(several), 1200),
            [several[0] + several[1], several[2] + several[3], several[4] + several[5]],
        )
        self.assertEqual(recut(b"".join(several[:2]), 1199), several[:2])

    def test_applicationDataIsAlone(self) -> None:
        """
        Each record of application data is a datagram of its own, and what is around it keeps its place.
        """
        first, hello, last = (record(b"x", type=APPLICATION_DATA, sequence=n) for n in range(3))
        alert = record(b"\1\0", type=21)
        self.assertEqual(recut(first + hello + alert + ONE + last, 1200), [first, hello, alert + ONE, last])
        self.assertEqual(recut(ONE + first + alert, 1200), [ONE, first, alert])

    def test_usual(self) -> None:
        """
        One record is passed on as it is, without a copy.
        """
        one = record(b"what a program wrote", type=APPLICATION_DATA)
        self.assertIs(recut(one, 1200)[0], one)

    def test_tooLarge(self) -> None:
        """
        A record that is larger than a datagram may be is alone, and whole.
        """
        large = record(bytes(300))
        self.assertEqual(recut(ONE + large + ONE + ONE, 100), [ONE, large, ONE + ONE])

    def test_noRecords(self) -> None:
        """
        What is not whole records is refused.
        """
        for wrong in (ONE[:-1], b"GET /", ONE + b"\x16", record(b"", type=APPLICATION_DATA)[:-1]):
            self.assertRaises(RecordError, recut, wrong, 1200)

    @given(several=st.lists(anyRecord, max_size=8), most=st.integers(1, 200))
    def test_anyRecords(self, several: list[Record], most: int) -> None:
        """
        Nothing is lost, nothing changes places, no datagram is too large that has two records, and none could have
        taken one more.
        """
        data = b"".join(map(written, several))
        datagrams = recut(data, most)
        self.assertEqual(b"".join(datagrams), data)
        held = [records(datagram) for datagram in datagrams]
        for datagram, inside in zip(datagrams, held, strict=True):
            self.assertTrue(len(inside) == 1 or len(datagram) <= most)
            self.assertTrue(len(inside) == 1 or all(one.type != APPLICATION_DATA for one in inside))
        for (datagram, inside), following in zip(zip(datagrams, held, strict=True), held[1:], strict=False):
            if APPLICATION_DATA not in (inside[-1].type, following[0].type):
                self.assertGreater(len(datagram) + len(written(following[0])), most)


class HandshakeTests(SynchronousTestCase):
    """
    A whole handshake of the library's, from the first hello on, in datagrams of L{recut}.
    """

    def client(self) -> SSL.Connection:
        """
        Start a client.
        """
        context = SSL.Context(SSL.DTLS_CLIENT_METHOD)
        context.set_options(SSL.OP_NO_QUERY_MTU)
        connection = SSL.Connection(context, None)
        connection.set_ciphertext_mtu(MTU)
        connection.set_tlsext_host_name(b"shop.example")
        connection.set_connect_state()
        return connection

    def server(self) -> SSL.Connection:
        """
        Start the server of a client whose cookie is good.
        """
        context = SSL.Context(SSL.DTLS_SERVER_METHOD)
        assert SSL.OP_COOKIE_EXCHANGE is not None
        context.set_options(SSL.OP_NO_QUERY_MTU | SSL.OP_COOKIE_EXCHANGE)
        context.set_cookie_generate_callback(lambda connection: b"not sent")
        context.set_cookie_verify_callback(lambda connection, cookie: True)
        shop: Any = certify("shop.example")
        context.use_certificate(shop.certificate)
        context.use_privatekey(shop.key)
        connection = SSL.Connection(context, None)
        connection.set_ciphertext_mtu(MTU)
        connection.set_accept_state()
        return connection

    def sent(self, connection: SSL.Connection) -> list[bytes]:
        """
        Go on with a handshake, and take what it sends.
        """
        with contextlib.suppress(SSL.WantReadError):
            connection.do_handshake()
        try:
            return recut(connection.bio_read(65535), MTU)
        except SSL.WantReadError:
            return []

    def test_whole(self) -> None:
        """
        A client that is answered without a memory of it goes on with a server that starts at its second hello, and what
        each writes comes as it was written.
        """
        cookies = Cookies(os.urandom, Clock().seconds)
        peer, local = ("192.0.2.7", 50000), ("192.0.2.1", 443)
        client, server = self.client(), self.server()
        (first,) = self.sent(client)
        hello = readHello(first)
        self.assertFalse(cookies.holds(peer, local, hello))
        client.bio_write(helloVerifyRequest(hello, cookies.make(peer, local, hello)))
        (second,) = self.sent(client)
        self.assertTrue(cookies.holds(peer, local, readHello(second)))
        server.bio_write(second)
        server.DTLSv1_listen()
        counts = []
        for _ in range(2):
            for one, other in ((server, client), (client, server)):
                datagrams = self.sent(one)
                counts.append(len(datagrams))
                self.assertLessEqual(max(map(len, datagrams), default=0), MTU)
                for datagram in datagrams:
                    other.bio_write(datagram)
        self.assertGreater(counts[0], 2)
        server.send(b"one")
        server.send(b"two")
        datagrams = recut(server.bio_read(65535), MTU)
        self.assertEqual([23, 23], [only.type for datagram in datagrams for only in records(datagram)])
        self.assertEqual(2, len(datagrams))
        for datagram, written in zip(reversed(datagrams), (b"two", b"one"), strict=True):
            client.bio_write(datagram)
            self.assertEqual(written, client.recv(100))
