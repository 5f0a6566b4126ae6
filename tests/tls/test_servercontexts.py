"""
Tests for L{tlsproxy.tls.servercontexts}.
"""

from __future__ import annotations

from OpenSSL import SSL

from tests.tls.pairs import VERSIONS, PairCase, shake, take
from tlsproxy.tls.native import TLSStream
from tlsproxy.tls.presenting import present
from tlsproxy.tls.servercontexts import ServerContexts
from tlsproxy.tls.servernames import Choice


class ContextCase(PairCase):
    """
    A test with three choices.

    @ivar made: what a context was made for, each time.
    """

    def setUp(self) -> None:
        """
        Issue their certificates.
        """
        super().setUp()
        self.made: list[Choice] = []
        self.first, self.second, self.third = (
            Choice((self.issued(name),)) for name in ("shop.example", "forum.example", "mail.example")
        )

    def make(self, choice: Choice) -> SSL.Context:
        """
        Make a context.
        """
        self.made.append(choice)
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        present(context, choice.identities)
        return context

    def contexts(self, resumes: bool = True, most: int = 10) -> ServerContexts:
        """
        Make the contexts of a route.
        """
        return ServerContexts(self.make, self.first, resumes, most)


class KeepingTests(ContextCase):
    """
    When contexts are made, and for how long they are kept.
    """

    def test_whenAskedFor(self) -> None:
        """
        The first context is made at once, the others each when it is first asked for, and then used again.
        """
        contexts = self.contexts()
        self.assertEqual([self.first], self.made)
        self.assertIs(contexts.first, contexts.get(self.first))
        one = contexts.get(self.second)
        self.assertIs(one, contexts.get(self.second))
        self.assertEqual([self.first, self.second], self.made)

    def test_bounded(self) -> None:
        """
        The one that was not asked for the longest is dropped, and the first never is.
        """
        contexts = self.contexts(most=2)
        fourth = Choice((self.issued("x.example"),))
        for choice in (self.second, self.third, self.second, fourth, self.second, self.first):
            contexts.get(choice)
        self.assertEqual([self.first, self.second, self.third, fourth], self.made)
        contexts.get(self.third)
        self.assertIs(self.third, self.made[-1])
        self.assertEqual(5, len(self.made))


class ResumptionTests(ContextCase):
    """
    What is resumed.
    """

    def met(
        self, contexts: ServerContexts, choice: Choice, client: SSL.Context, session: SSL.Session | None = None
    ) -> tuple[bool, TLSStream]:
        """
        Let a client connect, and see that it is shown what it should be.

        @return: whether its session was resumed, and the client.
        """
        here, there = self.sockets()
        ends = contexts.connect(here, choice, TLSStream), TLSStream(client, there, server=False)
        if session is not None:
            ends[1].connection.set_session(session)
        self.assertEqual([None, None], [each.error for each in shake(*ends)])
        shown = ends[1].connection.get_peer_certificate(as_cryptography=True)
        resumed = [each.resumed() for each in ends]
        self.assertEqual([resumed[0]] * 2, resumed)
        self.assertEqual(choice.identities[0].chain[0], shown)
        ends[0].send(b"welcome")
        self.assertEqual(b"welcome", take(ends[1]))
        return resumed[0], ends[1]

    def client(self, version: str) -> SSL.Context:  # type: ignore[override]
        """
        Make a client's context.
        """
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        limit = SSL.TLS1_2_VERSION if version == "1.2" else SSL.TLS1_3_VERSION
        context.set_min_proto_version(limit)
        context.set_max_proto_version(limit)
        return context

    def again(self, contexts: ServerContexts, version: str, before: Choice, after: Choice) -> bool:
        """
        Let a client connect twice, the second time with the session of the first.

        @return: whether that was resumed.
        """
        client = self.client(version)
        resumed, end = self.met(contexts, before, client)
        self.assertFalse(resumed)
        return self.met(contexts, after, client, end.connection.get_session())[0]

    def test_same(self) -> None:
        """
        A client that comes back for the same certificate resumes its session, be it the first or another.
        """
        for version in VERSIONS:
            for choice in (self.first, self.second):
                self.assertTrue(self.again(self.contexts(), version, choice, choice))

    def test_dropped(self) -> None:
        """
        It does so also where the context has been dropped in between.
        """
        for version in VERSIONS:
            contexts, client = self.contexts(most=1), self.client(version)
            _, end = self.met(contexts, self.second, client)
            self.met(contexts, self.third, client)
            self.assertTrue(self.met(contexts, self.second, client, end.connection.get_session())[0])
            self.assertEqual(2, self.made.count(self.second))
            self.made.clear()

    def test_other(self) -> None:
        """
        Where another certificate is shown, nothing is resumed, and the handshake succeeds.
        """
        for version in VERSIONS:
            for before, after in (
                (self.first, self.second),
                (self.second, self.first),
                (self.second, self.third),
            ):
                self.assertFalse(self.again(self.contexts(), version, before, after))

    def test_otherRoute(self) -> None:
        """
        Neither is where other contexts, of another route or of a route that was read again, meet the client.
        """
        for version in VERSIONS:
            client = self.client(version)
            _, end = self.met(self.contexts(), self.second, client)
            self.assertFalse(self.met(self.contexts(), self.second, client, end.connection.get_session())[0])

    def test_noResumption(self) -> None:
        """
        Where nothing is to be resumed, each connection is made with its own context, whose word it is.
        """

        def make(choice: Choice) -> SSL.Context:
            context = self.make(choice)
            context.set_options(SSL.OP_NO_TICKET)
            return context

        for version in VERSIONS:
            for choice in (self.first, self.second):
                contexts = ServerContexts(make, self.first, False)
                self.assertFalse(self.again(contexts, version, choice, choice))
