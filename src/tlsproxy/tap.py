# -*- test-case-name: tests.test_tap -*-
"""
The C{twistd tlsproxy} command.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from attrs import evolve, fields
from twisted.application.service import IService
from twisted.logger import LogLevel
from twisted.python import usage

from tlsproxy import __version__
from tlsproxy.certificateoptions import pairCertificates
from tlsproxy.config import Configuration, build, loadFile
from tlsproxy.daemon import Daemon
from tlsproxy.datagramdemo import DatagramDemo, findDemo
from tlsproxy.errors import ConfigurationError, Problem
from tlsproxy.handlertables import fromWord
from tlsproxy.keeping import Kept
from tlsproxy.listening import isPrivate
from tlsproxy.logs.journal import Journal
from tlsproxy.logs.starting import beginLog
from tlsproxy.renewals import Renewals
from tlsproxy.route import Limits
from tlsproxy.service import ProxyService
from tlsproxy.settings import BESIDE_CERT, LATER_MODES, LATER_OPTIONS, MODES, OPTIONS, stateDirectory
from tlsproxy.tls.files import CertificateProblem
from tlsproxy.tls.policy import snake
from tlsproxy.values import Typed, suggest

if TYPE_CHECKING:
    from tlsproxy.demo import Demo

__all__ = ["Options", "makeService"]

_COLUMN: Final = 40
"""Where the help of an option starts."""
_DEMO: Final = frozenset(
    {"mode", "state-dir", "log", "log-format", "log-level", "log-repeats", "drain", "limit", "status"}
)
"""The options that leave a mode its demo."""

_WORDS: Final = (*OPTIONS, "config", "handler", "limit", "help", "version")


def _setter(name: str, help: str) -> Callable[[Options, str], None]:
    def setter(self: Options, value: str) -> None:
        self.given.setdefault(name, []).append(value)
        self.order.append((name, value))

    setter.__doc__ = help
    return setter


class Options(usage.Options):
    """
    The command line.

    @ivar given: The values of each option, as often as it was given.
    @ivar order: The options of routes and their values as they were given.
    @ivar configuration: What it all comes to, once it is parsed.
    @ivar demo: The demo, where a mode runs its own.
    @ivar journal: What keeps the log, where that is not left to C{twistd} or C{twist}.
    """

    def __init__(self) -> None:
        super().__init__()
        self.given: dict[str, list[str]] = {}
        self.order: list[tuple[str, str]] = []
        self.configuration: Configuration | None = None
        self._base = Path.cwd()
        self._kept = Kept()
        self.demo: Demo | DatagramDemo | None = None
        self.journal: Journal | None = None

    def opt_config(self, file: str) -> None:
        """
        TOML file with any number of routes; instead of a mode and its options.
        """
        self.given.setdefault("config", []).append(file)

    def opt_handler(self, handler: str) -> None:
        """
        NAME:KEY=VALUE:..., a protocol handler; repeat for more, in their order.
        """
        self.given.setdefault("handler", []).append(handler)

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
            *(f"  {mode:<17} {help}" for mode, help in MODES.items()),
            "",
            "A mode alone runs its demo: twistd -n tlsproxy --mode bridge",
            "So do offload, encrypt and bridge over DTLS: twistd -n tlsproxy --mode bridge --listen udp:8443",
        ]
        heading = ""
        for name, one in OPTIONS.items():
            if one.heading != heading:
                heading = one.heading
                lines += ["", f"{heading}:"]
            lines += _entry(f"--{name} {one.metavar}", f"{one.help} [{one.default}]" if one.default else one.help)
        lines += ["", "Handlers, the one nearest the client first; what there is tells: tlsproxy handlers"]
        lines += _entry("--handler NAME:KEY=VALUE:...", r"with its options; \: is a colon in a value; repeat for more")
        lines += ["", "Others:"]
        lines += _entry("--config FILE.toml", "any number of routes; instead of a mode and its options")
        lines += _entry("--version", "print the version, and exit")
        lines += _entry("--help", "print this, and exit")
        lines += ["", "Deadlines, each as in --limit idle=60; seconds, 0 for none; repeat for more:"]
        for limit in fields(Limits):
            lines += _entry(f"--limit {snake(limit.name)}=SECONDS", f"{limit.metadata['help']} [{limit.default:g}]")
        return "\n".join([*lines, ""])

    def __str__(self) -> str:
        return self.getUsage()

    def parseArgs(self, *arguments: str) -> None:
        """
        There are options only.
        """
        if arguments:
            raise usage.UsageError(f"{arguments[0]!r} is no option; options start with --")

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Read the command line.  What is wrong with it ends the process with one sentence each, and no usage text.
        """
        words = list(sys.argv[1:] if options is None else options)
        try:
            for word in words:
                name = word.partition("=")[0]
                if name.startswith("--") and name[2:] in LATER_OPTIONS:
                    raise usage.UsageError(f"{name} is not yet supported")
            super().parseOptions(words)
        except usage.UsageError as e:
            _exit(2, [_whatIsWrong(str(e))])

    def postOptions(self) -> None:
        """
        Check everything, before anything starts.
        """
        try:
            self.configuration = self._read(datetime.now(UTC))
            self.journal = beginLog(getattr(self, "parent", None), self.configuration.proxy)
        except CertificateProblem as e:
            _exit(1, [str(e)])
        except ConfigurationError as e:
            _exit(1, [self._place(problem) for problem in e.problems])

    def _place(self, problem: Problem) -> str:
        """
        Say where on the command line a problem is.
        """
        if self.configuration is not None and self.configuration.source is not None:
            (problem,) = self.configuration.source.place([problem])
        if problem.file:
            return str(problem)
        path = tuple(re.sub(r"(\.cert)(\[\d+\])+$", r"\1", problem.key).replace("[0]", "").split("."))
        if handler := re.fullmatch(r"route\[0\]\.handler\[(\d+)\](?:\.name)?(\..*)?", problem.key):
            word = self.given["handler"][int(handler[1])]
            return ": ".join([f"--handler {word}", *([handler[2][1:]] if handler[2] else []), problem.sentence])
        if path[:2] == ("route", "limits") and len(path) == 3:
            return f"--limit {path[2]}: {problem.sentence}"
        names = [name for name, one in OPTIONS.items() if one.path == path]
        # A whole table is meant by the options that were given of it.
        names = names or [name for name in self.given if name in OPTIONS and OPTIONS[name].path[: len(path)] == path]
        return f"{', '.join(f'--{name}' for name in names)}: {problem.sentence}" if names else str(problem)

    def load(self) -> Configuration:
        """
        Read the same again, wherever the process may have gone meanwhile.

        @raise ConfigurationError: With all problems at once, each with its place.
        """
        try:
            return self._read(datetime.now(UTC))
        except ConfigurationError as e:
            problems = [Problem("", self._place(problem)) for problem in e.problems]
            raise ConfigurationError(problems, e.files) from None

    def _read(self, now: datetime) -> Configuration:
        file = self.given.get("config")
        if file is not None:
            beside = set(self.given) - {"config"}
            if beside:
                raise usage.UsageError(f"--config takes no --{min(beside)} beside it: say it in the file")
            name = _once("config", file)
            return loadFile(name if self.configuration is None else str(self._base / name), now, kept=self._kept)
        mode = _once("mode", self.given.get("mode", [""]))
        if not mode:
            raise usage.UsageError(f"say which mode: --mode {'|'.join(MODES)}, or --config FILE.toml")
        if mode in LATER_MODES:
            raise usage.UsageError(f"--mode {mode} is not yet supported")
        if mode not in MODES:
            raise usage.UsageError(f"--mode {mode!r} is not one of {', '.join(MODES)}" + suggest(mode, MODES))
        if mode == "sequential-server" and set(self.given) - _DEMO:
            raise usage.UsageError(
                "--mode sequential-server has no option for who may reach what: "
                "write that as [[route.grant]] into a file for --config"
            )
        if not set(self.given) - _DEMO - {"listen"}:
            listen = _once("listen", self.given.get("listen", [""]))
            state = stateDirectory(self._document().get("proxy", {}).get("state_dir", ""))
            if demo := findDemo(mode, listen, state, now):
                return self._readDemo(demo, now)
        return build(self._document(), self._base, now, kept=self._kept)

    def _readDemo(self, demo: Demo | DatagramDemo, now: datetime) -> Configuration:
        self.demo = demo
        document = self._document()
        process = document.get("proxy", {})
        limits = document["route"][0].get("limits", {})
        configuration = build(demo.document(limits) | {"proxy": process}, self._base, now)
        return evolve(configuration, routes=demo.held(configuration.routes))

    def _document(self) -> dict[str, Any]:
        """
        Bring the options into the form of a TOML document.
        """
        route: dict[str, Any] = {}
        document: dict[str, Any] = {"route": [route]}
        for name, values in self.given.items():
            if name == "limit":
                route["limits"] = _limits(values)
            elif name == "handler":
                route["handler"] = _handlers(values)
            elif name in OPTIONS:
                path = OPTIONS[name].path
                table: dict[str, Any] = route if path[0] == "route" else document.setdefault(path[0], {})
                for step in path[1:-1]:
                    table = table.setdefault(step, {})
                table[path[-1]] = self._value(name, values)
        for prefix in ("", "upstream-"):
            if len(self.given.get(f"{prefix}cert", ())) > 1:
                table = route["upstream_tls" if prefix else "tls"]
                try:
                    table["cert"] = pairCertificates(self.order, prefix)
                except ValueError as e:
                    raise usage.UsageError(str(e)) from None
                for key in BESIDE_CERT:
                    table.pop(key, None)
        return document

    def _value(self, name: str, values: list[str]) -> Any:
        kind = OPTIONS[name].kind
        if kind in ("files", "list"):
            return values
        if kind == "boolean":
            return {"true": True, "false": False}.get(_once(name, values), _once(name, values))
        if kind == "protocols":
            return [protocol for value in values for protocol in value.split(",")]
        if name in ("cert", "upstream-cert"):
            return values[0]
        beside = name.removeprefix("upstream-").replace("-", "_") in BESIDE_CERT
        if beside and len(self.given.get("upstream-cert" if name.startswith("upstream-") else "cert", ())) > 1:
            return values
        return Typed(_once(name, values))


for _name, _option in OPTIONS.items():
    setattr(Options, "opt_" + _name.replace("-", "_"), _setter(_name, _option.help))


def _once(name: str, values: Sequence[str]) -> str:
    if len(values) > 1:
        raise usage.UsageError(f"--{name} is given {len(values)} times; give it once")
    return values[0]


def _entry(name: str, help: str) -> list[str]:
    lines = textwrap.wrap(help, 120 - _COLUMN)
    return [f"  {name:<{_COLUMN - 3}} {lines[0]}", *(" " * _COLUMN + line for line in lines[1:])]


def _whatIsWrong(problem: str) -> str:
    """
    Say more clearly what C{getopt} says.
    """
    if unknown := re.fullmatch(r"option --(.*) not recognized", problem):
        return f"there is no option --{unknown[1]}" + suggest(unknown[1], _WORDS, "--")
    if unknown := re.fullmatch(r"option (-.) not recognized", problem):
        return f"there is no option {unknown[1]}; options are spelled out, after --"
    if several := re.fullmatch(r"option --(.*) not a unique prefix", problem):
        return f"--{several[1]} may be more than one option; spell it out"
    if lacking := re.fullmatch(r"option (--.*) requires argument", problem):
        return f"{lacking[1]} needs a value after it"
    if spare := re.fullmatch(r"option (--.*) must not have an argument", problem):
        return f"{spare[1]} takes no value"
    return problem


def _limits(texts: Sequence[str]) -> dict[str, float]:
    """
    Read the values of C{--limit}.
    """
    known = [snake(limit.name) for limit in fields(Limits)]
    limits: dict[str, float] = {}
    for text in texts:
        phase, _, seconds = text.partition("=")
        try:
            value = float(seconds)
        except ValueError:
            raise usage.UsageError(f"--limit {text}: give PHASE=SECONDS, as in idle=60") from None
        if phase not in known:
            meant = suggest(phase, known) or f"; the phases are {', '.join(known)}"
            raise usage.UsageError(f"--limit {text}: there is no such phase{meant}")
        if phase in limits:
            raise usage.UsageError(f"--limit {phase} is given more than once; give it once")
        limits[phase] = value
    return limits


def _handlers(words: Sequence[str]) -> list[dict[str, Any]]:
    """
    Read the values of C{--handler}.
    """
    handlers = []
    for word in words:
        try:
            handlers.append(fromWord(word))
        except ValueError as e:
            raise usage.UsageError(f"--handler {word}: {e}") from None
    return handlers


def _exit(code: int, problems: Sequence[str]) -> NoReturn:
    for problem in problems:
        print(f"tlsproxy: {problem}", file=sys.stderr)
    raise SystemExit(code)


def makeService(options: Options) -> IService:
    """
    Make the service of a command line.
    """
    from twisted.internet import reactor

    configuration = options.configuration
    assert configuration is not None
    level = LogLevel.levelWithName(configuration.proxy.logLevel)
    logged, settings = level <= LogLevel.info, configuration.proxy
    observers = []
    if configuration.status is not None:
        from tlsproxy.status.tally import Tally  # It brings a web server along, which nobody else needs.

        observers.append(Tally())
    proxy = ProxyService(
        configuration.routes,
        reactor,
        logged,
        observers=observers,
        maxConnections=settings.maxConnections,
        lines=settings.logRepeats,
    )
    load = None if options.demo is not None else options.load
    daemon = Daemon(reactor, proxy, configuration, load, journal=options.journal)
    daemon.reloading.followers.append(lambda latest: proxy.gate.limit(latest.proxy.maxConnections))
    renewals = Renewals(reactor, configuration.routes, daemon.reloading.reload, level)
    renewals.setServiceParent(daemon)
    daemon.reloading.followers.append(lambda latest: renewals.follow(latest.routes))
    daemon.refreshing.append(renewals.refresh)
    if options.demo is not None:
        options.demo.origin.setServiceParent(daemon)
    if configuration.status is not None:
        from tlsproxy.status.serving import StatusService

        where, reloads = configuration.status, daemon.reloading
        status = StatusService(where, isPrivate(where), proxy, observers[0], reactor, logged, reloads, renewals)
        status.setServiceParent(daemon)
    if options.demo is not None:
        print("\n".join(options.demo.lines), flush=True)
    return daemon
