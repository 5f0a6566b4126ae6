# -*- test-case-name: tests.test_peers -*-
"""
Tests for L{tests.peers}.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.peers import requireModule, requirePeer


class RequireTests(SynchronousTestCase):
    """
    A missing peer skips a test, unless the run was told that no peer may be missing.
    """

    def setUp(self) -> None:
        """
        Forget what the run was told.
        """
        environment = dict(os.environ)
        environment.pop("TLSPROXY_REQUIRE_PEERS", None)
        self.patch(os, "environ", environment)

    def assertMissing(self, require: Callable[[str], object]) -> None:
        """
        Require something that does not exist, in both kinds of run.

        @param require: the function under test.
        """
        name = "no_such_thing_anywhere"
        skipped = self.assertRaises(SkipTest, require, name)
        self.assertIn(name, str(skipped))
        os.environ["TLSPROXY_REQUIRE_PEERS"] = "1"
        failed = self.assertRaises(AssertionError, require, name)
        self.assertIn(name, str(failed))

    def test_programFound(self) -> None:
        """
        A program that is installed is told by its absolute path.
        """
        path = requirePeer("sh")
        self.assertTrue(os.path.isabs(path))
        self.assertTrue(os.access(path, os.X_OK))

    def test_programOutsideTheSearchPath(self) -> None:
        """
        A search path that holds nothing does not hide the programs of the system.
        """
        os.environ["PATH"] = self.mktemp()
        self.assertTrue(os.path.isabs(requirePeer("sh")))

    def test_programMissing(self) -> None:
        """
        A missing program skips the test, or fails it with C{TLSPROXY_REQUIRE_PEERS=1}; both name it.
        """
        self.assertMissing(requirePeer)

    def test_moduleFound(self) -> None:
        """
        A module that can be imported passes.
        """
        requireModule("twisted")

    def test_moduleMissing(self) -> None:
        """
        A missing module skips the test, or fails it with C{TLSPROXY_REQUIRE_PEERS=1}; both name it.
        """
        self.assertMissing(requireModule)
