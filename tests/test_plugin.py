# -*- test-case-name: tests.test_plugin -*-
"""
Tests for C{twisted/plugins/tlsproxy_plugin.py}.
"""

from __future__ import annotations

from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase


class PluginTests(SynchronousTestCase):
    """
    C{twistd} and C{twist} find the C{tlsproxy} command.
    """

    def test_found(self) -> None:
        """
        There is one C{tlsproxy} among the services, it has a description, and no plugin failed to import: Twisted logs
        such a failure and goes on without the plugin.
        """
        found = [maker for maker in getPlugins(IServiceMaker) if maker.tapname == "tlsproxy"]
        self.assertEqual([], self.flushLoggedErrors())
        self.assertEqual(1, len(found))
        self.assertIn("TLS", found[0].description)

    def test_options(self) -> None:
        """
        The command's options can be loaded.
        """
        (maker,) = (maker for maker in getPlugins(IServiceMaker) if maker.tapname == "tlsproxy")
        self.assertIn("--mode", maker.options().getUsage())
