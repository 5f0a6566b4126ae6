# -*- test-case-name: tests.integration.test_listening -*-
"""
Listening on real sockets: addresses of every kind, what is taken, and what is left behind.
"""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from tests.integration.running import freePort
from tlsproxy.address import CannotListen, listen, parseListen, tellPeer


class Greet(Protocol):
    """
    Says who connected.
    """

    def connectionMade(self) -> None:
        """
        Say it.
        """
        assert self.transport is not None
        self.transport.write(tellPeer(self.transport.getPeer()).encode())
        self.transport.loseConnection()


class ListenTests(TestCase):
    """
    What L{listen} does with a real reactor.
    """

    def setUp(self) -> None:
        """
        Make a folder with a short name, because a socket's path is short.
        """
        self.folder = Path(os.path.relpath(self.mktemp()))
        self.folder.mkdir(parents=True)
        self.path = str(self.folder / "s")

    async def listen(self, text: str) -> list[Any]:
        """
        Listen until the test is over.
        """
        factory: Factory[Greet] = Factory.forProtocol(Greet)
        factory.noisy = False
        ports = list(await listen(reactor, parseListen(text), factory))
        for port in ports:
            self.addCleanup(port.stopListening)
        return ports

    async def refused(self, text: str) -> str:
        """
        Listen where that cannot be.

        @return: The sentence.
        """
        try:
            await self.listen(text)
        except CannotListen as e:
            self.assertTrue(str(e).startswith(f"cannot listen on {text}: "), str(e))
            self.assertTrue(str(e).isprintable())
            return str(e)
        raise AssertionError(f"{text} is listened on")

    async def ask(self, family: int, where: Any) -> str:
        """
        Connect, and read what comes.
        """
        answer: Deferred[str] = Deferred()

        class Reader(Protocol):
            def __init__(self) -> None:
                self.got = b""

            def dataReceived(self, data: bytes) -> None:
                self.got += data

            def connectionLost(self, reason: Any = None) -> None:
                answer.callback(self.got.decode())

        factory: Factory[Reader] = Factory.forProtocol(Reader)
        factory.noisy = False
        with socket.socket(family) as sock:
            sock.connect(where)
            sock.setblocking(False)
            reactor.adoptStreamConnection(sock.fileno(), family, factory)  # type: ignore[attr-defined]
        return await answer

    async def test_bothFamilies(self) -> None:
        """
        A port alone is all addresses of both families, and an IPv4 peer is told as such.
        """
        (port,) = await self.listen("0")
        number = port.getHost().port
        self.assertRegex(await self.ask(socket.AF_INET, ("127.0.0.1", number)), r"^127\.0\.0\.1:\d+$")
        if socket.has_ipv6:
            self.assertRegex(await self.ask(socket.AF_INET6, ("::1", number)), r"^\[::1\]:\d+$")

    async def test_literals(self) -> None:
        """
        An address alone is that address, and no other family's.
        """
        (port,) = await self.listen("127.0.0.1:0")
        self.assertEqual("127.0.0.1", port.getHost().host)
        number = freePort()
        (port,) = await self.listen(f"[::1]:{number}")
        self.assertEqual("::1", port.getHost().host)
        # The same number of the other family is free.
        await self.listen(f"127.0.0.1:{number}")

    async def test_host(self) -> None:
        """
        A name is every address that it has.
        """
        found = {entry[4][0] for entry in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
        ports = await self.listen(f"localhost:{freePort()}")
        self.assertEqual(found, {port.getHost().host for port in ports})

    async def test_hostTaken(self) -> None:
        """
        Where one of a name's addresses is taken, none is left listening.
        """
        number = freePort()
        found = [("127.0.0.2", 0), ("127.0.0.1", 0)]
        entries = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in found]
        self.patch(socket, "getaddrinfo", lambda *_, **__: entries)
        await self.listen(f"127.0.0.1:{number}")
        self.assertIn("Address already in use", await self.refused(f"host.example:{number}"))
        await self.listen(f"127.0.0.2:{number}")

    async def test_unresolved(self) -> None:
        """
        A name without addresses is told.
        """
        await self.refused(f"{'x' * 70}.example:0")

        def unknown(*arguments: Any, **more: Any) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        self.patch(socket, "getaddrinfo", unknown)
        self.assertIn("Name or service not known", await self.refused("host.example:0"))

    async def test_taken(self) -> None:
        """
        A port that is taken is told, for addresses as for Twisted's endpoints.
        """
        (port,) = await self.listen("127.0.0.1:0")
        number = port.getHost().port
        for text in (f"127.0.0.1:{number}", str(number), f"tcp:{number}:interface=127.0.0.1"):
            self.assertIn("Address already in use", await self.refused(text))

    async def test_foreign(self) -> None:
        """
        An address that is not this machine's is told.
        """
        self.assertIn("Cannot assign requested address", await self.refused("192.0.2.1:0"))

    async def test_systemd(self) -> None:
        """
        Without systemd there is no socket of it.
        """
        self.assertIn("systemd has not handed over", await self.refused("systemd:domain=INET:index=0"))
        self.assertIn("systemd has not handed over", await self.refused("systemd:domain=INET:name=x"))

    async def test_unix(self) -> None:
        """
        A Unix socket can be connected to by everybody who can reach it, and its file is gone at the end.
        """
        (port,) = await self.listen(f"unix:{self.path}")
        self.assertEqual(0o666, stat.S_IMODE(os.stat(self.path).st_mode))
        self.assertEqual("unix", await self.ask(socket.AF_UNIX, self.path))
        await port.stopListening()
        self.assertFalse(os.path.lexists(self.path))

    async def test_unixMode(self) -> None:
        """
        Twisted's endpoint narrows who can connect.
        """
        await self.listen(f"unix:{self.path}:mode=600:lockfile=0")
        self.assertEqual(0o600, stat.S_IMODE(os.stat(self.path).st_mode))

    async def test_unixStale(self) -> None:
        """
        The socket of a process that is gone makes room.
        """
        with socket.socket(socket.AF_UNIX) as gone:
            gone.bind(self.path)
            gone.listen()
        await self.listen(f"unix:{self.path}")
        self.assertEqual("unix", await self.ask(socket.AF_UNIX, self.path))

    async def test_unixAlive(self) -> None:
        """
        A socket that somebody listens on is not taken away, not even where its queue is full.
        """
        with socket.socket(socket.AF_UNIX) as alive:
            alive.bind(self.path)
            alive.listen(0)
            waiting = []
            for _ in range(3):
                client = socket.socket(socket.AF_UNIX)
                self.addCleanup(client.close)
                client.setblocking(False)
                waiting.append(client.connect_ex(self.path))
            self.assertNotEqual(0, waiting[-1])
            self.assertIn("Address already in use", await self.refused(f"unix:{self.path}"))
            self.assertTrue(os.path.lexists(self.path))

    async def test_unixOther(self) -> None:
        """
        A file that is no socket is not taken away.
        """
        Path(self.path).write_text("dear")
        self.assertIn("Address already in use", await self.refused(f"unix:{self.path}"))
        self.assertEqual("dear", Path(self.path).read_text())

    async def test_unixNowhere(self) -> None:
        """
        A folder that does not exist, and a path that is too long, are told.
        """
        self.assertIn("No such file or directory", await self.refused(f"unix:{self.folder}/none/s"))
        await self.refused(f"unix:{self.folder}/{'x' * 200}")
