# -*- test-case-name: tests.commands.test_parser -*-
"""
L{tlsproxy.commands.parser}: what is said of a command line that cannot be understood.
"""

from __future__ import annotations

from tests.commands.tool import ToolTestCase


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
