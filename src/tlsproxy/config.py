# -*- test-case-name: tests.test_config -*-
"""
From TOML, or from the words of a command line brought into the same form, to routes.

Everything is checked before anything starts, and all that is wrong is told at once.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from attrs import fields, frozen

from tlsproxy.address import TCP, Address, Endpoint, Unix, parseAddress
from tlsproxy.errors import ConfigurationError, Problem
from tlsproxy.patterns.bridge import Bridge
from tlsproxy.patterns.encrypt import Encrypt
from tlsproxy.patterns.offload import Offload
from tlsproxy.route import Limits, Route
from tlsproxy.settings import (
    LATER,
    LATER_MODES,
    MODES,
    ProxySettings,
    RouteSettings,
    convert,
    kindOf,
    snake,
    suggest,
    text,
)
from tlsproxy.tls.contexts import ClientTLS, ServerTLS
from tlsproxy.tls.policy import CertificateFiles, ClientPolicy, ServerPolicy
from tlsproxy.tomllines import findLines

__all__ = ["Configuration", "build", "loadFile"]

T = TypeVar("T")


@frozen(kw_only=True)
class Configuration:
    """
    All that a configuration says.

    @ivar warnings: What is doubtful but works, one sentence each.
    """

    proxy: ProxySettings
    routes: tuple[Route, ...]
    warnings: tuple[str, ...]


class _Builder:
    """
    Builds, and collects all that is wrong.
    """

    def __init__(self, base: Path, now: datetime) -> None:
        self.base = base
        self.now = now
        self.problems: list[Problem] = []
        self.warnings: list[str] = []

    def tell(self, path: str, sentence: str) -> None:
        self.problems.append(Problem(path, sentence))

    def attempt(self, path: str, action: Callable[[], T]) -> T | None:
        try:
            return action()
        except ConfigurationError as e:
            self.problems += e.problems
        except ValueError as e:
            self.tell(path, str(e))
        return None

    def resolve(self, file: str) -> str:
        return str(self.base / Path(file).expanduser())

    def settings(self, cls: type[T], table: object, path: str, tables: Sequence[str] = ()) -> T | None:
        """
        Read the keys of one table into their class.

        @param tables: Keys that are tables, and read elsewhere.
        """
        if not isinstance(table, Mapping):
            self.tell(path, f"give a table, not {kindOf(table)}")
            return None
        section = re.sub(r"\[\d+\]", "", path)
        known = {snake(attribute.name): attribute for attribute in fields(cls)}  # type: ignore[arg-type]
        values: dict[str, Any] = {}
        before = len(self.problems)
        for key, value in table.items():
            place = f"{path}.{key}" if path else key
            if key in known:
                attribute = known[key]
                result = self.attempt(place, lambda: convert(attribute, value, self.resolve))  # noqa: B023
                values[attribute.name] = result
            elif key in LATER.get(section, ()):
                self.tell(place, "not yet supported")
            elif key not in tables and not (key == "key" and "cert" in known):
                self.tell(place, "there is no such key" + suggest(key, [*known, *tables]))
        self._pairKey(table, path, values)
        return cls(**values) if len(self.problems) == before else None

    def _pairKey(self, table: Mapping[str, Any], path: str, values: dict[str, Any]) -> None:
        """
        C{key} beside C{cert} is the other half of the pair.
        """
        if "key" not in table:
            return
        files = values.get("cert")
        if "cert" not in table:
            self.tell(f"{path}.key", "a key needs its certificate beside it: give cert")
        elif isinstance(files, CertificateFiles):
            if files.key is not None:
                self.tell(f"{path}.key", "the key is given twice")
            else:
                key = self.attempt(f"{path}.key", lambda: self.resolve(text(table["key"])))
                values["cert"] = CertificateFiles(files.chain, key)

    def address(self, path: str, text: str, missing: str) -> Address | None:
        if not text:
            self.tell(path, missing)
            return None
        return self.attempt(path, lambda: parseAddress(text))

    def route(self, table: object, path: str) -> Route | None:
        if not isinstance(table, Mapping):
            self.tell(path, f"give a table, not {kindOf(table)}")
            return None
        mode = table.get("mode")
        if mode is None:
            self.tell(f"{path}.mode", f"say which mode: one of {', '.join(MODES)}")
            return None
        if mode in LATER_MODES:
            self.tell(f"{path}.mode", f"mode {mode} is not yet supported")
            return None
        settings = self.settings(RouteSettings, table, path, ("tls", "upstream_tls", "limits"))
        limits = self.settings(Limits, table.get("limits", {}), f"{path}.limits")
        if mode not in MODES:
            return None
        listen = upstream = None
        if settings is not None:
            listen = self.address(f"{path}.listen", settings.listen, "say where to listen, as in 8443")
            upstream = self.address(f"{path}.upstream", settings.upstream, "say what to dial, as in HOST:PORT")
        tls = upstreamTLS = None
        if mode == "encrypt":
            self._unused(table, "tls", path, "mode encrypt speaks no TLS with its clients")
        else:
            tls = self._server(table.get("tls", {}), f"{path}.tls")
        if mode == "offload":
            self._unused(table, "upstream_tls", path, "mode offload speaks no TLS with its upstream")
        else:
            upstreamTLS = self._client(table.get("upstream_tls", {}), f"{path}.upstream_tls", upstream, mode)
        if settings is None or limits is None or listen is None or upstream is None:
            return None
        pattern: Offload | Encrypt | Bridge
        if mode == "offload" and tls is not None:
            pattern = Offload(tls=tls, upstream=upstream)
        elif mode == "encrypt" and upstreamTLS is not None:
            pattern = Encrypt(upstream=upstream, upstreamTLS=upstreamTLS)
        elif tls is not None and upstreamTLS is not None:
            pattern = Bridge(tls=tls, upstream=upstream, upstreamTLS=upstreamTLS)
        else:
            return None
        return Route(
            name=settings.name or mode,
            listen=listen,
            pattern=pattern,
            limits=limits,
            close=settings.close,
            truncation=settings.truncation,
        )

    def _unused(self, table: Mapping[str, Any], key: str, path: str, why: str) -> None:
        if key in table:
            self.tell(f"{path}.{key}", f"{why}: leave this out")

    def _server(self, table: object, path: str) -> ServerTLS | None:
        policy = self.settings(ServerPolicy, table, path)
        if policy is None:
            return None
        tls = self.attempt(path, lambda: ServerTLS.load(policy, self.now, path))
        self.warnings += tls.warnings if tls else ()
        return tls

    def _client(self, table: object, path: str, upstream: Address | None, mode: str) -> ClientTLS | None:
        policy = self.settings(ClientPolicy, table, path)
        if policy is None:
            return None
        if mode == "bridge" and policy.alpn:
            self.tell(f"{path}.alpn", "mode bridge offers what its client negotiated: leave this out")
            return None
        host = (upstream.host or "localhost") if isinstance(upstream, TCP) else ""
        tls = self.attempt(path, lambda: ClientTLS.load(policy, host, self.now, path))
        self.warnings += tls.warnings if tls else ()
        return tls

    def oneRouteAPort(self, routes: Sequence[Route | None]) -> None:
        """
        Two routes cannot share an address, nor can their log lines a name.
        """
        names: set[str] = set()
        taken: list[tuple[Address, str]] = []
        for position, route in enumerate(routes):
            if route is None:
                continue
            if route.name in names:
                self.tell(f"route[{position}].name", f"another route is called {route.name}, too; give each its name")
            names.add(route.name)
            for where, other in taken:
                if isinstance(route.listen, (TCP, Unix, Endpoint)) and _clash(route.listen, where):
                    self.tell(f"route[{position}].listen", f"{route.listen} is taken by route {other}")
            if isinstance(route.listen, (TCP, Unix, Endpoint)):
                taken.append((route.listen, route.name))


def _clash(one: Address, other: Address) -> bool:
    if isinstance(one, TCP) and isinstance(other, TCP):
        return one.port == other.port != 0 and (one.host == other.host or not one.host or not other.host)
    return one == other


def build(document: Mapping[str, Any], base: Path, now: datetime) -> Configuration:
    """
    Make routes of a document.

    @param document: What a TOML file says.
    @param base: The folder that relative paths start from.
    @param now: The time that certificates have to be valid at.
    @raise ConfigurationError: With all problems at once.
    """
    builder = _Builder(base, now)
    for key in document:
        if key in LATER[""]:
            builder.tell(key, "not yet supported")
        elif key not in ("proxy", "route"):
            builder.tell(key, "there is no such table" + suggest(key, ["proxy", "route"]))
    proxy = builder.settings(ProxySettings, document.get("proxy", {}), "proxy")
    tables = document.get("route", [])
    if not isinstance(tables, list) or not tables:
        builder.tell("route", "give at least one route, each under [[route]]")
        tables = []
    routes = [builder.route(table, f"route[{position}]") for position, table in enumerate(tables)]
    builder.oneRouteAPort(routes)
    if builder.problems or proxy is None:
        raise ConfigurationError(builder.problems)
    return Configuration(
        proxy=proxy, routes=tuple(route for route in routes if route), warnings=tuple(dict.fromkeys(builder.warnings))
    )


def loadFile(file: str, now: datetime | None = None) -> Configuration:
    """
    Read a configuration file.

    @param now: The time that certificates have to be valid at; L{None} for now.
    @raise ConfigurationError: With all problems at once, each with the file and the line.
    """
    try:
        content = Path(file).read_text("utf-8")
    except OSError as e:
        raise ConfigurationError([Problem("", f"{file}: {e.strerror}")]) from e
    except UnicodeDecodeError as e:
        raise ConfigurationError([Problem("", f"{file}: it is not UTF-8 text")]) from e
    try:
        document = tomllib.loads(content)
    except tomllib.TOMLDecodeError as e:
        line = re.search(r"line (\d+)", str(e))
        where = f"{file}:{line[1]}" if line else file
        raise ConfigurationError([Problem("", f"{where}: it is not TOML: {e}")]) from e
    try:
        return build(document, Path(file).resolve().parent, now or datetime.now(UTC))
    except ConfigurationError as e:
        lines = findLines(content)
        raise ConfigurationError(
            [Problem("", f"{file}:{_line(problem.key, lines)}: {_place(problem)}") for problem in e.problems]
        ) from None


def _place(problem: Problem) -> str:
    return re.sub(r"\[\d+\]", "", str(problem))


def _line(key: str, lines: Mapping[tuple[str | int, ...], int]) -> int:
    path: tuple[str | int, ...] = tuple(int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]]+", key))
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)
