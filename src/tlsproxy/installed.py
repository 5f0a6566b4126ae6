# -*- test-case-name: tests.test_installed -*-
"""
Which protocol handlers are installed, and which of them can be used.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from traceback import walk_tb
from types import ModuleType
from typing import Any, Final

import attr
from attrs import frozen, has
from twisted.plugin import getCache
from twisted.python.modules import getModule

import tlsproxy
import twisted.plugins
from tlsproxy.handleroptions import HandlerOption, optionsOf
from tlsproxy.interfaces import IHandlerOptions, IProtocolHandlerFactory
from tlsproxy.values import suggest

__all__ = ["Found", "Installed", "sentenceOf", "tellFailure"]

_ATTRS: Final = Path(attr.__file__).parent
_IMPORTLIB: Final = Path(importlib.__file__).parent
_OURS: Final = Path(tlsproxy.__file__).parent
_TWISTED: Final = Path(twisted.__file__).parent
_NO_KEYWORDS: Final = "No mandatory attributes allowed after an attribute with a default"


@frozen(kw_only=True)
class Found:
    """
    A handler that can be used.

    @ivar module: The module that registers it.
    @ivar options: The class of its options.
    @ivar keys: The options.
    """

    name: str
    help: str
    module: str
    options: type[Any]
    keys: tuple[HandlerOption, ...]


class Installed:
    """
    The handlers that are installed.  They are looked for when the first one is asked for, since that takes a while.
    """

    def __init__(self, package: ModuleType = twisted.plugins) -> None:
        """
        @param package: Where modules with plugins are.
        """
        self._package = package
        self._factories: dict[str, list[tuple[str, Any]]] | None = None
        self._broken: list[str] = []

    @property
    def names(self) -> tuple[str, ...]:
        """
        What is installed, whether it can be used or not.
        """
        return tuple(sorted(self._look()))

    @property
    def broken(self) -> tuple[str, ...]:
        """
        Modules that may register handlers, but cannot be imported: a sentence on each.
        """
        self._look()
        return tuple(self._broken)

    def module(self, name: str) -> str:
        """
        Tell which module registers a handler.
        """
        return self._look()[name][0][0]

    def find(self, name: str) -> Found:
        """
        Find a handler by its name, and import it.

        @raise ValueError: It cannot be used.  The sentence says why.
        """
        known = self._look()
        if name not in known:
            what = f"installed: {', '.join(sorted(known))}" if known else "none is installed"
            raise ValueError("; ".join([f"there is no handler {name!r}{suggest(name, known)}", what, *self._broken]))
        (module, factory), *others = known[name]
        if others:
            all = " and ".join([module, *(one for one, _ in others)])
            raise ValueError(f"there are several handlers {name!r}, of {all}: leave one of them installed")
        try:
            options = factory.options()
            if not (isinstance(options, type) and has(options) and IHandlerOptions.implementedBy(options)):
                raise ValueError(f"{options!r} is no attrs class that provides IHandlerOptions")
            return Found(name=name, help=factory.help, module=module, options=options, keys=optionsOf(options))
        except KeyboardInterrupt:
            raise
        except BaseException as e:
            raise ValueError(f"handler {name!r} of {module} cannot be used: {tellFailure(e)}") from e

    def _look(self) -> dict[str, list[tuple[str, Any]]]:
        if self._factories is not None:
            return self._factories
        found: dict[str, list[tuple[str, Any]]] = {}
        # As getPlugins does, but what fails is told to who asks, and not only to the log.
        cached = getCache(self._package)
        for dropin in cached.values():
            for plugin in dropin.plugins:
                if not any(one.isOrExtends(IProtocolHandlerFactory) for one in plugin.provided):
                    continue
                try:
                    factory = plugin.load()
                    name = str(factory.name)
                except KeyboardInterrupt:
                    raise
                except BaseException as e:
                    self._tellBroken(dropin.moduleName, e)
                else:
                    owners = found.setdefault(name, [])
                    if not any(other is factory for _, other in owners):
                        owners.append((dropin.moduleName, factory))
        for module in getModule(self._package.__name__).iterModules():
            if module.name.rpartition(".")[2] not in cached:
                try:
                    module.load()
                except KeyboardInterrupt:
                    raise
                except BaseException as e:
                    self._tellBroken(module.name, e)
        self._factories = found
        return found

    def _tellBroken(self, module: str, problem: BaseException) -> None:
        sentence = f"{module} cannot be imported: {tellFailure(problem)}"
        if sentence not in self._broken:
            self._broken.append(sentence)


def tellFailure(problem: BaseException) -> str:
    """
    Tell what kept a module from being used, in one line, and where in it that is.
    """
    sentence, place, cls = sentenceOf(problem), "", "a class"
    if isinstance(problem, SyntaxError):
        place = f"{problem.filename}:{problem.lineno}" if problem.filename else ""
    else:
        for frame, line in walk_tb(problem.__traceback__):
            file = Path(frame.f_code.co_filename)
            if file.is_relative_to(_ATTRS):
                made = frame.f_locals.get("cls")
                cls = f"the class {made.__name__}" if isinstance(made, type) else cls
            elif _isTheirs(file):
                place = f"{file}:{line}"
    if sentence.startswith(_NO_KEYWORDS):
        # What attrs says goes on with all that it knows of the attribute.
        sentence = f"{cls} has an option without a default: write @attrs.frozen(kw_only=True) above it"
    return f"{sentence} ({place})" if place else sentence


def _isTheirs(file: Path) -> bool:
    """
    Tell whether a file is part of a handler, and not of what has it imported.
    """
    for package, kept in ((_IMPORTLIB, ""), (_OURS, "handlers"), (_TWISTED, "plugins")):
        if file.is_relative_to(package) and not (kept and file.is_relative_to(package / kept)):
            return False
    return file.is_absolute()


def sentenceOf(problem: BaseException) -> str:
    """
    Tell an exception in one line.
    """
    if isinstance(problem, OSError) and problem.strerror:
        return f"{problem.filename}: {problem.strerror}" if problem.filename else problem.strerror
    # A validator of attrs has more arguments than its sentence, which comes first.
    said = problem.args[0] if problem.args and isinstance(problem.args[0], str) else str(problem)
    line = " ".join("".join(one if one.isprintable() else " " for one in said).split())
    if type(problem) in (ValueError, TypeError) and line:
        return line
    return f"{type(problem).__name__}: {line}" if line else type(problem).__name__
