"""
Tests for how L{tlsproxy.wire.connect} has two proxies agree on a downgrade.
"""

from __future__ import annotations

from tests.wire.test_connect import connectTo, readHead
from tests.wire.test_connect_refusals import REQUEST, RefusalTestCase
from tlsproxy.wire.answer import AnswerReader
from tlsproxy.wire.connect import ESTABLISHED, connectHead, establishedHead

NAMED = "Connection: TLS-Downgrade"


class WishTests(RefusalTestCase):
    """
    What a request says of a downgrade.
    """

    def test_none(self) -> None:
        """
        A request without the field has no wishes at all, which is not the same as an empty list.
        """
        self.assertIsNone(readHead(connectTo("a:1")).downgrade)
        self.assertIsNone(readHead(connectTo("a:1", NAMED)).downgrade)
        self.assertEqual(readHead(connectTo("a:1", NAMED, "TLS-Downgrade: later")).downgrade, ())

    def test_wishes(self) -> None:
        """
        Wishes are told in their order, wherever Connection names the field, and in any case.
        """
        for named in (
            NAMED,
            "connection:tls-downgrade",
            "Connection: close ,\tTLS-DOWNGRADE",
            "Connection: close\r\nConnection: TLS-Downgrade\r\nConnection: x",
        ):
            for fields in ((named, "TLS-Downgrade: handshake, none"), ("tls-downgrade:handshake,none", named)):
                self.assertEqual(readHead(connectTo("a:1", *fields)).downgrade, ("handshake", "none"))

    def test_unnamed(self) -> None:
        """
        A field that Connection does not name may come from beyond the next hop, and is refused.
        """
        for named in ("X: y", "Connection: close", "Connection: TLS", "Connection: TLS-Downgrade-2", "Connection:"):
            head = connectTo("a:1", named, "TLS-Downgrade: none")
            self.assertRefused(head, f"{REQUEST} has a TLS-Downgrade field that Connection does not name")

    def test_twice(self) -> None:
        """
        Two such fields are refused.
        """
        head = "CONNECT a:1 HTTP/1.0\r\nTLS-Downgrade: none\r\ntls-downgrade: none\r\n"
        self.assertRefused(head, f"{REQUEST} has the field TLS-Downgrade twice")

    def test_malformed(self) -> None:
        """
        So is a list that is malformed.
        """
        head = connectTo("a:1", NAMED, "TLS-Downgrade: none,")
        self.assertRefused(head, "the client's TLS-Downgrade field has an empty item")


class HeadTests(RefusalTestCase):
    """
    The heads that are written here.
    """

    def test_request(self) -> None:
        """
        A CONNECT has its target twice, and nothing that was not asked for.
        """
        self.assertEqual(
            connectHead("shop.example", 443), b"CONNECT shop.example:443 HTTP/1.1\r\nHost: shop.example:443\r\n\r\n"
        )
        self.assertEqual(
            connectHead("2001:db8::1", 8443, ("handshake", "none"), "Basic YTpi"),
            b"CONNECT [2001:db8::1]:8443 HTTP/1.1\r\n"
            b"Host: [2001:db8::1]:8443\r\n"
            b"Connection: TLS-Downgrade\r\n"
            b"TLS-Downgrade: handshake, none\r\n"
            b"Proxy-Authorization: Basic YTpi\r\n"
            b"\r\n",
        )

    def test_readAgain(self) -> None:
        """
        What is written here is read here as it was meant.
        """
        for host in ("shop.example", "192.0.2.1", "2001:db8::1"):
            request = readHead(connectHead(host, 1, ["connect", "none"], "Basic YTpi"))
            self.assertEqual(
                (request.method, request.host, request.port, request.authorization, request.downgrade),
                ("CONNECT", host, 1, "Basic YTpi", ("connect", "none")),
            )

    def test_noInjection(self) -> None:
        """
        What cannot be a part of a head is refused, and not repaired.
        """
        for host in ("", "a b", "a\r\nX: y", "a@b", "a/", "\xfc.example", "[::1]", "::1%eth0", "a:1"):
            self.assertRaises(ValueError, connectHead, host, 443)
        for port in (0, -1, 65536):
            self.assertRaises(ValueError, connectHead, "a", port)
        for wishes in (["none", "none"], ["a"], ["none\r\nX: y"]):
            self.assertRaises(ValueError, connectHead, "a", 443, wishes)
        for authorization in ("a\r\nX: y", "\xfc", "a\0"):
            self.assertRaises(ValueError, connectHead, "a", 443, (), authorization)
        self.assertRaises(ValueError, establishedHead, "later")

    def test_answer(self) -> None:
        """
        The answer says what was chosen, and nothing of it to who had no wishes.
        """
        self.assertEqual(establishedHead(), ESTABLISHED)
        wire = establishedHead("handshake")
        self.assertEqual(
            wire,
            b"HTTP/1.1 200 Connection established\r\nConnection: TLS-Downgrade\r\nTLS-Downgrade: handshake\r\n\r\n",
        )
        reader = AnswerReader()
        self.assertEqual(reader.read(wire), len(wire))
        self.assertEqual((reader.established, reader.downgrade), (True, "handshake"))
