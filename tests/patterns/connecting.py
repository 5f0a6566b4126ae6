# -*- test-case-name: tests.patterns.test_connect -*-
"""
Tunnels in tests: names resolve, addresses connect and threads run when a test says so.
"""

from __future__ import annotations

import functools
import tempfile
from base64 import b64encode
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHostnameResolver, IHostResolution, IResolutionReceiver
from zope.interface import implementer

from tlsproxy import eyeballs
from tlsproxy.end import End
from tlsproxy.passwords import Users
from tlsproxy.patterns.connect import Connect
from tlsproxy.targets import Targets
from tlsproxy.testing.certificates import serverTLS, write
from tlsproxy.testing.sessions import SessionCase
from tlsproxy.testing.streampeers import Peer, TLSPeer

__all__ = ["ESTABLISHED", "PASSWORD", "TARGET", "ConnectCase", "ask", "credentials", "userLine", "users"]

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
"""What a client gets when its tunnel stands."""
PASSWORD = "correct horse battery"
"""The password of the user alice."""
TARGET = "shop.example:443"
"""What most tests ask for."""


def ask(target: str = TARGET, *fields: str) -> bytes:
    """
    Make the head of a request for a tunnel.
    """
    return "\r\n".join([f"CONNECT {target} HTTP/1.1", f"Host: {target}", *fields, "", ""]).encode()


def credentials(user: str = "alice", password: str = PASSWORD) -> str:
    """
    Make the field that says who asks.
    """
    return f"Proxy-Authorization: Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


@functools.cache
def userLine() -> bytes:
    """
    Make the line of alice in a file of users.
    """
    # As cheap as the file lets it be.
    salt = bytes(16)
    hashed = Scrypt(salt=salt, length=32, n=2**14, r=8, p=1).derive(PASSWORD.encode())
    written = [b64encode(one).decode().rstrip("=") for one in (salt, hashed)]
    return "$".join(["alice:", "scrypt", "ln=14,r=8,p=1", *written]).encode()


def users() -> Users:
    """
    Make the users, of whom there is one, whom nobody has met.
    """
    with tempfile.TemporaryDirectory() as folder:
        return Users.load(write(str(Path(folder) / "users"), userLine()))


@implementer(IHostResolution)
class _Resolution:
    """
    A resolution that cannot be called off.
    """

    name = "a name"

    def cancel(self) -> None:
        """
        See L{IHostResolution}.
        """


@implementer(IHostnameResolver)
class _Resolver:
    """
    A resolver that knows what a test has told it.
    """

    def __init__(self) -> None:
        self.known: dict[str, Sequence[str]] = {}
        self.asked: list[str] = []

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """
        See L{IHostnameResolver}.
        """
        self.asked.append(hostName)
        for host in self.known.get(hostName, ()):
            kind = IPv6Address if ":" in host else IPv4Address
            resolutionReceiver.addressResolved(kind("TCP", host, portNumber))
        resolutionReceiver.resolutionComplete()
        return _Resolution()


class _Threads:
    """
    The threads of a reactor, which run in its own.

    @ivar held: What is to be run; L{None} to run it at once.
    """

    def __init__(self) -> None:
        self.held: list[Callable[[], None]] | None = None

    def callInThreadWithCallback(self, told: Callable[[bool, Any], None], work: Callable[[], Any]) -> None:
        """
        Run something.
        """

        def run() -> None:
            told(True, work())

        if self.held is None:
            run()
        else:
            self.held.append(run)


class ConnectCase(SessionCase):
    """
    A test of tunnels.

    @ivar known: The addresses of names.
    @ivar asked: The names that were looked up.
    @ivar dialed: The addresses and ports that were dialed.
    @ivar waiting: The attempts that are not answered.
    @ivar answers: Whether an attempt is answered at once.
    @ivar targets: The other ends of those that were.
    @ivar make: Makes them.
    """

    def setUp(self) -> None:
        """
        Make a reactor that resolves, and see what is dialed.
        """
        super().setUp()
        self.resolver = self.reactor.nameResolver = _Resolver()
        self.known, self.asked = self.resolver.known, self.resolver.asked
        self.known["shop.example"] = ["192.0.2.1"]
        self.threads = _Threads()
        self.reactor.getThreadPool = lambda: self.threads
        self.reactor.callFromThread = lambda function, *given: function(*given)
        self.dialed: list[tuple[str, int]] = []
        self.waiting: list[Deferred[None]] = []
        self.answers = True
        self.targets: list[Any] = []
        self.make: Callable[[Any], Peer] = Peer

        async def connect(reactor: Any, address: str, port: int, end: End) -> End:
            self.dialed.append((address, port))
            if not self.answers:
                waiting: Deferred[None] = Deferred()
                self.waiting.append(waiting)
                await waiting
            self.targets.append(self.attach(end, self.make, "tcp.Server"))
            end.transport.client = address, port
            end.transport._addressType = IPv6Address if ":" in address else IPv4Address
            return end

        self.patch(eyeballs, "connect", connect)

    def proxy(
        self,
        *allow: str,
        deny: Sequence[str] = (),
        tls: bool = False,
        users: Users | None = None,
        listeners: Sequence[tuple[str, int]] = (),
        **limits: Any,
    ) -> None:
        """
        Serve in this mode.

        @param allow: The targets, those in shop.example by default.
        """
        targets = Targets(allow=allow or ("*.example:*", "shop.example:443"), deny=deny)
        self.serve(Connect(targets=targets, tls=serverTLS() if tls else None, users=users), **limits)
        self.factory.listeners = listeners

    def asks(self, request: bytes, make: Callable[[Any], Peer] = Peer) -> Any:
        """
        Have a client connect and send something.
        """
        client = self.visit(make)
        client.write(request)
        return client

    def got(self, client: Peer) -> tuple[int, dict[str, str], bytes]:
        """
        Take the whole answer that a client got, behind which its stream has ended as it should.

        @return: The status, the fields with names in lower case, and the body.
        """
        self.settle(lambda: bool(client.ended))
        self.assertEqual(("end", True), (client.ended, not isinstance(client, TLSPeer) or client.told))
        head, _, body = bytes(client.received).partition(b"\r\n\r\n")
        first, *lines = head.decode("ascii").split("\r\n")
        version, status, phrase = first.split(" ", 2)
        self.assertEqual(("HTTP/1.1", True), (version, bool(phrase)))
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        self.assertEqual(len(lines), len(fields))
        self.assertEqual("close", fields["connection"])
        return int(status), fields, body

    def assertAnswered(self, client: Peer, status: int, body: str, outcome: str, phase: str, reason: str) -> str:
        """
        A client got this answer, all of it, then the end of its stream; and this is what the log says.

        @return: The line.
        """
        got, fields, said = self.got(client)
        self.assertEqual((status, f"{body}\n"), (got, said.decode()))
        self.assertEqual(str(len(said)), fields["content-length"])
        self.assertEqual("text/plain; charset=utf-8", fields["content-type"])
        self.assertOver(outcome, phase, reason)
        client.close()
        self.settle()
        self.assertFalse(self.aborted(client))
        (line,) = self.lines()
        self.assertNotIn(PASSWORD, line)
        return line

    def tunnel(self, client: Peer) -> Peer:
        """
        See that a tunnel stands, and end it from both sides.

        @return: Its target.
        """
        self.settle(lambda: bytes(client.received).startswith(ESTABLISHED))
        (target,) = self.targets
        target.write(b"greeting")
        self.settle(lambda: bytes(client.received) == ESTABLISHED + b"greeting")
        client.end()
        target.end()
        self.settle(lambda: bool(self.told()))
        found: Peer = target
        return found
