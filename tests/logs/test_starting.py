# -*- test-case-name: tests.logs.test_starting -*-
"""
Tests for L{tlsproxy.logs.starting}: C{twistd} and C{twist} log where the configuration says.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from twisted.application.app import AppLogger
from twisted.application.service import Application
from twisted.application.twist._options import TwistOptions
from twisted.logger import ILogObserver, LogBeginner, LogLevel
from twisted.scripts._twistd_unix import ServerOptions
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.errors import ConfigurationError
from tlsproxy.logs.journal import Journal
from tlsproxy.logs.starting import beginLog, keepLog
from tlsproxy.settings import ProxySettings


class StartingTests(SynchronousTestCase):
    """
    Tests for L{beginLog} and L{keepLog}.
    """

    def setUp(self) -> None:
        """
        Go to a folder.
        """
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)
        self.file = str(Path("proxy.log").absolute())

    def twistd(self, *words: str) -> ServerOptions:
        """
        Read the options of C{twistd}.
        """
        options = ServerOptions()
        options.parseOptions([*words])
        return options

    def journal(self, program: Any, **settings: Any) -> Journal:
        """
        Begin a log.
        """
        journal = beginLog(program, ProxySettings(**settings))
        assert journal is not None
        self.addCleanup(journal.close)
        return journal

    def lines(self, file: str = "proxy.log") -> list[dict[str, Any]]:
        """
        Read a log.
        """
        return [json.loads(line) for line in Path(file).read_text().splitlines()]

    def tell(self, observer: Any) -> None:
        """
        Log something.
        """
        observer({"log_format": "x", "log_level": LogLevel.info, "log_namespace": "x", "log_time": 0.0})

    def test_theirs(self) -> None:
        """
        Where nothing is configured, or the service is made by a program of its own, nothing is done.
        """
        for program in (self.twistd("-n"), TwistOptions(), None):
            self.assertIdentical(None, beginLog(program, ProxySettings()))
        self.assertIdentical(None, beginLog(None, ProxySettings(log=self.file)))
        self.assertEqual([], os.listdir())

    def test_twistd(self) -> None:
        """
        C{twistd} keeps its log where the application says, in front and as a daemon.
        """
        for words in ((), ("-n",)):
            options = self.twistd(*words)
            journal = self.journal(options, log=self.file, logFormat="json")
            application = Application("tlsproxy")
            keepLog(application, journal)
            self.assertIdentical(journal, application.getComponent(ILogObserver))
            self.tell(application.getComponent(ILogObserver))
        self.assertEqual(["x", "x"], [line["message"] for line in self.lines()])

    def test_twistdTakesIt(self) -> None:
        """
        What the application says is what C{twistd} takes.
        """
        journal = self.journal(self.twistd("-n"), log=self.file)
        begun: list[Any] = []
        self.patch(LogBeginner, "beginLoggingTo", lambda self, observers: begun.extend(observers))
        application = Application("tlsproxy")
        keepLog(application, journal)
        AppLogger({"logfile": "", "nodaemon": True}).start(application)
        self.assertEqual([journal], begun)

    def test_otherParents(self) -> None:
        """
        A service in another service says nothing of the log.
        """
        keepLog(object(), self.journal(self.twistd("-n"), log=self.file))
        application = Application("tlsproxy")
        keepLog(application, None)
        self.assertIdentical(None, application.getComponent(ILogObserver, None))

    def test_twist(self) -> None:
        """
        C{twist} makes ours where it would make its own.
        """
        options = TwistOptions()
        options.selectDefaultLogObserver()
        journal = self.journal(options, log=self.file, logFormat="json")
        self.assertIdentical(journal, options["fileLogObserverFactory"](options["logFile"]))
        self.tell(journal)
        self.assertEqual(1, len(self.lines()))

    def test_twistFormat(self) -> None:
        """
        With a format alone, C{twist}'s own file is written to.
        """
        options = TwistOptions()
        options.selectDefaultLogObserver()
        with open("own.log", "a") as file:
            options["logFile"] = file
            self.tell(self.journal(options, logFormat="json"))
        self.assertEqual(1, len(self.lines("own.log")))

    def test_twistdFormat(self) -> None:
        """
        With a format alone, C{twistd} logs where it would have: into a file, by its name or without, or to its
        standard output.
        """
        for words, file in (
            ((), "twistd.log"),
            (("--logfile=own.log",), "own.log"),
            (("-n", "--logfile=front.log"), "front.log"),
        ):
            self.tell(self.journal(self.twistd(*words), logFormat="json"))
            self.assertEqual(1, len(self.lines(file)), file)
        for words in (("-n",), ("-n", "--logfile=-"), ("--syslog",)):
            self.journal(self.twistd(*words), logFormat="json")

    def refused(self, program: Any, **settings: Any) -> tuple[str, str]:
        """
        Fail to begin a log.

        @return: The key, and the sentence.
        """
        error = self.assertRaises(ConfigurationError, beginLog, program, ProxySettings(**settings))
        (problem,) = error.problems
        return problem.key, problem.sentence

    def test_refused(self) -> None:
        """
        What contradicts the program's own options, what a daemon does not have, and a file that cannot be opened are
        told before anything starts.
        """
        for word in ("--logfile=x", "--syslog", "--logger=twisted.logger.textFileLogObserver"):
            key, sentence = self.refused(self.unparsed("-n", word), log=self.file)
            self.assertEqual("proxy.log", key)
            name = word.partition("=")[0]
            self.assertEqual(f"twistd is told how to log by its own {name}: leave one of the two out", sentence)
        key, _ = self.refused(self.unparsed("-n", "--logger=x"), logFormat="json")
        self.assertEqual("proxy.log_format", key)
        for where in ("stdout", "stderr"):
            _, sentence = self.refused(self.twistd(), log=where)
            self.assertTrue(sentence.startswith(f"a daemon has no {where}: start it as twistd -n, or log to a file"))
        _, sentence = self.refused(self.twistd("-n"), log=str(Path().absolute()))
        self.assertTrue(sentence.endswith(": Is a directory"), sentence)

    def unparsed(self, *words: str) -> dict[str, Any]:
        """
        The options of C{twistd} as those of a plugin find them: read, and not yet looked at.
        """
        program: dict[str, Any] = {"logfile": None, "logger": None, "syslog": 0, "nodaemon": 0, "debug": False}
        for word in words:
            name, _, value = word.removeprefix("--").partition("=")
            program["nodaemon" if name == "-n" else name] = value or 1
        return program
