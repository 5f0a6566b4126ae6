# -*- test-case-name: tests.test_plugin -*-
"""
Plugins: what registers handlers, and C{twisted/plugins/tlsproxy_plugin.py}.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from twisted.application.service import IServiceMaker
from twisted.plugin import IPlugin, getPlugins
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.shouting import Quiet
from tlsproxy.handler import HandlerFactory as theSame
from tlsproxy.interfaces import IProtocolHandlerFactory
from tlsproxy.plugin import HandlerFactory


class FactoryTests(SynchronousTestCase):
    """
    What registers a handler.
    """

    def test_factory(self) -> None:
        """
        It is a plugin with a name and a line of help, and imports the class when it is asked for.
        """
        factory = HandlerFactory("quiet-2", "tests.shouting.Quiet", "does nothing")
        self.assertTrue(verifyObject(IProtocolHandlerFactory, factory) and verifyObject(IPlugin, factory))
        self.assertEqual(("quiet-2", "does nothing"), (factory.name, factory.help))
        self.assertIs(Quiet, factory.options())
        self.assertIs(HandlerFactory, theSame)

    def test_names(self) -> None:
        """
        A name is lower-case letters, digits and hyphens, so that it needs quotes nowhere.
        """
        for name in ("", "Quiet", "2quiet", "quiet:", "a b", "a_b", "a\n", "-a", "\xe9"):
            error = self.assertRaises(ValueError, HandlerFactory, name, "tests.shouting.Quiet", "")
            self.assertEqual(f"{name!r} is no name for a handler: lower-case letters, digits and hyphens", str(error))

    def test_places(self) -> None:
        """
        Where the class is has to be told in full, and as a string; a slip is told when the module is imported.
        """
        where: Any
        for where in ("Quiet", "", "tests.shouting:Quiet", "tests.", ".Quiet", "tests.shouting.Quiet()", Quiet, None):
            error = self.assertRaises(ValueError, HandlerFactory, "quiet", where, "")
            self.assertEqual(f"{where!r} is no place of a class: give 'package.module.Class'", str(error))

    def test_nowhere(self) -> None:
        """
        What is not there, or makes no handlers, is told when it is asked for, and not before.
        """
        for where, kind in (
            ("no_such_module_at_all.Quiet", ModuleNotFoundError),
            ("tests.shouting.Nothing", AttributeError),
            ("tests.shouting.size", TypeError),
            ("tlsproxy.route.Route", TypeError),
        ):
            self.assertRaises(kind, HandlerFactory("quiet", where, "").options)


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

    def test_light(self) -> None:
        """
        Every C{twistd} imports the module, for whatever command.  It brings along nothing of the proxy but words.
        """
        program = (
            "import sys; import twisted.plugins.tlsproxy_plugin;"
            "print(*sorted(one for one in sys.modules if one.startswith(('tlsproxy', 'OpenSSL', 'cryptography'))))"
        )
        printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        self.assertEqual("tlsproxy tlsproxy._version tlsproxy.interfaces tlsproxy.plugin", printed.strip())
