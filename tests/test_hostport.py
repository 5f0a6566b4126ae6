# -*- test-case-name: tests.test_hostport -*-
"""
HOST:PORT as people write it; how it is refused is told with addresses, in L{tests.test_address}.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.hostport import parseHost, parsePlace, parsePort, writePlace


class PlaceTests(SynchronousTestCase):
    """
    What is read is what is written.
    """

    def test_good(self) -> None:
        """
        A port, a port of a host, and a port of an IPv6 address.
        """
        for text, place in (
            ("0", ("", 0)),
            ("8443", ("", 8443)),
            ("host.example:443", ("host.example", 443)),
            ("192.0.2.1:65535", ("192.0.2.1", 65535)),
            ("[fe80::1%lo]:443", ("fe80::1%lo", 443)),
        ):
            self.assertEqual(place, parsePlace(text, text))
            self.assertEqual(text, writePlace(*place))

    def test_whole(self) -> None:
        """
        What is wrong is told with all that it stands in.
        """
        for text, sentence in (
            ("host:x", "'udp:host:x': 'x' is no port; ports go from 0 to 65535"),
            ("host", "'udp:host' names no port: give HOST:PORT"),
            (":1", "'udp::1' names no host"),
            ("::1:1", "'udp:::1:1': put an IPv6 address in brackets, as in [::1]:443"),
            ("a b:1", "'udp:a b:1': 'a b' is no host name"),
            ("[::1]", "'udp:[::1]': brackets hold an IPv6 address, and a port follows, as in [::1]:443"),
        ):
            error = self.assertRaises(ValueError, parsePlace, text, f"udp:{text}")
            self.assertEqual(sentence, str(error))

    def test_parts(self) -> None:
        """
        A host and a port can be read by themselves.
        """
        self.assertEqual(("host", 80), (parseHost("host", "all"), parsePort("80", "all")))
        self.assertEqual("'all' names no host", str(self.assertRaises(ValueError, parseHost, "", "all")))
        self.assertIn("'' is no port", str(self.assertRaises(ValueError, parsePort, "", "all")))

    @given(st.one_of(st.text(), st.text(alphabet="[]:.% 0123456789abho", max_size=20)))
    def test_anything(self, text: str) -> None:
        """
        Whatever the text, it is refused with a sentence, or reads the same again when it is written.
        """
        try:
            place = parsePlace(text, text)
        except ValueError as e:
            self.assertTrue(str(e).isprintable())
        else:
            self.assertEqual(place, parsePlace(writePlace(*place), text))
