# -*- test-case-name: tests.test_plugin -*-
"""
What a module of C{twisted.plugins} needs to register a protocol handler, and nothing else: C{twistd} imports all these
modules at every start, for whatever command.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from attrs import has
from twisted.plugin import IPlugin
from zope.interface import implementer

from tlsproxy.interfaces import IHandlerOptions, IProtocolHandlerFactory

__all__ = ["HandlerFactory"]


@implementer(IPlugin, IProtocolHandlerFactory)
class HandlerFactory:
    """
    Registers a handler under a name.  An instance of it, in a module of C{twisted.plugins}, is all that it takes.

    @ivar name: The word for it in C{--handler} and C{[[route.handler]]}.
    @ivar help: What it is for, in one line.
    """

    def __init__(self, name: str, where: str, help: str) -> None:
        """
        @param where: The class of its options, as in C{"package.module.Class"}; it is imported when it is asked for.
        @raise ValueError: The name is none, or that of the class.
        """
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            raise ValueError(f"{name!r} is no name for a handler: lower-case letters, digits and hyphens")
        if not (isinstance(where, str) and re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", where)):
            raise ValueError(f"{where!r} is no place of a class: give 'package.module.Class'")
        self.name = name
        self.help = help
        self._where = where

    def options(self) -> type[Any]:
        """
        See L{IProtocolHandlerFactory}.

        @raise TypeError: What is found there makes no handlers.
        """
        module, _, name = self._where.rpartition(".")
        found: Any = getattr(import_module(module), name)
        if not (isinstance(found, type) and has(found) and IHandlerOptions.implementedBy(found)):
            raise TypeError(f"{self._where} is no attrs class that provides IHandlerOptions")
        return found
