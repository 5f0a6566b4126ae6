# -*- test-case-name: tests.test_config -*-
"""
From TOML, or from the words of a command line brought into the same form, to routes.

Everything is checked before anything starts, and all that is wrong is told at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from tlsproxy.address import Address
from tlsproxy.errors import ConfigurationError
from tlsproxy.installed import Installed
from tlsproxy.keeping import Kept
from tlsproxy.modekeys import TABLES
from tlsproxy.reading import Reader, ownersOf, spell
from tlsproxy.route import Route
from tlsproxy.routes import RouteReader
from tlsproxy.settings import LATER, ProxySettings, RouteSettings, stateDirectory
from tlsproxy.tomlfile import TOMLFile
from tlsproxy.values import suggest
from tlsproxy.watching import Signature, signatureOf

__all__ = ["Configuration", "build", "loadFile"]


@frozen(kw_only=True)
class Configuration:
    """
    All that a configuration says.

    @ivar status: Where the state of the proxy is told; L{None} for nowhere.
    @ivar warnings: What is doubtful but works, one sentence each.
    @ivar tables: What is told of each route, by its name.
    @ivar files: The files that all this was read from, each with how it was before that; L{None} for one that was not
        there.
    @ivar source: The file that says it; L{None} where that is a command line.
    """

    proxy: ProxySettings
    routes: tuple[Route, ...]
    warnings: tuple[str, ...]
    status: Address | None = None
    tables: Mapping[str, Any] = field(factory=dict, repr=False)
    files: Mapping[str, Signature | None] = field(factory=dict, repr=False)
    source: TOMLFile | None = field(default=None, repr=False, eq=False)


def build(
    document: Mapping[str, Any],
    base: Path,
    now: datetime,
    installed: Installed | None = None,
    kept: Kept | None = None,
) -> Configuration:
    """
    Make routes of a document.

    @param document: What a TOML file says.
    @param base: The folder that relative paths start from.
    @param now: The time that certificates have to be valid at.
    @param installed: The protocol handlers that there are; L{None} to look.
    @param kept: What was loaded before.
    @raise ConfigurationError: With all problems at once.
    """
    kept = kept or Kept()
    reader = Reader(base)
    for key in document:
        if key in LATER[""]:
            reader.tell(key, "not yet supported")
        elif key not in ("proxy", "route"):
            inRoute = f"; do you mean route.{key}?" if key in TABLES else ""
            owners = inRoute or ownersOf(key, {"route": RouteSettings, "proxy": ProxySettings})
            reader.tell(spell(key), "there is no such table" + (owners or suggest(key, ["proxy", "route"])))
    proxy = reader.settings(ProxySettings, document.get("proxy", {}), "proxy", others={"route": RouteSettings})
    tables = document.get("route", [])
    if not isinstance(tables, list) or not tables:
        brackets = ", in two pairs of brackets" if isinstance(tables, Mapping) else ""
        reader.tell("route", "give at least one route, each under [[route]]" + brackets)
        tables = []
    builder = RouteReader(reader, now, installed or Installed(), kept, stateDirectory(proxy.stateDir))
    routes = [builder.read(table, f"route[{position}]") for position, table in enumerate(tables)]
    _tellNames(tables, reader)
    status = builder.status(proxy.status, "proxy.status") if proxy.status else None
    kept.settle(good=not reader.problems)
    if reader.problems:
        raise ConfigurationError(reader.problems, reader.files)
    named = zip((route for route in routes if route), tables, strict=True)
    return Configuration(
        proxy=proxy,
        routes=tuple(route for route in routes if route),
        warnings=tuple(dict.fromkeys(builder.warnings)),
        status=status,
        tables={route.name: table for route, table in named},
        files=reader.files,
    )


def _tellNames(tables: Sequence[object], reader: Reader) -> None:
    """
    The log lines of two routes cannot share a name.
    """
    names: set[object] = set()
    for position, table in enumerate(tables):
        name = (table.get("name") or table.get("mode")) if isinstance(table, Mapping) else None
        if isinstance(name, str):
            if name in names:
                reader.tell(f"route[{position}].name", f"another route is called {name!r}, too; give each its name")
            names.add(name)


def loadFile(
    file: str,
    now: datetime | None = None,
    installed: Installed | None = None,
    complete: Callable[[dict[str, Any]], object] | None = None,
    kept: Kept | None = None,
) -> Configuration:
    """
    Read a configuration file.

    @param now: The time that certificates have to be valid at; L{None} for now.
    @param installed: The protocol handlers that there are; L{None} to look.
    @param complete: Adds to what the file says, before it is checked, what this file may leave out.
    @param kept: What was loaded before.
    @raise ConfigurationError: With all problems at once, each with the file and the line.
    """
    mine = {str(Path(file).absolute()): signatureOf(file)}
    try:
        read = TOMLFile.read(file)
    except ConfigurationError as e:
        raise ConfigurationError(e.problems, mine) from e
    document = read.document
    if complete is not None:
        complete(document)
    try:
        configuration = build(document, Path(file).resolve().parent, now or datetime.now(UTC), installed, kept)
    except ConfigurationError as e:
        raise ConfigurationError(read.place(e.problems), {**e.files, **mine}) from None
    return evolve(configuration, files={**configuration.files, **mine}, source=read)
