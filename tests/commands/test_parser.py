# -*- test-case-name: tests.commands.test_parser -*-
"""
L{tlsproxy.commands.parser}: what is said of a command line that cannot be understood.
"""

from __future__ import annotations

from datetime import timedelta

from tests.commands.tool import ToolTestCase
from tlsproxy.commands.parser import duration


class ParserTests(ToolTestCase):
    """
    One sentence, and not all that would be right.
    """

    def test_wrong(self) -> None:
        """
        It says what is wrong, and where to read more.
        """
        self.assertEqual(
            "tlsproxy: unrecognized arguments: more; see tlsproxy --help\n", self.refused("handlers", "more", status=2)
        )

    def test_duration(self) -> None:
        """
        A time is a number and its unit, and nothing else.
        """
        for text, seconds in (("90s", 90), ("30m", 1800), ("24h", 86400), ("2d", 172800)):
            self.assertEqual(timedelta(seconds=seconds), duration(text))
        for text in ("", "h", "24", "24 h", "-1h", "0h", "1.5h", "24H", "\u0661h", "1w", "1000000d", "1h\n"):
            self.assertRaises(ValueError, duration, text)
