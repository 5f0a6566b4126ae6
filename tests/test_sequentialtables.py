# -*- test-case-name: tests.test_sequentialtables -*-
"""
L{tlsproxy.sequentialtables}: when and how the TLS between two proxies comes off.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.downgrade import Downgrade
from tlsproxy.reading import Reader
from tlsproxy.sequentialtables import readDowngrade
from tlsproxy.settings import RouteSettings


class DowngradeTests(SynchronousTestCase):
    """
    C{downgrade} and what goes with it.
    """

    def read(self, settings: RouteSettings) -> tuple[Downgrade, list[str], list[str]]:
        """
        Read it, with what is wrong and what is doubtful.
        """
        reader, warnings = Reader(Path()), list[str]()
        found = readDowngrade(reader, settings, "route[0]", warnings)
        return found, [str(one) for one in reader.problems], warnings

    def test_default(self) -> None:
        """
        After the handshake, in place, and only the beginning is looked at.
        """
        self.assertEqual((Downgrade(), [], []), self.read(RouteSettings()))

    def test_given(self) -> None:
        """
        What is said is taken.
        """
        settings = RouteSettings(downgrade="none", takeOff="loopback", framing="always")
        self.assertEqual((Downgrade(value="none", takeOff="loopback", framing="always"), [], []), self.read(settings))

    def test_unsafe(self) -> None:
        """
        What is unsafe has to be called so, and is warned of nevertheless.
        """
        _, problems, warnings = self.read(RouteSettings(downgrade="connect"))
        self.assertEqual(([], 1), (warnings, len(problems)))
        self.assertTrue(problems[0].startswith('route[0].downgrade: "connect" lets whoever '))
        self.assertTrue(problems[0].endswith("or add unsafe_connect = true"))
        found, problems, warnings = self.read(RouteSettings(downgrade="connect", unsafeConnect=True))
        self.assertEqual(("connect", [], 1), (found.value, problems, len(warnings)))
        self.assertIn("is unsafe", warnings[0])
