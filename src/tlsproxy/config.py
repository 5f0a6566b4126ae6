# -*- test-case-name: tests.test_config -*-
"""
From TOML, or from the words of a command line brought into the same form, to routes.

Everything is checked before anything starts, and all that is wrong is told at once.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from attrs import fields, frozen

from tlsproxy.address import TCP, Address, Unix, parseListen, parseUpstream
from tlsproxy.errors import ConfigurationError, Problem
from tlsproxy.patterns.bridge import Bridge
from tlsproxy.patterns.encrypt import Encrypt
from tlsproxy.patterns.offload import Offload
from tlsproxy.route import Limits, Route
from tlsproxy.settings import (
    LATER,
    MODES,
    ProxySettings,
    RouteSettings,
    convert,
    fileName,
    kindOf,
    suggest,
)
from tlsproxy.tls.contexts import ClientTLS, ServerTLS
from tlsproxy.tls.policy import CertificateFiles, ClientPolicy, ServerPolicy, snake
from tlsproxy.tomllines import findLines
from tlsproxy.wire.host import isLiteral

__all__ = ["Configuration", "build", "loadFile"]

T = TypeVar("T")

_LONGEST_PATH: Final = 107
"""The longest path of a Unix socket on Linux, in bytes (unix(7))."""


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
        self.listening: list[tuple[Address, str]] = []

    def tell(self, path: str, sentence: str) -> None:
        # What follows from a value that could not be read is no second problem.
        if not any(path == problem.key or path.startswith(f"{problem.key}.") for problem in self.problems):
            self.problems.append(Problem(path, sentence))

    def attempt(self, path: str, action: Callable[[], T]) -> T | None:
        try:
            return action()
        except ConfigurationError as e:
            for problem in e.problems:
                self.tell(problem.key, problem.sentence)
        except ValueError as e:
            self.tell(path, str(e))
        return None

    def resolve(self, file: str) -> str:
        try:
            return str(self.base / Path(file).expanduser())
        except RuntimeError:
            raise ValueError(f"{file!r} starts from a home that nobody has") from None

    def settings(self, cls: type[T], table: object, path: str, tables: Sequence[str] = ()) -> T:
        """
        Read the keys of one table into their class.  What cannot be read is told, and left at its default, so that
        the rest can be checked.

        @param tables: Keys that are tables, and read elsewhere.
        """
        if not isinstance(table, Mapping):
            self.tell(path, f"give a table, not {kindOf(table)}")
            return cls()
        section = re.sub(r"\[\d+\]", "", path)
        known = {snake(attribute.name): attribute for attribute in fields(cls)}  # type: ignore[arg-type]
        pair = ("key",) if "cert" in known else ()
        values: dict[str, Any] = {}
        for key, value in table.items():
            place = f"{path}.{_spell(key)}"
            if key in known:
                attribute = known[key]
                result = self.attempt(place, lambda: convert(attribute, value, self.resolve))  # noqa: B023
                if result is not None:
                    values[attribute.name] = result
            elif key in LATER.get(section, ()):
                self.tell(place, "not yet supported")
            elif key not in (*tables, *pair):
                self.tell(place, "there is no such key" + suggest(key, [*known, *tables, *pair]))
        self._pairKey(table, path, values)
        return cls(**values)

    def _pairKey(self, table: Mapping[str, Any], path: str, values: dict[str, Any]) -> None:
        """
        C{key} beside C{cert} is the other half of the pair.
        """
        if "key" not in table:
            return
        files = values.get("cert")
        if "cert" not in table:
            self.tell(f"{path}.key", "a key needs its certificate beside it: give cert, too")
        elif isinstance(files, CertificateFiles):
            if files.key is not None:
                self.tell(f"{path}.key", "the key is given twice")
            else:
                key = self.attempt(f"{path}.key", lambda: fileName(table["key"], self.resolve))
                values["cert"] = CertificateFiles(files.chain, key)

    def route(self, table: object, path: str) -> Route | None:
        """
        Read a route.

        @return: None where something is wrong with it.
        """
        before = len(self.problems)
        settings = self.settings(RouteSettings, table, path, ("tls", "upstream_tls", "limits"))
        if not isinstance(table, Mapping):
            return None
        limits = self.settings(Limits, table.get("limits", {}), f"{path}.limits")
        listen = self._listen(settings.listen, f"{path}.listen")
        upstream = self._upstream(settings.upstream, f"{path}.upstream")
        if listen is not None:
            self._taken(listen, settings.name or settings.mode, path)
        mode = settings.mode
        tls = upstreamTLS = None
        if not mode:
            self.tell(f"{path}.mode", f"say which mode: one of {', '.join(MODES)}")
            self.settings(ServerPolicy, table.get("tls", {}), f"{path}.tls")
            self.settings(ClientPolicy, table.get("upstream_tls", {}), f"{path}.upstream_tls")
        elif mode == "encrypt":
            self._unused(table, "tls", path, "mode encrypt speaks no TLS with its clients")
        else:
            tls = self._server(table.get("tls", {}), f"{path}.tls")
        if mode == "offload":
            self._unused(table, "upstream_tls", path, "mode offload speaks no TLS with its upstream")
        elif mode:
            upstreamTLS = self._client(table.get("upstream_tls", {}), f"{path}.upstream_tls", upstream, mode)
        for side in (tls, upstreamTLS):
            if side is not None:
                self.warnings += [f"route {settings.name or mode}: {warning}" for warning in side.warnings]
        if len(self.problems) > before or listen is None or upstream is None:
            return None
        pattern: Offload | Encrypt | Bridge | None = None
        if tls is not None and upstreamTLS is not None:
            pattern = Bridge(tls=tls, upstream=upstream, upstreamTLS=upstreamTLS)
        elif tls is not None:
            pattern = Offload(tls=tls, upstream=upstream)
        elif upstreamTLS is not None:
            pattern = Encrypt(upstream=upstream, upstreamTLS=upstreamTLS)
        assert pattern is not None
        return Route(
            name=settings.name or mode,
            listen=listen,
            pattern=pattern,
            limits=limits,
            close=settings.close,
            truncation=settings.truncation,
        )

    def _listen(self, text: str, path: str) -> Address | None:
        if not text:
            self.tell(path, "say where to listen, as in 8443")
            return None
        return self.attempt(path, lambda: self._fromBase(parseListen(text)))

    def _upstream(self, text: str, path: str) -> Address | None:
        if not text:
            self.tell(path, "say what to dial, as in HOST:PORT")
            return None
        return self.attempt(path, lambda: self._fromBase(parseUpstream(text)))

    def _fromBase(self, where: Address) -> Address:
        if not isinstance(where, Unix):
            return where
        path = self.resolve(where.path)
        if len(os.fsencode(path)) > _LONGEST_PATH:
            raise ValueError(f"{path!r} is too long for a Unix socket, whose path takes {_LONGEST_PATH} bytes at most")
        return Unix(path)

    def _unused(self, table: Mapping[str, Any], key: str, path: str, why: str) -> None:
        if key in table:
            self.tell(f"{path}.{key}", f"{why}: leave this out")

    def _server(self, table: object, path: str) -> ServerTLS | None:
        policy = self.settings(ServerPolicy, table, path)
        if policy.clientAuth == "none" and policy.clientCa:
            self.tell(f"{path}.client_auth", '"none" leaves client_ca without a use: leave one of them out')
        return self._load(path, lambda: ServerTLS.load(policy, self.now, path))

    def _client(self, table: object, path: str, upstream: Address | None, mode: str) -> ClientTLS | None:
        policy = self.settings(ClientPolicy, table, path)
        if mode == "bridge" and policy.alpn:
            self.tell(f"{path}.alpn", "mode bridge offers what its client negotiated: leave this out")
        host = (upstream.host or "localhost") if isinstance(upstream, TCP) else ""
        if upstream is None and not policy.name:
            # There is no host to take the name from, and that has been told.
            host = "localhost"
        return self._load(path, lambda: ClientTLS.load(policy, host, self.now, path))

    def _load(self, path: str, load: Callable[[], T]) -> T | None:
        # Without its key, the certificate would be taken for one that lacks it.
        if any(problem.key == f"{path}.key" for problem in self.problems):
            return None
        return self.attempt(path, load)

    def _taken(self, listen: Address, name: str, path: str) -> None:
        """
        Two routes cannot share an address.
        """
        for other, owner in self.listening:
            if _clash(listen, other):
                self.tell(f"{path}.listen", f"{listen} is taken by {other} of route {owner}")
        self.listening.append((listen, name))


def _spell(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)


def _clash(one: Address, other: Address) -> bool:
    """
    Tell whether two addresses cannot be listened on together.
    """
    if not isinstance(one, TCP) or not isinstance(other, TCP):
        return one == other
    if one.port != other.port or one.port == 0:
        return False
    if isLiteral(one.host) and isLiteral(other.host):
        first, second = ipaddress.ip_address(one.host), ipaddress.ip_address(other.host)
        return first == second or (first.version == second.version and (first.is_unspecified or second.is_unspecified))
    # A name may have an address of either family, or of one alone.
    return not one.host or not other.host or one.host.lower() == other.host.lower()


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
            builder.tell(_spell(key), "there is no such table" + suggest(key, ["proxy", "route"]))
    proxy = builder.settings(ProxySettings, document.get("proxy", {}), "proxy")
    tables = document.get("route", [])
    if not isinstance(tables, list) or not tables:
        builder.tell("route", "give at least one route, each under [[route]]")
        tables = []
    routes = [builder.route(table, f"route[{position}]") for position, table in enumerate(tables)]
    _tellNames(tables, builder)
    if builder.problems:
        raise ConfigurationError(builder.problems)
    return Configuration(
        proxy=proxy, routes=tuple(route for route in routes if route), warnings=tuple(dict.fromkeys(builder.warnings))
    )


def _tellNames(tables: Sequence[object], builder: _Builder) -> None:
    """
    The log lines of two routes cannot share a name.
    """
    names: set[object] = set()
    for position, table in enumerate(tables):
        name = (table.get("name") or table.get("mode")) if isinstance(table, Mapping) else None
        if isinstance(name, str):
            if name in names:
                builder.tell(f"route[{position}].name", f"another route is called {name!r}, too; give each its name")
            names.add(name)


def loadFile(file: str, now: datetime | None = None) -> Configuration:
    """
    Read a configuration file.

    @param now: The time that certificates have to be valid at; L{None} for now.
    @raise ConfigurationError: With all problems at once, each with the file and the line.
    """
    try:
        content = Path(file).read_text("utf-8-sig")
    except OSError as e:
        raise ConfigurationError([Problem("", f"{file}: {e.strerror}")]) from e
    except UnicodeDecodeError as e:
        raise ConfigurationError([Problem("", f"{file}: it is not UTF-8 text")]) from e
    try:
        document = tomllib.loads(content)
    except tomllib.TOMLDecodeError as e:
        line = re.search(r"line (\d+)", str(e))
        number = int(line[1]) if line else max(1, len(content.splitlines()))
        raise ConfigurationError([Problem("", f"{file}:{number}: it is not TOML: {e}")]) from e
    except RecursionError as e:
        raise ConfigurationError([Problem("", f"{file}: it is nested too deep")]) from e
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
    parts = re.findall(r'"(?:[^"\\]|\\.)*"|[^.\[\]"]+', key)
    path: tuple[str | int, ...] = tuple(
        int(part) if part.isdigit() else json.loads(part) if part[0] == '"' else part for part in parts
    )
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)
