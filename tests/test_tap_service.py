# -*- test-case-name: tests.test_tap_service -*-
"""
What the command line leads to: the help, the version, and the service.
"""

from __future__ import annotations

import os
import signal
import socket
from typing import Any

from attrs import fields
from twisted.application.service import MultiService
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import LogLevel, globalLogPublisher

from tests.test_tap import FULL, CommandLineTestCase
from tlsproxy import __version__
from tlsproxy.address import TCP
from tlsproxy.route import Limits
from tlsproxy.service import ProxyService
from tlsproxy.settings import MODES, OPTIONS
from tlsproxy.status.serving import StatusService
from tlsproxy.status.tally import Tally
from tlsproxy.tap import Options, makeService
from tlsproxy.tls.policy import snake


class HelpTests(CommandLineTestCase):
    """
    C{--help} and C{--version}.
    """

    def help(self) -> list[str]:
        """
        Ask for help.

        @return: Its lines.
        """
        ended = self.assertRaises(SystemExit, Options().parseOptions, ["--help"])
        self.assertIn(ended.code, (0, None))
        return self.printed.getvalue().splitlines()

    def test_modesFirst(self) -> None:
        """
        The modes come before every option, each in one line.
        """
        lines = self.help()
        start = lines.index("Modes:") + 1
        for line, (mode, help) in zip(lines[start:], MODES.items(), strict=False):
            self.assertEqual([mode, help], line.split(maxsplit=1))
        self.assertEqual([], [line for line in lines[:start] if line.startswith("  --")])

    def test_everything(self) -> None:
        """
        Every option is there once, with what it takes, and every phase; no line is too long for a terminal.
        """
        lines = self.help()
        names = [line.split()[0] for line in lines if line.startswith("  --")]
        expected = [*(f"--{name}" for name in OPTIONS), "--handler", "--config", "--version", "--help"]
        self.assertEqual([*expected, *(["--limit"] * len(fields(Limits)))], names)
        for name, option in OPTIONS.items():
            self.assertTrue(any(line.startswith(f"  --{name} {option.metavar} ") for line in lines), name)
        for limit in fields(Limits):
            self.assertTrue(any(line.startswith(f"  --limit {snake(limit.name)}=SECONDS ") for line in lines), limit)
        self.assertEqual([], [line for line in lines if len(line) > 120])

    def test_columns(self) -> None:
        """
        What the options are for starts in one column.
        """
        for line in self.help():
            if line.startswith(("  --", " " * 10)):
                self.assertRegex(line, r"^.{39} \S")

    def test_headings(self) -> None:
        """
        The options stand below what they are for, with the modes that take them, and what holds without them.
        """
        lines = self.help()
        for heading, option in (
            ("The route:", "--require-tls true|false"),
            ("The route:", "--users FILE"),
            ("Targets (connect, sequential-server):", "--allow-target TARGET"),
            ("Targets (connect, sequential-server):", "--deny-target TARGET"),
            ("TLS toward the client (offload, bridge, connect, sequential-server):", "--cert FILE"),
            ("TLS toward the upstream (encrypt, bridge, sequential-client):", "--upstream-ca FILE"),
        ):
            start = lines.index(heading)
            block = lines[start : lines.index("", start)]
            self.assertTrue(any(line.startswith(f"  {option} ") for line in block), (heading, option))
        (line,) = (line for line in lines if "--require-tls" in line)
        self.assertTrue(line.endswith("[true]"), line)

    def test_usageOnce(self) -> None:
        """
        The usage is told once.
        """
        self.assertEqual(1, len([line for line in self.help() if line.startswith("Usage:")]))

    def test_version(self) -> None:
        """
        The version is tlsproxy's.
        """
        ended = self.assertRaises(SystemExit, Options().parseOptions, ["--version"])
        self.assertEqual((0, f"tlsproxy {__version__.public()}\n"), (ended.code, self.printed.getvalue()))


class ServiceTests(CommandLineTestCase):
    """
    The service of a command line.
    """

    def setUp(self) -> None:
        """
        Watch the log.
        """
        super().setUp()
        self.patch(os, "environ", {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"})
        self.events = EventLoggingObserver()
        globalLogPublisher.addObserver(self.events)
        self.addCleanup(globalLogPublisher.removeObserver, self.events)

    def make(self, *words: str) -> MultiService:
        """
        Make the service of a command line.
        """
        service = makeService(self.parse(*words))
        assert isinstance(service, MultiService)
        return service

    def ours(self) -> list[tuple[LogLevel, str]]:
        """
        What tlsproxy has logged: how grave it is, and by which module.
        """
        return [
            (event["log_level"], event["log_namespace"])
            for event in self.events
            if event["log_namespace"].startswith("tlsproxy")
        ]

    def proxyService(self, service: MultiService) -> ProxyService:
        """
        Find the service of the routes.
        """
        (found,) = (one for one in service if isinstance(one, ProxyService))
        return found

    def test_routes(self) -> None:
        """
        There is a service for the routes, and nothing is printed.
        """
        service = self.make("--mode=bridge", *FULL["bridge"])
        (factory,) = self.proxyService(service).factories
        self.assertEqual("bridge", factory.route.name)
        self.assertEqual("", self.printed.getvalue())

    def test_demo(self) -> None:
        """
        A demo has its origin beside the proxy, and says what to paste.
        """
        options = self.parse("--mode=bridge")
        assert options.demo is not None
        self.addCleanup(options.demo.close)
        service = makeService(options)
        assert isinstance(service, MultiService)
        self.assertEqual(3, len(list(service)))
        self.assertEqual(2, len(self.proxyService(service).factories))
        self.assertIn("\n  curl --cacert ", self.printed.getvalue())

    def test_status(self) -> None:
        """
        Where the status is asked for, a service tells it, and sees all sessions; otherwise there is nothing of it.
        """
        service = self.make("--mode=bridge", *FULL["bridge"], "--status=9090")
        (status,) = (one for one in service if isinstance(one, StatusService))
        self.assertEqual(TCP("127.0.0.1", 9090), status._where)
        (tally,) = self.proxyService(service)._observers
        self.assertIsInstance(tally, Tally)
        service = self.make("--mode=bridge", *FULL["bridge"])
        self.assertEqual((2, ()), (len(list(service)), self.proxyService(service)._observers))

    def test_demoStatus(self) -> None:
        """
        A demo may have it, too.
        """
        options = self.parse("--mode=bridge", "--status=9090")
        assert options.demo is not None
        self.addCleanup(options.demo.close)

    def test_limits(self) -> None:
        """
        The limit of all routes together comes to their service.
        """
        file = self.folder / "limits.toml"
        file.write_text(
            "[proxy]\nmax_connections = 7\n[[route]]\nmode = 'passthrough'\nlisten = '127.0.0.1:0'\n"
            "upstream = '127.0.0.1:1'\nmax_connections = 3\n"
        )
        proxy = self.proxyService(self.make(f"--config={file}"))
        self.assertEqual((7, 3), (proxy.gate.most, proxy.routes[0].maxConnections))

    def test_logLevel(self) -> None:
        """
        From C{warn} on neither what is listened on nor a session's end is logged; C{error} drops warnings as well.
        """
        told = [(LogLevel.warn, "tlsproxy.daemon"), (LogLevel.info, "tlsproxy.service")]
        for level, expected in (("debug", told), ("info", told), ("warn", told[:1]), ("error", [])):
            words = ("--mode=bridge", *FULL["bridge"], "--upstream-auth=none", f"--log-level={level}")
            service = self.make(*words)
            # The socket is made, but no reactor takes it up.
            proxy = self.proxyService(service)
            self.patch(proxy, "_reactor", Ports())
            self.patch(service, "_reactor", Ports())
            self.patch(signal, "pthread_sigmask", lambda *_: None)
            self.assertEqual(level in ("debug", "info"), proxy.factories[0].logged)
            service.startService()
            self.assertEqual(expected, self.ours())
            self.successResultOf(service.stopService())
            del self.events._events[:]


class Ports(Clock):
    """
    A reactor that adopts sockets and does nothing with them.
    """

    def callWhenRunning(self, call: object, *arguments: object) -> None:
        """
        Never run.
        """

    def adoptStreamPort(self, descriptor: int, family: int, factory: object) -> Any:
        """
        Keep a socket's own address.
        """
        return Port(socket.socket(fileno=socket.dup(descriptor)))


class Port:
    """
    A port that nobody waits on.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def getHost(self) -> object:
        """
        It has no address that matters.
        """
        return None

    def stopListening(self) -> None:
        """
        Close it.
        """
        self._socket.close()
