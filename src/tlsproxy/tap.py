# -*- test-case-name: tests.test_tap -*-
"""
The C{twistd tlsproxy} command.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from attrs import Attribute, fields
from twisted.application.service import IService, MultiService
from twisted.logger import Logger
from twisted.python import usage

from tlsproxy import __version__
from tlsproxy.address import CannotListen
from tlsproxy.config import Configuration, build, loadFile
from tlsproxy.errors import ConfigurationError
from tlsproxy.route import Limits
from tlsproxy.service import ProxyService
from tlsproxy.settings import MODES, ProxySettings, RouteSettings, snake, stateDirectory
from tlsproxy.tls.certificates import CertificateProblem
from tlsproxy.tls.policy import ClientPolicy, ServerPolicy

__all__ = ["Options", "makeService"]

_log = Logger()

_LATER: Final = ("status", "handler", "allow-target", "allow-cn", "allow-ou", "allow-dns", "allow-uri", "allow-all")
_KEY_HELP: Final = "PEM file: the certificate's key; without it, the certificate's file holds it, too"
_DEMO: Final = frozenset({"mode", "state-dir", "log-level", "limit"})
"""The options that leave a mode its demo."""


def _table() -> dict[str, tuple[tuple[str, ...], str, str]]:
    """
    Make the options from the settings.

    @return: For each option the way to its key, its help, and the heading it stands under.
    """
    options: dict[str, tuple[tuple[str, ...], str, str]] = {}

    def add(cls: type, table: tuple[str, ...], prefix: str, heading: str) -> None:
        for attribute in fields(cls):
            name = snake(attribute.name)
            options[prefix + name.replace("_", "-")] = ((*table, name), _help(attribute), heading)
            if attribute.name == "cert":
                options[prefix + "key"] = ((*table, "key"), _KEY_HELP, heading)

    add(RouteSettings, ("route",), "", "The route")
    add(ServerPolicy, ("route", "tls"), "", "TLS toward the client (offload, bridge)")
    add(ClientPolicy, ("route", "upstream_tls"), "upstream-", "TLS toward the upstream (encrypt, bridge)")
    add(ProxySettings, ("proxy",), "", "The process")
    return options


def _help(attribute: Attribute[Any]) -> str:
    help: str = attribute.metadata["help"]
    default = attribute.default
    return f"{help} [{default}]" if default and isinstance(default, str) else help


_OPTIONS: Final = _table()


def _setter(name: str, help: str) -> Callable[[Options, str], None]:
    def setter(self: Options, value: str) -> None:
        self.given.setdefault(name, []).append(value)

    setter.__doc__ = help
    return setter


def _later(name: str) -> Callable[[Options, str], None]:
    def refuse(self: Options, value: str) -> None:
        raise usage.UsageError(f"--{name}: not yet supported")

    refuse.__doc__ = "Not yet supported."
    return refuse


class Options(usage.Options):
    """
    The command line.

    @ivar given: The values of each option, as often as it was given.
    @ivar configuration: What it all comes to, once it is parsed.
    @ivar demo: The lines to print where a mode runs its demo.
    """

    synopsis = "[options]"

    def __init__(self) -> None:
        super().__init__()
        self.given: dict[str, list[str]] = {}
        self.configuration: Configuration | None = None
        self.demo: Sequence[str] = ()
        self.services: list[IService] = []

    def opt_config(self, file: str) -> None:
        """
        TOML file with any number of routes; instead of a mode and its options.
        """
        self.given.setdefault("config", []).append(file)

    def opt_limit(self, limit: str) -> None:
        """
        PHASE=SECONDS, a deadline; repeat for more; 0 for none.
        """
        self.given.setdefault("limit", []).append(limit)

    def opt_version(self) -> NoReturn:
        """
        Print the version, and exit.
        """
        print(f"tlsproxy {__version__.public()}")
        sys.exit(0)

    def getUsage(self, width: int | None = None) -> str:
        """
        The modes first, each in one line; then the options by what they are for.
        """
        lines = [
            "Usage: twistd -n tlsproxy --mode MODE [options]",
            "       twistd -n tlsproxy --config FILE.toml",
            "",
            "Modes:",
            *(f"  {mode:<9} {help}" for mode, help in MODES.items()),
            "",
            "A mode alone runs its demo: twistd -n tlsproxy --mode bridge",
        ]
        heading = ""
        for name, (_, help, under) in _OPTIONS.items():
            if under != heading:
                heading = under
                lines += ["", f"{heading}:"]
            lines += _entry(f"--{name}", help)
        lines += _entry("--config", "TOML file with any number of routes; instead of a mode and its options")
        lines += ["", "Deadlines in seconds, as in --limit idle=60; 0 for none:"]
        for limit in fields(Limits):
            lines += _entry(snake(limit.name), f"{limit.metadata['help']} [{limit.default:g}]")
        return "\n".join([*lines, ""])

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Read the command line.  What is wrong with it ends the process with one sentence each, and no usage text.
        """
        try:
            super().parseOptions(options)
        except usage.UsageError as e:
            _exit(2, [str(e)])

    def postOptions(self) -> None:
        """
        Check everything, before anything starts.
        """
        try:
            self._read(datetime.now(UTC))
        except CertificateProblem as e:
            _exit(1, [str(e)])
        except ConfigurationError as e:
            _exit(1, [_onCommandLine(str(problem)) for problem in e.problems])

    def _read(self, now: datetime) -> None:
        file = self.given.get("config")
        if file is not None:
            beside = set(self.given) - {"config"}
            if beside:
                raise usage.UsageError(f"--config takes no --{min(beside)} beside it: say it in the file")
            self.configuration = loadFile(file[-1], now)
            return
        mode = self.given.get("mode", [""])[-1]
        if not mode:
            raise usage.UsageError(f"say which mode: --mode {'|'.join(MODES)}, or --config FILE.toml")
        if mode in MODES and not set(self.given) - _DEMO:
            self._readDemo(mode, now)
        else:
            self.configuration = build(self._document(), Path.cwd(), now)

    def _readDemo(self, mode: str, now: datetime) -> None:
        from tlsproxy.demo import Demo

        document = self._document()
        process = document.get("proxy", {})
        demo = Demo(mode, stateDirectory(process.get("state_dir", "")), now)
        self.demo = demo.lines
        self.services.append(demo.origin)
        limits = document["route"][0].get("limits", {})
        self.configuration = build(demo.document(limits) | {"proxy": process}, Path.cwd(), now)

    def _document(self) -> dict[str, Any]:
        """
        Bring the options into the form of a TOML document.
        """
        route: dict[str, Any] = {}
        document: dict[str, Any] = {"route": [route]}
        for name, values in self.given.items():
            if name == "limit":
                route["limits"] = dict(map(_limit, values))
            elif name in _OPTIONS:
                path = _OPTIONS[name][0]
                table: dict[str, Any] = route if path[0] == "route" else document.setdefault(path[0], {})
                for step in path[1:-1]:
                    table = table.setdefault(step, {})
                table[path[-1]] = self._value(name, values)
        return document

    def _value(self, name: str, values: list[str]) -> Any:
        if name.removeprefix("upstream-") in ("ca", "client-ca"):
            return values
        if name.removeprefix("upstream-") == "alpn":
            return [protocol for value in values for protocol in value.split(",")]
        if len(values) > 1:
            if name.removeprefix("upstream-") in ("cert", "key"):
                raise usage.UsageError(f"--{name}: several certificates on one route are not yet supported; give one")
            raise usage.UsageError(f"--{name} is given {len(values)} times; give it once")
        return values[0]


for _name, (_path, _text, _heading) in _OPTIONS.items():
    setattr(Options, "opt_" + _name.replace("-", "_"), _setter(_name, _text))
for _name in _LATER:
    setattr(Options, "opt_" + _name.replace("-", "_"), _later(_name))


def _entry(name: str, help: str) -> list[str]:
    lines = textwrap.wrap(help, 79)
    return [f"  {name:<24} {lines[0]}", *(" " * 27 + line for line in lines[1:])]


def _limit(text: str) -> tuple[str, float]:
    phase, _, seconds = text.partition("=")
    try:
        return phase, float(seconds)
    except ValueError:
        raise usage.UsageError(f"--limit {text}: give PHASE=SECONDS, as in idle=60") from None


def _onCommandLine(problem: str) -> str:
    """
    Say where on the command line a problem is.
    """
    key, colon, sentence = problem.partition(": ")
    path = tuple(key.replace("[0]", "").split("."))
    for name, (where, _, _) in _OPTIONS.items():
        if where == path:
            return f"--{name}: {sentence}"
    if path[:2] == ("route", "limits") and len(path) == 3:
        return f"--limit {path[2]}: {sentence}"
    return problem


def _exit(code: int, problems: Sequence[str]) -> NoReturn:
    for problem in problems:
        print(f"tlsproxy: {problem}", file=sys.stderr)
    raise SystemExit(code)


class _Daemon(MultiService):
    """
    All services of the command.  Where one cannot listen, the process ends with the sentence.
    """

    def __init__(self, warnings: Sequence[str]) -> None:
        super().__init__()
        self._warnings = warnings

    def privilegedStartService(self) -> None:
        """
        Listen.
        """
        self._orExit(super().privilegedStartService)

    def startService(self) -> None:
        """
        Serve.
        """
        for warning in self._warnings:
            _log.warn("warning: {warning}", warning=warning)
        self._orExit(super().startService)

    def _orExit(self, start: Callable[[], None]) -> None:
        try:
            start()
        except CannotListen as e:
            _log.critical("{problem}", problem=str(e))
            _exit(1, [str(e)])


def makeService(options: Options) -> IService:
    """
    Make the service of a command line.
    """
    from twisted.internet import reactor

    configuration = options.configuration
    assert configuration is not None
    daemon = _Daemon(configuration.warnings)
    for service in options.services:
        service.setServiceParent(daemon)
    told = configuration.proxy.logLevel in ("debug", "info")
    ProxyService(configuration.routes, reactor, told).setServiceParent(daemon)
    if options.demo:
        print("\n".join(options.demo), flush=True)
    return daemon
