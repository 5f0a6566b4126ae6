# -*- test-case-name: tests.test_inherited -*-
"""
L{tlsproxy.inherited}: sockets of systemd's.
"""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import endpoints, reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory, Protocol
from twisted.python.systemd import ListenFDs
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tlsproxy.inherited import adopt, checkInherited


class AdoptTests(TestCase):
    """
    Sockets that are handed over.
    """

    timeout = 30

    def setUp(self) -> None:
        """
        Find out who hands them over.
        """
        short = tempfile.TemporaryDirectory()
        self.addCleanup(short.cleanup)
        self.path = str(Path(short.name) / "s")
        self.factory: Factory[Protocol] = Factory.forProtocol(Protocol)
        self.factory.noisy = False

    def hand(self, *sockets: socket.socket, names: tuple[str, ...] = ()) -> None:
        """
        Hand sockets over.
        """
        for one in sockets:
            self.addCleanup(one.close)
        handed = ListenFDs([one.fileno() for one in sockets], names or ("x",) * len(sockets))
        self.patch(endpoints._SystemdParser, "_sddaemon", handed)

    def unix(self) -> socket.socket:
        """
        Listen as systemd does.
        """
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(self.path)
        os.chmod(self.path, 0o600)
        sock.listen()
        return sock

    async def test_unix(self) -> None:
        """
        A Unix socket keeps its file, with its rights, and can be taken again after that.
        """
        sock = self.unix()
        self.hand(sock)
        for _ in range(2):
            port = adopt(reactor, "systemd:domain=UNIX:index=0", self.factory)
            self.assertEqual(os.fsencode(self.path), port.getHost().name)  # type: ignore[attr-defined]
            await maybeDeferred(port.stopListening)
            self.assertEqual(0o600, stat.S_IMODE(os.stat(self.path).st_mode))
        self.assertFalse(os.get_inheritable(sock.fileno()))

    async def test_tcp(self) -> None:
        """
        A TCP socket is found by its name, and who connects after it was let go waits in it for the next.
        """
        sock = socket.create_server(("127.0.0.1", 0))
        self.hand(self.unix(), sock, names=("a", "web"))
        number = sock.getsockname()[1]
        for _ in range(2):
            made: Deferred[None] = Deferred()
            self.factory.protocol = _telling(made)
            with socket.create_connection(("127.0.0.1", number)):
                port = adopt(reactor, "systemd:domain=INET:name=web", self.factory)
                self.assertEqual(number, port.getHost().port)  # type: ignore[attr-defined]
                await made
            await maybeDeferred(port.stopListening)

    def test_wrong(self) -> None:
        """
        What is not there, or is something else, is told.
        """
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.hand(self.unix(), datagrams, socket.socket())
        for description, error, sentence in (
            ("systemd:domain=UNIX:index=3", LookupError, ""),
            ("systemd:domain=UNIX:name=y", LookupError, ""),
            ("systemd:domain=INET:index=0", ValueError, "systemd has handed over a socket of domain UNIX there"),
            ("systemd:domain=INET:index=1", ValueError, "takes no connections"),
            ("systemd:domain=INET:index=2", ValueError, "takes no connections"),
            ("systemd:domain=INET", ValueError, ""),
            ("systemd:domain=POST:index=0", AttributeError, ""),
        ):
            problem = self.assertRaises(error, adopt, reactor, description, self.factory)
            self.assertIn(sentence, str(problem))


class CheckInheritedTests(SynchronousTestCase):
    """
    What a socket of systemd's is called.
    """

    def test_check(self) -> None:
        """
        A domain and either a name or an index have to be there; whether there is such a socket is not asked.
        """
        for good in (
            "systemd:domain=INET:name=https",
            "systemd:domain=INET6:index=12",
            "systemd:UNIX:0",
            "systemd:name=a\\:b:domain=UNIX",
        ):
            checkInherited(good)
        for bad in (
            "systemd:",
            "systemd:https",
            "systemd:443",
            "systemd:domain=INET",
            "systemd:domain=POST:index=0",
            "systemd:domain=INET:name=",
            "systemd:domain=INET:name=a:index=0",
            "systemd:domain=INET:index=first",
            "systemd:domain=INET:index=-1",
        ):
            problem = self.assertRaises(ValueError, checkInherited, bad)
            self.assertEqual(
                f"{bad!r} is no socket of systemd's: write systemd:domain=INET:name=NAME, or index=0", str(problem)
            )


def _telling(made: Deferred[None]) -> Callable[[], Any]:
    class Telling(Protocol):
        """
        Tells that it is connected, and hangs up.
        """

        def connectionMade(self) -> None:
            """
            Do so.
            """
            assert self.transport is not None
            self.transport.loseConnection()
            made.callback(None)

    return Telling
