# -*- test-case-name: tests.enrolling.test_enrollment -*-
"""
L{tlsproxy.enrolling.enrollment}: what a client proxy remembers.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.mappingsigning import AUDIENCE, NOW
from tlsproxy.address import TCP
from tlsproxy.enrolling.enrollment import Enrollment, parseURL
from tlsproxy.signedmapping import Trust

URL = "https://enroll.dmz.example:8443/"
GOOD = Enrollment(
    url=URL,
    connect="192.0.2.1:8443",
    serverName="dmz.example",
    trust=Trust((bytes(32), b"x" * 32), AUDIENCE, 7, b"d" * 32),
    fetched=NOW,
    serial=12345,
    renewAt=NOW + timedelta(days=5),
)


class URLTests(SynchronousTestCase):
    """
    Where one enrolls.
    """

    def test_good(self) -> None:
        """
        A name and a port, 443 where none is said.
        """
        for text, where in (
            (URL, TCP("enroll.dmz.example", 8443)),
            ("HTTPS://Enroll.DMZ.example", TCP("enroll.dmz.example", 443)),
            ("https://enroll.localhost:1", TCP("enroll.localhost", 1)),
        ):
            self.assertEqual(where, parseURL(text))

    def test_wrong(self) -> None:
        """
        What is something else is refused in a sentence that can be printed, and does not show what may be a secret.
        """
        for text, words in (
            ("http://enroll.dmz.example", "begin with https://"),
            ("enroll.dmz.example:8443", "begin with https://"),
            ("", "begin with https://"),
            ("https://", "empty"),
            ("https://:8443", "names no host"),
            ("https://ann:secret@dmz.example", "has a user in it"),
            ("https://dmz.example/enroll", "more in it than name and port"),
            ("https://dmz.example/?token=secret", "more in it than name and port"),
            ("https://dmz.example#secret", "more in it than name and port"),
            ("https://dmz.example?", "more in it than name and port"),
            ("https://dmz.example:0", "port"),
            ("https://dmz.example:70000", "ports end at 65535"),
            ("https://dmz.example:", "no port after it"),
            ("https://dmz.example:x", "is no number"),
            ("https://192.0.2.1:8443", "--connect"),
            ("https://[::1]:8443", "--connect"),
            ("https://[::1", "is no URL"),
            ("https://d m z", "spaces"),
            ("https://dmz\x00", "spaces or control"),
            ("https://m\u00fcnchen.example", "ASCII"),
        ):
            with self.assertRaises(ValueError) as caught:
                parseURL(text)
            self.assertIn(words, str(caught.exception), text)
            self.assertTrue(str(caught.exception).isprintable())
            self.assertNotIn("secret", str(caught.exception))

    @given(st.text(max_size=40))
    def test_anything(self, text: str) -> None:
        """
        Whatever comes is read or refused.
        """
        for whole in (text, f"https://{text}", f"https://a.example{text}"):
            try:
                self.assertIsInstance(parseURL(whole), TCP)
            except ValueError:
                pass


class EnrollmentTests(SynchronousTestCase):
    """
    What is remembered.
    """

    def test_same(self) -> None:
        """
        It is read as it was written.
        """
        self.assertEqual(GOOD, Enrollment.parse(GOOD.text()))
        fresh = Enrollment(url=URL, serverName="dmz.example", trust=Trust((), AUDIENCE))
        self.assertEqual(fresh, Enrollment.parse(fresh.text()))

    def test_where(self) -> None:
        """
        The reverse proxy is where the URL says, or where it is said to be instead.
        """
        self.assertEqual(TCP("192.0.2.1", 8443), GOOD.where)
        self.assertEqual(
            TCP("enroll.dmz.example", 8443), Enrollment(url=URL, serverName="x", trust=Trust((), AUDIENCE)).where
        )

    def test_renews(self) -> None:
        """
        The time to renew is what the reverse proxy says, by our clock and by its own, whichever is first, and never at
        once.
        """
        day = timedelta(days=1)
        for ends, at in ((NOW + 6 * day, 4 * day), (NOW + 5 * day, 3 * day), (NOW + 2 * day, day), (NOW - day, day)):
            renewed = GOOD.renews(7, NOW, (4 * day).total_seconds(), ends)
            self.assertEqual((7, NOW + at), (renewed.serial, renewed.renewAt))

    def test_renewsWithoutEnd(self) -> None:
        """
        A reverse proxy that would have a certificate renewed at once gets no more than what a client proxy has to
        spare.
        """
        for life, least in ((7 * 86400.0, 60.0), (30.0, 10.0), (1.0, 5.0)):
            renewed = GOOD.renews(7, NOW, 0.0, NOW + timedelta(seconds=life))
            self.assertEqual(NOW + timedelta(seconds=least), renewed.renewAt)

    def test_damaged(self) -> None:
        """
        What is something else is refused.
        """
        good = json.loads(GOOD.text())
        others: tuple[Any, ...] = (True, "\x00", [], {}, -1, 1e300)
        bad: list[dict[str, Any]] = [{key: other} for key in good for other in others]
        bad += [{"format": 2}, {"mapping_keys": ["AAAA"]}, {"mapping_digest": "00"}, {"connect": "a:b"}, {"url": "x"}]
        refused = 0
        for change in bad:
            try:
                Enrollment.parse(json.dumps({**good, **change}).encode())
            except ValueError as e:
                self.assertIn("is damaged, or of another version", str(e))
                refused += 1
        # Some words may be any text, and some times are none.
        self.assertGreater(refused, len(bad) * 3 // 4)
        for key in good:
            with self.assertRaises(ValueError):
                Enrollment.parse(json.dumps({name: one for name, one in good.items() if name != key}).encode())

    @given(st.binary(max_size=100))
    def test_anything(self, data: bytes) -> None:
        """
        Whatever is there is refused in a sentence.
        """
        with self.assertRaises(ValueError):
            Enrollment.parse(data)
