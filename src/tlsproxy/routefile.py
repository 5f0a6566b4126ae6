# -*- test-case-name: tests.test_routefile -*-
"""
From a file of routes to the one that a program listens or connects by.

Such a route leaves out what the program itself stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from typing import Any, Final

from attrs import evolve
from twisted.internet.task import Clock
from twisted.logger import Logger

from tlsproxy.config import Configuration, loadFile
from tlsproxy.endpoints import RouteClientEndpoint, RouteServerEndpoint
from tlsproxy.errors import ConfigurationError
from tlsproxy.patterns.encrypt import Encrypt
from tlsproxy.patterns.passthrough import Passthrough
from tlsproxy.route import Route

__all__ = ["checkParts", "loadClientRoute", "loadServerRoute"]

_log = Logger()

_COMPLETED: Final = {"listen": "127.0.0.1:0", "upstream": "127.0.0.1:9"}
"""What stands for the addresses that a file may leave out; nobody listens there or dials it."""
_PROGRAMS: Final[Mapping[str, Set[str]]] = {
    "offload": frozenset({"upstream"}),
    "encrypt": frozenset({"listen"}),
    "passthrough": frozenset({"listen"}),
}
"""What a route of each mode may leave out for a program that listens or connects by it."""


def loadServerRoute(file: str, name: str) -> Route:
    """
    Read the route that a program listens by: of mode C{offload}, and without an upstream.

    @param file: The file, as for C{--config}.
    @param name: The route's name.
    @raise ValueError: With all that is wrong with the file.
    """
    return _load(file, name, frozenset({"upstream"}))


def loadClientRoute(file: str, name: str) -> Route:
    """
    Read the route that a program connects by: of mode C{encrypt} or C{passthrough}; it need not say where to listen.

    @param file: The file, as for C{--config}.
    @param name: The route's name.
    @raise ValueError: With all that is wrong with the file.
    """
    return _load(file, name, frozenset({"listen"}))


def _load(file: str, name: str, optional: Set[str]) -> Route:
    """
    Read a route.

    @param optional: What it may leave out.  Others of the file may leave out all that some endpoint may.
    """
    completed: set[str] = set()
    try:
        configuration = loadFile(file, complete=_completing(name, optional, completed))
    except ConfigurationError as e:
        raise ValueError("; ".join(map(str, e.problems))) from None
    route = _named(configuration, file, name)
    for warning in configuration.warnings:
        if warning.startswith(f"route {name}: "):
            _log.warn("warning: {sentence}", sentence=warning)
    return _bared(route, completed)


def checkParts(file: str, name: str | None = None) -> Configuration:
    """
    Read a file whose routes are there for programs.

    @param file: The file, as for C{--config}.
    @param name: The route that a program listens or connects by; L{None} where no route of the file need be whole.
    @return: What the file says.
    @raise ConfigurationError: With all that is wrong with the file.
    @raise ValueError: There is no such route, or no program can listen or connect by it.
    """
    completed: set[str] = set()
    configuration = loadFile(file, complete=_completing(name, _PROGRAMS, completed))
    if name is not None:
        route = _bared(_named(configuration, file, name), completed)
        # Neither listens or connects before it is told to.
        endpoint = RouteClientEndpoint if isinstance(route.pattern, (Encrypt, Passthrough)) else RouteServerEndpoint
        try:
            endpoint(route, Clock())
        except ValueError as e:
            raise ValueError(f"{file}: {e}") from None
    return configuration


def _completing(
    name: str | None, optional: Set[str] | Mapping[str, Set[str]], completed: set[str]
) -> Callable[[dict[str, Any]], None]:
    """
    Make what adds to a file what it may leave out.

    @param name: The route that is wanted.
    @param optional: What that may leave out; where it depends, by the mode.
    @param completed: Gets what has been added to it.
    """

    def complete(document: dict[str, Any]) -> None:
        tables = document.get("route")
        for table in tables if isinstance(tables, list) else ():
            if not isinstance(table, dict):
                continue
            mode = str(table.get("mode"))
            wanted = (table.get("name") or table.get("mode")) == name
            mine = optional.get(mode, frozenset()) if isinstance(optional, Mapping) else optional
            for key, filler in _COMPLETED.items():
                unneeded = key == "upstream" and ("rule" in table or mode == "connect")
                if key not in table and not unneeded and (key in mine or not wanted):
                    table[key] = filler
                    completed.update({key} if wanted else ())

    return complete


def _named(configuration: Configuration, file: str, name: str) -> Route:
    found = [route for route in configuration.routes if route.name == name]
    if not found:
        names = ", ".join(route.name for route in configuration.routes)
        raise ValueError(f"{file}: there is no route {name!r}; its routes are: {names}")
    return found[0]


def _bared(route: Route, completed: Set[str]) -> Route:
    """
    Take off what was only added.
    """
    if "upstream" in completed:
        pattern: Any = route.pattern
        route = evolve(route, pattern=evolve(pattern, upstream=None))
    return route
