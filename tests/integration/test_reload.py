# -*- test-case-name: tests.integration.test_reload -*-
"""
Other routes for a service that runs, and its gentle end, on real sockets and with sessions under way.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    UNIXClientEndpoint,
    UNIXServerEndpoint,
)
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tlsproxy.address import CannotListen
from tlsproxy.patterns.passthrough import Passthrough
from tlsproxy.route import Route
from tlsproxy.service import ProxyService


class Named(Protocol):
    """
    A server that says its name to every word.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def dataReceived(self, data: bytes) -> None:
        """
        Answer.
        """
        assert self.transport is not None
        self.transport.write(self.name.encode())


class Client(Protocol):
    """
    Asks, and waits for the answer.

    @ivar lost: Fires when the connection is lost.
    """

    def __init__(self) -> None:
        self.lost: Deferred[None] = Deferred()
        self._answer: Deferred[str] | None = None

    def ask(self) -> Deferred[str]:
        """
        Ask who serves.
        """
        assert self.transport is not None
        self.transport.write(b"?")
        self._answer = Deferred()
        return self._answer

    def dataReceived(self, data: bytes) -> None:
        """
        The answer.
        """
        answer, self._answer = self._answer, None
        assert answer is not None
        answer.callback(data.decode())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Tell.
        """
        self.lost.callback(None)
        if self._answer is not None:
            self._answer.errback(reason)


class RunningCase(TestCase):
    """
    A service with real sockets.
    """

    timeout = 30
    count = 0

    def setUp(self) -> None:
        """
        Make a folder with a short name, because a socket's path is short.
        """
        self.folder = Path(os.path.relpath(self.mktemp()))
        self.folder.mkdir(parents=True)

    async def upstream(self, name: str) -> Any:
        """
        Start a server that says a name.

        @return: The endpoint by which it is reached.
        """
        self.count += 1
        path = str(self.folder / f"up{self.count}")
        factory: Factory[Named] = Factory.forProtocol(lambda: Named(name))
        factory.noisy = False
        port = await UNIXServerEndpoint(reactor, path).listen(factory)
        self.addCleanup(port.stopListening)
        return UNIXClientEndpoint(reactor, path)

    async def route(self, name: str, listen: Any, upstream: str = "") -> Route:
        """
        Make a route to a server with its own name.
        """
        far = await self.upstream(upstream or name)
        return Route(name=name, listen=listen, pattern=Passthrough(upstream=far, requireTLS=False))

    def serve(self, *routes: Route, **more: Any) -> ProxyService:
        """
        Start a service.
        """
        service = ProxyService(routes, reactor, False, **more)
        service.startService()
        self.addCleanup(service.stopService)
        return service

    async def visit(self, where: Any) -> Client:
        """
        Connect.

        @param where: A port, or the path of a Unix socket.
        """
        if isinstance(where, str):
            endpoint: Any = UNIXClientEndpoint(reactor, where)
        else:
            endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", where)
        factory: Factory[Client] = Factory.forProtocol(Client)
        factory.noisy = False
        client: Client = await endpoint.connect(factory)
        self.addCleanup(self.leave, client)
        return client

    def leave(self, client: Client) -> Deferred[None]:
        """
        Hang up.
        """
        assert client.transport is not None
        client.transport.loseConnection()
        return client.lost

    def number(self, service: ProxyService, name: str) -> int:
        """
        The port of a route.
        """
        number: int = service.portsOf(name)[0].getHost().port  # type: ignore[attr-defined]
        return number


class ReloadTests(RunningCase):
    """
    The routes of a running service are changed.
    """

    async def test_sessions(self) -> None:
        """
        A session goes on by its route, and whoever comes to the same port next goes by the new one.  The port is the
        one that the kernel chose, whether the address is written as ours, as Twisted's, or is an object.
        """
        for listen in ("127.0.0.1:0", "tcp:0:interface=127.0.0.1", TCP4ServerEndpoint(reactor, 0, 50, "127.0.0.1")):
            service = self.serve(await self.route("shop", listen, "old"))
            port = self.number(service, "shop")
            before = await self.visit(port)
            await before.ask()
            await service.reload([await self.route("shop", listen, "new")])
            self.assertEqual(port, self.number(service, "shop"))
            after = await self.visit(port)
            self.assertEqual(("old", "new"), (await before.ask(), await after.ask()))
            self.assertEqual(2, len(service.sessions))
            await gatherResults([self.leave(before), self.leave(after)])

    async def test_unix(self) -> None:
        """
        A Unix socket that stays is the same file; one that is gone is removed; a new one is there.
        """
        kept, gone, new = (f"unix:{self.folder}/{name}" for name in ("kept", "gone", "new"))
        one, two, three = [await self.route(f"r{n}", where) for n, where in enumerate((kept, gone, new))]
        service = self.serve(one, two)
        inode = (self.folder / "kept").stat().st_ino
        await service.reload([three, one])
        self.assertEqual(inode, (self.folder / "kept").stat().st_ino)
        self.assertFalse((self.folder / "gone").exists())
        for name, answer in (("kept", "r0"), ("new", "r2")):
            client = await self.visit(f"{self.folder}/{name}")
            self.assertEqual(answer, await client.ask())

    async def test_refused(self) -> None:
        """
        Where an address is taken, the old routes go on, on their ports.
        """
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            service = self.serve(await self.route("shop", "127.0.0.1:0"))
            port = self.number(service, "shop")
            blog = await self.route("blog", "127.0.0.1:0")
            reloading = service.reload([blog, await self.route("wiki", f"127.0.0.1:{taken.getsockname()[1]}")])
            problem: Any = self.assertFailure(reloading, CannotListen)
            self.assertIn("Address already in use", str(await problem))
        client = await self.visit(port)
        self.assertEqual(("shop", ["shop"]), (await client.ask(), [route.name for route in service.routes]))

    async def test_nobodyIsRefused(self) -> None:
        """
        However often the routes change, everybody who comes is served.
        """
        routes = [await self.route("shop", "127.0.0.1:0", name) for name in ("one", "two")]
        service = self.serve(routes[0])
        port = self.number(service, "shop")
        answers = []
        for turn in range(40):
            asking = [Deferred.fromCoroutine(self._ask(port)) for _ in range(5)]
            await service.reload([routes[turn % 2]])
            answers += await gatherResults(asking)
        self.assertEqual((200, {"one", "two"}), (len(answers), set(answers)))
        self.assertEqual(0, await service.drain(10))
        self.assertEqual(200, sum(service.factories[0].counters.values()))
        self.assertEqual((set(), []), (service._retired, service.sessions))

    async def _ask(self, port: int) -> str:
        client = await self.visit(port)
        answer = await client.ask()
        await self.leave(client)
        return answer


class SpellingTests(RunningCase):
    """
    An address that is written in another way.
    """

    async def test_taken(self) -> None:
        """
        It is taken over from the route that had it, and who is there goes on.
        """
        service = self.serve(await self.route("shop", "127.0.0.1:0", "old"))
        port = self.number(service, "shop")
        before = await self.visit(port)
        await before.ask()
        for name, listen in (("a", str(port)), ("b", f"tcp:{port}:interface=127.0.0.1"), ("c", f"127.0.0.1:{port}")):
            await service.reload([await self.route(name, listen)])
            self.assertEqual((port, 1), (self.number(service, name), len(service.ports)))
            after = await self.visit(port)
            self.assertEqual(("old", name), (await before.ask(), await after.ask()))
            await self.leave(after)
        self.assertEqual([("127.0.0.1", port)], service.factories[0].listeners)

    async def test_unix(self) -> None:
        """
        So it is with a Unix socket.
        """
        path = f"{self.folder}/s"
        service = self.serve(await self.route("shop", f"unix:{path}"))
        await service.reload([await self.route("blog", f"unix:{path}:mode=600")])
        client = await self.visit(path)
        self.assertEqual("blog", await client.ask())

    async def test_back(self) -> None:
        """
        Where another address cannot be listened on, all is as it was: what made room is there again.
        """
        service = self.serve(await self.route("shop", "127.0.0.1:0"))
        port = self.number(service, "shop")
        # As it is written, the kernel would choose another.
        await service.reload([await self.route("shop", f"127.0.0.1:{port}")])
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = f"127.0.0.1:{other.getsockname()[1]}"
            routes = [await self.route("wide", str(port)), await self.route("taken", taken)]
            await self.assertFailure(service.reload(routes), CannotListen)
        self.assertEqual((["shop"], port), ([route.name for route in service.routes], self.number(service, "shop")))
        client = await self.visit(port)
        self.assertEqual("shop", await client.ask())
        self.assertEqual([("127.0.0.1", port)], service.factories[0].listeners)


class DrainTests(RunningCase):
    """
    A running service ends gently.
    """

    async def test_drain(self) -> None:
        """
        From the start nobody is let in any more; it is over when the last session has ended by itself.
        """
        service = self.serve(await self.route("shop", "127.0.0.1:0"))
        port = self.number(service, "shop")
        client = await self.visit(port)
        await client.ask()
        draining = service.drain(20)
        await self.assertFailure(Deferred.fromCoroutine(self.visit(port)), ConnectionRefusedError)
        self.assertEqual(("shop", False), (await client.ask(), draining.called))
        await self.leave(client)
        self.assertEqual(0, await draining)

    async def test_cut(self) -> None:
        """
        Who is still there when the time is over is cut, and counted.
        """
        path = f"{self.folder}/shop"
        service = self.serve(await self.route("shop", f"unix:{path}"))
        clients = [await self.visit(path) for _ in range(3)]
        for client in clients:
            await client.ask()
        await self.leave(clients[0])
        self.assertEqual(2, await service.drain(0.2))
        await gatherResults([client.lost for client in clients[1:]])
        self.assertFalse(os.path.exists(path))
