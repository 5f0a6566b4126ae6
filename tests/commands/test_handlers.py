# -*- test-case-name: tests.commands.test_handlers -*-
"""
L{tlsproxy.commands.handlers}: C{tlsproxy handlers}.
"""

from __future__ import annotations

from tests.commands.tool import ToolTestCase
from tests.shouting import SHOUTING, installed
from tlsproxy.commands import handlers


class HandlersTests(ToolTestCase):
    """
    The list of handlers.
    """

    def test_handlers(self) -> None:
        """
        All handlers are listed with their options, and those that cannot be used with the reason.
        """
        broken = (
            'from tlsproxy.plugin import HandlerFactory\nx = HandlerFactory("broken", "tests.shouting.Nothing", "")'
        )
        there = installed(self, shouting=SHOUTING, broken=broken, worse="import no_such_module_at_all")
        self.patch(handlers, "Installed", lambda: there)
        printed, told = self.run_("handlers")
        self.assertEqual(1, len(self.flushLoggedErrors(ModuleNotFoundError)))
        self.assertEqual("", told)
        lines = printed.splitlines()
        self.assertRegex(lines[0], r"^handler 'broken' of \S+\.broken cannot be used: AttributeError: ")
        self.assertRegex(lines[-1], r"\.worse cannot be imported: ModuleNotFoundError: ")
        for line in (
            "needy: cannot do without",
            "  file=FILE                     where to write; required",
            "quiet: does nothing",
            "  tune=rising|falling           which tune [rising]",
            "  pause=SECONDS                 how long to take breath [0.5]",
            "  others=WORDS                  what else to shout",
            "  bars=WORDS                    how long [4,4]",
        ):
            self.assertIn(line, lines)
        for line in lines[1:-1]:
            self.assertTrue(len(line) <= 120 and line.isprintable(), line)

    def test_handlersInTheBox(self) -> None:
        """
        What comes with tlsproxy is listed.
        """
        printed, told = self.run_("handlers")
        self.assertEqual("", told)
        for name in ("rate: ", "starttls-smtp: ", "tap: "):
            self.assertIn("\n" + name, "\n" + printed)
        self.assertNotIn("cannot be used", printed)
