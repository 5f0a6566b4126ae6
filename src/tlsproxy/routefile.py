# -*- test-case-name: tests.test_routefile -*-
"""
From a file of routes to the one that a program listens or connects by.

Such a route leaves out what the program itself stands for.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, Final

from attrs import evolve
from twisted.logger import Logger

from tlsproxy.config import loadFile
from tlsproxy.errors import ConfigurationError
from tlsproxy.route import Route

__all__ = ["loadClientRoute", "loadServerRoute"]

_log = Logger()

_COMPLETED: Final = {"listen": "127.0.0.1:0", "upstream": "127.0.0.1:9"}
"""What stands for the addresses that a file may leave out; nobody listens there or dials it."""


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

    def complete(document: Mapping[str, Any]) -> None:
        tables = document.get("route")
        for table in tables if isinstance(tables, list) else ():
            if not isinstance(table, dict):
                continue
            wanted = (table.get("name") or table.get("mode")) == name
            for key, filler in _COMPLETED.items():
                unneeded = key == "upstream" and ("rule" in table or table.get("mode") == "connect")
                if key not in table and not unneeded and (key in optional or not wanted):
                    table[key] = filler
                    completed.update({key} if wanted else ())

    try:
        configuration = loadFile(file, complete=complete)
    except ConfigurationError as e:
        raise ValueError("; ".join(map(str, e.problems))) from None
    found = [route for route in configuration.routes if route.name == name]
    if not found:
        names = ", ".join(route.name for route in configuration.routes)
        raise ValueError(f"{file}: there is no route {name!r}; its routes are: {names}")
    for warning in configuration.warnings:
        if warning.startswith(f"route {name}: "):
            _log.warn("warning: {sentence}", sentence=warning)
    route = found[0]
    if "upstream" in completed:
        pattern: Any = route.pattern
        route = evolve(route, pattern=evolve(pattern, upstream=None))
    return route
