# -*- test-case-name: tests.test_clientroutes -*-
"""
Client proxies among the routes of a configuration, and where browsers find them.
"""

from __future__ import annotations

from tlsproxy.address import TCP, Unix
from tlsproxy.config import loadFile
from tlsproxy.patterns.sequentialclient import SequentialClient
from tlsproxy.route import Route

__all__ = ["addressOf", "clientRoute"]


def clientRoute(file: str, name: str | None) -> tuple[Route, SequentialClient]:
    """
    Find a client proxy.

    @param file: The configuration.
    @param name: What its route is called; L{None} for the only one.
    @return: The route and its pattern.
    @raise ConfigurationError: The configuration is not good.
    @raise ValueError: There is no such route, or more than one.
    """
    found = [
        (route, route.pattern)
        for route in loadFile(file).routes
        if isinstance(route.pattern, SequentialClient) and name in (None, route.name)
    ]
    if not found:
        which = "" if name is None else f" that is called {name!r}"
        raise ValueError(f"{file} has no route of mode sequential-client{which}")
    if len(found) > 1:
        names = ", ".join(str(route.name) for route, _ in found)
        raise ValueError(f"{file} has several routes of mode sequential-client: give --route, one of {names}")
    return found[0]


def addressOf(route: Route) -> str:
    """
    Tell where browsers find a client proxy.

    @return: C{HOST:PORT}; an address of IPv6 is in brackets.
    @raise ValueError: They cannot.
    """
    listen = route.listen
    if isinstance(listen, Unix):
        raise ValueError(f"browsers cannot use {listen}, a Unix socket: have the route listen on 127.0.0.1:3128, say")
    if not isinstance(listen, TCP):
        raise ValueError(f"write down where browsers find {listen}: listen on HOST:PORT, as in 127.0.0.1:3128")
    if not listen.port:
        raise ValueError(f"the port of {listen} is another one at each start: give the route one of its own")
    return str(listen)
