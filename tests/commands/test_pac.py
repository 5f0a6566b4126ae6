# -*- test-case-name: tests.commands.test_pac -*-
"""
L{tlsproxy.commands.pac}: C{tlsproxy pac}.
"""

from __future__ import annotations

from tests.commands.tool import ToolTestCase
from tlsproxy.clientroutes import clientRoute


class PacTests(ToolTestCase):
    """
    The PAC file.
    """

    def test_printed(self) -> None:
        """
        It is what the proxy itself gives out, for the address that it listens on, and names no other way.
        """
        file = self.configure(self.client("[::1]:3128"))
        printed, told = self.run_("pac", "--config", file)
        self.assertEqual((clientRoute(file, None)[1].pacFile("[::1]:3128") + "\n", ""), (printed, told))
        self.assertIn('return "PROXY [::1]:3128";', printed)
        self.assertIn("bank", printed)

    def test_refused(self) -> None:
        """
        What cannot be told is told in one sentence.
        """
        self.assertIn("a Unix socket", self.refused("pac", "--config", self.configure(self.client("unix:s"))))
        self.assertIn("called 'x'", self.refused("pac", "--config", self.configure(self.client()), "--route", "x"))
        self.assertIn("is not TOML", self.refused("pac", "--config", self.configure("[")))
        self.refused("pac", status=2)
