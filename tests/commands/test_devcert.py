# -*- test-case-name: tests.commands.test_devcert -*-
"""
L{tlsproxy.commands.devcert}: C{tlsproxy devcert}.
"""

from __future__ import annotations

import os

from tests.commands.tool import ToolTestCase


class DevcertTests(ToolTestCase):
    """
    Certificates for examples.
    """

    def test_devcert(self) -> None:
        """
        The files are made, listed, and good for the names.
        """
        names = ["ca.pem", "server.pem", "server-key.pem", "client.pem", "client-key.pem"]
        printed, told = self.run_("devcert", "more", "app.example", "192.0.2.1")
        self.assertEqual(([f"more/{name}" for name in names], ""), (printed.splitlines(), told))
        self.assertEqual(set(names), set(os.listdir("more")))

    def test_devcertRefused(self) -> None:
        """
        What cannot be done is told with one sentence: a name that is none, a place that is taken.
        """
        self.run_("devcert", "made")
        self.file("", "plain")
        for words in (("made",), ("more", "no name"), ("plain",), ("plain/below",)):
            told = self.refused("devcert", *words)
            self.assertRegex(told, r"^tlsproxy: .*\n$")
            self.assertOneSentence(told[:-1])
