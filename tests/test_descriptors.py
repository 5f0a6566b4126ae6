# -*- test-case-name: tests.test_descriptors -*-
"""
L{tlsproxy.descriptors}
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.descriptors import allowed, left

LIMITED = """
import os, resource
from tlsproxy.descriptors import left
resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
have = len(os.listdir("/dev/fd")) - 1
print(left(100) - (20 - have), left(3), len(os.listdir("/dev/fd")) - 1 - have)
for _ in range(20 - have):
    os.dup(0)
print(left(3))
"""


class LeftTests(SynchronousTestCase):
    """
    What can be had.
    """

    def test_most(self) -> None:
        """
        No more are looked for than somebody wants to know of, and none is kept.
        """
        before = os.listdir("/dev/fd")
        self.assertEqual([0, 1, 10], [left(most) for most in (0, 1, 10)])
        self.assertEqual(before, os.listdir("/dev/fd"))

    def test_few(self) -> None:
        """
        Where there are fewer, it is told how many.
        """
        run = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=True)
        self.assertEqual("0 3 0\n0\n", run.stdout)

    def test_allowed(self) -> None:
        """
        The limit is the process's own; where it has none, it is a large number.
        """
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE)[0], allowed())
        self.patch(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        self.assertGreater(allowed(), 1 << 40)
