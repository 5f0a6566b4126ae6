# -*- test-case-name: tests.enrolling.test_renewal_refresh -*-
"""
L{tlsproxy.enrolling.renewal}: somebody asks for the mapping.
"""

from __future__ import annotations

from datetime import timedelta

from tests.enrolling.enrolled import DAY, LIFE, EnrolledCase, mappingOf
from tlsproxy.enrolling.asking import AskingExpired, AskingFailed, AskingRefused

MINUTE = timedelta(minutes=1)


class RefreshTests(EnrolledCase):
    """
    Before it is due.
    """

    def test_atOnce(self) -> None:
        """
        It is fetched at once, and then no more until it is due.
        """
        renewal = self.start()
        self.pass_(MINUTE)
        self.reverse.handed = mappingOf(2)
        renewal.refresh()
        self.assertEqual((["mapping"], 2, 1), (self.reverse.asked, self.version(), self.changes))
        self.pass_(DAY - MINUTE)
        self.assertEqual(["mapping"], self.reverse.asked)

    def test_apart(self) -> None:
        """
        However often somebody asks, it is fetched once in ten seconds, and once after the last time.
        """
        renewal = self.start()
        self.pass_(MINUTE)
        for _ in range(300):
            renewal.refresh()
            self.clock.advance(0.1)
        self.assertEqual(3, len(self.reverse.asked))
        self.reverse.handed = mappingOf(2)
        renewal.refresh()
        self.pass_(MINUTE, 1)
        self.assertEqual((4, 2), (len(self.reverse.asked), self.version()))

    def test_startsOften(self) -> None:
        """
        A client proxy that is started again and again asks no more often than that, either.
        """
        for _ in range(30):
            renewal = self.start()
            renewal.refresh()
            self.clock.advance(1)
            renewal.stop()
        self.assertEqual(3, len(self.reverse.asked))

    def test_notYet(self) -> None:
        """
        Before it is started, nobody is asked.
        """
        renewal = self.start()
        renewal.stop()
        self.pass_(MINUTE)
        renewal.refresh()
        self.assertEqual([], self.reverse.asked)
        renewal.start()
        self.clock.advance(0)
        self.assertEqual(["mapping"], self.reverse.asked)

    def test_away(self) -> None:
        """
        Where the reverse proxy is away, it is asked less and less often, whoever asks for it, until it is back.
        """
        renewal = self.start()
        self.pass_(MINUTE)
        self.reverse.trouble = AskingFailed("the reverse proxy refuses connections")
        for _ in range(600):
            renewal.refresh()
            self.clock.advance(1)
        self.assertEqual(6, len(self.reverse.asked))
        self.reverse.trouble = None
        self.reverse.handed = mappingOf(2)
        self.pass_(15 * MINUTE, 10)
        self.assertEqual((2, ""), (self.version(), renewal.tell()["last_failure"]))

    def test_renewal(self) -> None:
        """
        A renewal that is due brings it along.
        """
        renewal = self.start()
        self.slept = LIFE * 3 / 4
        self.reverse.handed = mappingOf(2)
        renewal.refresh()
        self.pass_(MINUTE, 1)
        self.assertEqual((["renew"], 2), (self.reverse.asked, self.version()))

    def test_meanwhile(self) -> None:
        """
        What is asked for while one is on its way is done after that, as there may be a later one by then.
        """
        renewal = self.start()
        self.pass_(MINUTE)
        check = self.reverse.mapping

        async def slow(enrollment: object) -> bytes:
            self.patch(self.reverse, "mapping", check)
            handed = self.reverse.handed
            self.reverse.handed = mappingOf(2)
            renewal.refresh()
            return handed

        self.patch(self.reverse, "mapping", slow)
        renewal.refresh()
        self.assertEqual(1, self.version())
        self.pass_(MINUTE, 1)
        self.assertEqual((["mapping"], 2), (self.reverse.asked, self.version()))

    def test_expired(self) -> None:
        """
        Where the reverse proxy finds our certificate expired, only to enroll again helps, or to set the clocks right.
        """
        renewal = self.start()
        self.reverse.trouble = AskingExpired("the reverse proxy finds our certificate expired")
        for slept, words in ((DAY, "; set the clocks right, or enroll again"), (2 * LIFE, "expired; enroll again")):
            self.slept = slept
            renewal.refresh()
            self.pass_(15 * MINUTE, 10)
            told = [line for line in self.errors() if "finds our certificate" in line]
            self.assertIn(words, told[0])
            self.assertIn("tlsproxy enroll https://enroll.dmz.example:8443/ --token-file FILE", told[0])

    def test_refused(self) -> None:
        """
        Where the certificate is good for nothing any more, that is told without waiting for the renewal.
        """
        renewal = self.start()
        self.pass_(MINUTE)
        self.reverse.trouble = AskingRefused("the reverse proxy says: this certificate does not let you have that", 403)
        renewal.refresh()
        (error,) = self.errors()
        self.assertIn("let you have that; enroll again, with a new token: tlsproxy enroll https://", error)
