# -*- test-case-name: tests.patterns.test_connect_deadlines -*-
"""
L{tlsproxy.patterns.connect}: what a client is told when time is up, or the service stops.
"""

from __future__ import annotations

from typing import Any, ClassVar

from tests.patterns.connecting import ConnectCase, ask, credentials, users
from tlsproxy.testing.sessions import Browser
from tlsproxy.testing.streampeers import Peer


class DeadlineTests(ConnectCase):
    """
    Deadlines of the phases before the join.
    """

    tcp = True
    secure: ClassVar[bool] = False

    def client(self, request: bytes, **limits: Any) -> Any:
        """
        Serve, and have a client connect.
        """
        self.proxy(tls=self.secure, users=limits.pop("users", None), **limits)
        client = self.asks(request, Browser if self.secure else Peer)
        self.settle(lambda: bool(self.phases) and self.phases[-1] not in ("hello", "handshake"))
        return client

    def test_head(self) -> None:
        """
        408: a request that is not whole in time, of which nothing or something came.
        """
        for sent in (b"", ask()[:-1]):
            client = self.client(sent, head=3)
            self.after(2.5)
            self.assertEqual(1, len(self.factory.sessions))
            self.after(1)
            reason = "the client did not send a whole request within 3 s"
            self.assertAnswered(client, 408, "the request did not come in time", "expired", "head", reason)
            self.forget()

    def test_slowly(self) -> None:
        """
        Nor does it help to send it byte by byte.
        """
        client = self.client(b"", head=3)
        for byte in ask()[:11]:
            client.write(bytes([byte]))
            self.after(0.25)
        self.after(1)
        reason = "the client did not send a whole request within 3 s"
        self.assertAnswered(client, 408, "the request did not come in time", "expired", "head", reason)

    def test_dial(self) -> None:
        """
        504: a target that does not answer in time; the attempt is called off.
        """
        self.answers = False
        client = self.client(ask() + bytes(100000), dial=2)
        self.after(2.5)
        reason = "the upstream did not answer within 2 s"
        self.assertAnswered(client, 504, "the target did not answer in time", "expired", "dial", reason)
        self.assertEqual([True], [one.called for one in self.waiting])

    def test_lifetime(self) -> None:
        """
        The end of the whole session's time is no answer of the target's: the client gets none.
        """
        self.answers = False
        client = self.client(ask(), dial=0, lifetime=2)
        self.after(2.5)
        self.settle(lambda: bool(self.told()))
        self.assertEqual(b"", bytes(client.received))
        self.assertOver("expired", "lifetime", "the session did not end within 2 s")

    def test_password(self) -> None:
        """
        503: a password that is not verified in time; nothing is looked up when the thread is done at last.
        """
        self.threads.held = []
        client = self.client(ask("shop.example:443", credentials()) + bytes(100000), route=2, users=users())
        self.after(2.5)
        body = "too many others wait for their passwords to be verified; try again later"
        self.assertAnswered(client, 503, body, "expired", "route", "the client was not admitted within 2 s")
        (run,) = self.threads.held
        run()
        self.settle()
        self.assertEqual((1, []), (len(self.told()), self.asked))

    def assertStopped(self, client: Any, phase: str) -> None:
        """
        The service stops, and the client is not answered, but reset.
        """
        self.assertEqual(phase, self.one().phase)
        self.one().stop()
        self.assertOver("stopped", phase, "the service stopped")
        self.settle()
        self.assertEqual(b"", bytes(client.received))
        self.assertTrue(self.aborted(client))

    def test_stopInTheHead(self) -> None:
        """
        A service that stops answers nothing while a request is waited for.
        """
        self.assertStopped(self.client(ask()[:-1]), "head")

    def test_stopWhileDialing(self) -> None:
        """
        Nor does it while the target is being dialed.
        """
        self.answers = False
        self.assertStopped(self.client(ask()), "dial")

    def test_stopWhileVerifying(self) -> None:
        """
        Nor does it while a password is being verified.
        """
        self.threads.held = []
        client = self.client(ask("shop.example:443", credentials()), users=users())
        self.assertStopped(client, "route")
        for run in self.threads.held:
            run()


class SecureDeadlineTests(DeadlineTests):
    """
    The same inside TLS.
    """

    secure = True
