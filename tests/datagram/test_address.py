# -*- test-case-name: tests.datagram.test_address -*-
"""
Addresses of datagrams as people write them.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.address import (
    Address,
    CannotListen,
    asAddress,
    isDirect,
    listen,
    parseAddress,
    parseListen,
    parseUpstream,
)
from tlsproxy.datagram.address import UDP, parseUDP


class ParseTests(SynchronousTestCase):
    """
    What is understood, and what is refused.
    """

    def test_good(self) -> None:
        """
        A port, a port of a host, and a port of an IPv6 address mean the same for receiving and for sending.
        """
        for text, expected in (
            ("udp:8443", UDP("", 8443)),
            ("udp:host.example:443", UDP("host.example", 443)),
            ("udp:127.0.0.1:443", UDP("127.0.0.1", 443)),
            ("udp:[::1]:443", UDP("::1", 443)),
            ("udp:unix:443", UDP("unix", 443)),
        ):
            for parse in (parseUDP, parseAddress, parseListen, parseUpstream, asAddress):
                self.assertEqual(expected, parse(text))
                self.assertEqual(text, str(parse(text)))
            self.assertIsInstance(expected, Address)

    def test_wrong(self) -> None:
        """
        What is wrong is refused with what is wrong about it.
        """
        for text, sentence in (
            ("udp:", "'udp:' is no address of datagrams: give udp:PORT or udp:HOST:PORT"),
            ("udp:99999", "'udp:99999': '99999' is no port; ports go from 0 to 65535"),
            ("udp:host", "'udp:host' names no port: give HOST:PORT"),
            ("udp::443", "'udp::443' names no host"),
            ("udp:::1:443", "'udp:::1:443': put an IPv6 address in brackets, as in [::1]:443"),
            ("udp:8443:interface=::1", "'udp:8443:interface=::1': put an IPv6 address in brackets, as in [::1]:443"),
            ("udp:8443:interface=lo", "'udp:8443:interface=lo': 'interface=lo' is no port; ports go from 0 to 65535"),
        ):
            for parse in (parseUDP, parseAddress, parseListen, parseUpstream):
                self.assertEqual(sentence, str(self.assertRaises(ValueError, parse, text)))
        self.assertRaises(ValueError, parseUDP, "8443")

    def test_portOfTheKernel(self) -> None:
        """
        The kernel may choose where datagrams are received, and nobody can be reached there.
        """
        self.assertEqual(UDP("", 0), parseListen("udp:0"))
        for text in ("udp:0", "udp:host:0"):
            error = self.assertRaises(ValueError, parseUpstream, text)
            self.assertEqual(f"{text!r}: nobody can be reached at port 0", str(error))

    def test_noStream(self) -> None:
        """
        It is no socket that TLS could run on.
        """
        self.assertFalse(isDirect(UDP("", 8443)))

    def test_noStreamComes(self) -> None:
        """
        Nor can streams be listened for there.
        """
        coming = Deferred.fromCoroutine(listen(None, UDP("", 8443), Factory()))
        error = self.failureResultOf(coming, CannotListen).value
        self.assertEqual("cannot listen on udp:8443: its clients send datagrams, and not streams", str(error))

    @given(st.one_of(st.text(), st.text(alphabet="[]:.% 0123456789abho", max_size=20)))
    def test_anything(self, text: str) -> None:
        """
        Whatever follows, it is refused with a sentence, or reads the same again when it is written.
        """
        try:
            where = parseUDP(f"udp:{text}")
        except ValueError as e:
            self.assertTrue(str(e).isprintable())
        else:
            self.assertEqual(where, parseUDP(str(where)))
