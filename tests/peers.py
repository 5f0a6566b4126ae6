# -*- test-case-name: tests.test_peers -*-
"""
The other programs that tests talk to, and what a test does when one of them is not installed.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from shutil import which
from typing import NoReturn
from unittest import SkipTest

_SYSTEM_PATH = os.pathsep.join([os.defpath, "/usr/local/sbin", "/usr/sbin", "/sbin"])


def requirePeer(name: str) -> str:
    """
    Find a program that a test cannot do without.

    Servers often stand in a C{sbin} folder that is not on everybody's search path, so these are tried as well.

    @param name: the program's file name, such as C{"nginx"}.
    @return: the program's absolute path.
    @raise SkipTest: when the program is missing.
    @raise AssertionError: when the program is missing and C{TLSPROXY_REQUIRE_PEERS=1} is set.
    """
    path = which(name) or which(name, path=_SYSTEM_PATH)
    if path is None:
        _missing(f"the program {name}")
    return os.path.abspath(path)


def requireModule(name: str) -> None:
    """
    Make sure of a Python module that a test cannot do without, and that is no dependency of tlsproxy itself.

    @param name: the module's name; not one inside a package.
    @raise SkipTest: when the module is missing.
    @raise AssertionError: when the module is missing and C{TLSPROXY_REQUIRE_PEERS=1} is set.
    """
    if find_spec(name) is None:
        _missing(f"the Python module {name}")


def _missing(what: str) -> NoReturn:
    """
    Give up the running test for the want of something.

    @param what: what is missing, in words.
    """
    message = f"{what} is not installed"
    if os.environ.get("TLSPROXY_REQUIRE_PEERS") == "1":
        raise AssertionError(message)
    raise SkipTest(message)
