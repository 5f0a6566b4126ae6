# -*- test-case-name: tests.enrolling.test_records -*-
"""
Tests for L{tlsproxy.enrolling.records}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.enrolling.certifying import START
from tlsproxy.enrolling.records import Refused, Theft, TokenRecord, isName


class RecordTests(SynchronousTestCase):
    """
    What is told.
    """

    def test_names(self) -> None:
        """
        A name is one segment of a URI and of a path, whatever it is.
        """
        for name in ("a", "Z", "0", "alice", "alice.laptop", "a-b_c.d", "a..b", "a" * 64):
            self.assertTrue(isName(name), name)
        for name in (
            "",
            ".",
            "..",
            ".a",
            "-a",
            "_a",
            "a" * 65,
            "a b",
            "a/b",
            "a\n",
            "ä",
            "a%2f",
            "*",
            "a:b",
            "a\0",
            "١",
        ):
            self.assertFalse(isName(name), name)

    def test_refused(self) -> None:
        """
        What a client may know is what the log says, unless it is something else.
        """
        refused = Refused("used", "the token 00 of alice has been used", "the token is not good")
        self.assertEqual(
            ("used", "the token 00 of alice has been used", "the token is not good"),
            (refused.reason, str(refused), refused.public),
        )
        self.assertEqual("it is so", Theft("theft", "it is so").public)

    def test_storedKeyIsNotShown(self) -> None:
        """
        What proofs are verified with is not shown.
        """
        record = TokenRecord("00", "alice", START, START, False, False, b"storedKey")
        self.assertNotIn("storedKey", repr(record))
