# -*- test-case-name: tests.logs.test_starting -*-
"""
How the process comes by its log.

C{twistd} and C{twist} begin to log after they have made the service.  C{twistd} then takes the observer that the
application has as a component, and C{twist} the one that its options name, which a plugin's options know.  So ours is
put there: no event is lost by that, and nothing is logged twice.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from twisted.logger import ILogObserver, LogLevel
from twisted.python.components import Componentized

from tlsproxy.errors import ConfigurationError, Problem
from tlsproxy.logs.destinations import StreamLog, destinationFor
from tlsproxy.logs.journal import Complaints, Journal
from tlsproxy.logs.lines import JSONLines, Lines, TextLines
from tlsproxy.settings import ProxySettings

__all__ = ["beginLog", "keepLog"]


def beginLog(program: MutableMapping[str, Any] | None, settings: ProxySettings) -> Journal | None:
    """
    Open the log where the configuration says, and have C{twist} keep it.

    @param program: The program's own options; L{None} where the service is made by something else.
    @return: What keeps the log; L{None} where the program does so by itself.
    @raise ConfigurationError: The log cannot be opened, or the program is told something else.
    """
    if program is None or not (settings.log or settings.logFormat == "json"):
        return None
    lines: Lines = JSONLines() if settings.logFormat == "json" else TextLines()
    level = LogLevel.levelWithName(settings.logLevel)
    complaints = Complaints()
    journal: Journal | None = None
    if "fileLogObserverFactory" in program:
        if settings.log:
            journal = Journal(_open(settings.log, complaints), lines, level, complaints)
        else:
            journal = Journal(StreamLog(program["logFile"].fileno()), lines, level, complaints)
        program["fileLogObserverFactory"] = _giving(journal)
    elif "logfile" in program:
        where = _whereOf(program, settings)
        journal = Journal(_open(where, complaints), lines, level, complaints)
    return journal


def keepLog(application: object, journal: Journal | None) -> None:
    """
    Have C{twistd} keep a log.

    @param application: What it runs.
    @param journal: The log; L{None} for its own.
    """
    if journal is not None and isinstance(application, Componentized):
        application.setComponent(ILogObserver, journal)


def _giving(journal: Journal) -> Any:
    def observer(*_: object) -> ILogObserver:
        return journal

    return observer


def _open(where: str, complaints: Complaints) -> Any:
    try:
        return destinationFor(where, complaints)
    except OSError as e:
        raise ConfigurationError([Problem("proxy.log", f"{where}: {e.strerror}")]) from e


def _whereOf(program: MutableMapping[str, Any], settings: ProxySettings) -> str:
    """
    Tell where C{twistd} has to log.
    """
    key = "proxy.log" if settings.log else "proxy.log_format"
    given = [word for word in ("logger", "logfile", "syslog") if program.get(word)]
    if given and (settings.log or given[0] == "logger"):
        sentence = f"twistd is told how to log by its own --{given[0]}: leave one of the two out"
        raise ConfigurationError([Problem(key, sentence)])
    daemon = not program.get("nodaemon") and not program.get("debug")
    if settings.log:
        if daemon and settings.log in ("stdout", "stderr"):
            sentence = f"a daemon has no {settings.log}: start it as twistd -n, or log to a file or to syslog"
            raise ConfigurationError([Problem(key, sentence)])
        return settings.log
    if program.get("syslog"):
        return "syslog"
    file = program["logfile"]
    if file == "-" or not (file or daemon):
        return "stdout"
    return str(Path(file or "twistd.log").absolute())
