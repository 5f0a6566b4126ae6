# -*- test-case-name: tests.test_flow_refusals -*-
"""
L{tlsproxy.flow}: handlers that refuse a session.
"""

from __future__ import annotations

from typing import Any

from tests.acting import Act, Acting, ActingCase
from tests.test_flow import FAILED, Mistake, fail
from tlsproxy.handler import INWARD, OUTWARD, Way
from tlsproxy.testing.streampeers import TLSPeer


class RefusalTests(ActingCase):
    """
    Handlers that refuse a session while its bytes flow.
    """

    tcp = True

    def refusing(self, answer: bytes) -> Act:
        """
        Make a handler that refuses what the client says.
        """

        def received(handler: Acting, way: Way, data: bytes) -> bytes:
            if way == OUTWARD:
                handler.flow.refuse("what the client says is not allowed", answer)
                handler.flow.refuse("again", answer)
            return data

        return self.act(received=received)

    def assertRefused(self, client: Any, answer: bytes) -> None:
        """
        The client gets the answer and an orderly end, and the upstream a reset and no byte.
        """
        client.write(b"something rude" * 1000)
        self.settle(lambda: bool(client.ended))
        self.assertEqual((answer, "end"), (client.received, "end" if getattr(client, "told", True) else client.ended))
        self.settle(lambda: self.upstream.peer.ended == "reset")
        self.assertEqual(b"", self.upstream.peer.received)
        self.assertEqual(("refused", "handler acting: what the client says is not allowed"), self.ended())
        client.close()
        self.settle(lambda: bool(self.connections[client].losses))
        self.assertFalse(self.aborted(client))

    def test_refuse(self) -> None:
        """
        The client is told, in plain and in TLS; or gets an end without a word.
        """
        for begin in (self.plain, self.offload, self.bridge):
            for answer in (b"550 no\r\n", b""):
                self.assertRefused(begin(self.refusing(answer)), answer)
                self.tearDown()
                self.setUp()

    def test_throughOthers(self) -> None:
        """
        The answer passes the earlier handlers.
        """
        client = self.plain(self.act(received=lambda _, __, data: data[:8].lower()), self.refusing(b"NO"))
        self.assertRefused(client, b"no")

    def test_doneInward(self) -> None:
        """
        A handler that has no say in the answer's direction can tell it nevertheless.
        """
        act = self.refusing(b"no")
        object.__setattr__(act, "begin", lambda handler: handler.flow.done(INWARD))
        self.assertRefused(self.plain(act), b"no")

    def test_behindTheRest(self) -> None:
        """
        Where the client does not take what was sent before, it cannot be told: it is reset.
        """
        client = self.plain(self.refusing(b"no"))
        client.reading = False
        self.upstream.peer.write(bytes(30 << 20))
        self.settle(lambda: self.relay.inward.clogged)
        client.write(b"x")
        self.settle(lambda: bool(self.told()))
        client.reading = True
        self.settle(lambda: client.ended == "reset")
        self.assertEqual("refused", self.ended()[0])

    def test_afterTheEnd(self) -> None:
        """
        Where the client's stream has ended already, nothing follows.
        """
        client = self.plain(self.refusing(b"no"))
        self.upstream.peer.end()
        self.settle(lambda: client.ended == "end")
        client.write(b"x")
        self.settle(lambda: bool(self.told()))
        self.assertEqual(("refused", b""), (self.ended()[0], client.received))

    def test_anAnswerThatFails(self) -> None:
        """
        If an earlier handler fails on the answer, that is what the session ends of.
        """

        def received(handler: Acting, way: Way, data: bytes) -> bytes:
            if way == INWARD:
                fail()
            return data

        client = self.plain(self.act(received=received, name="first"), self.refusing(b"no"))
        client.write(b"x")
        self.settle(lambda: bool(self.told()))
        self.assertEqual(("failed", "handler first failed; its traceback is in the log"), self.ended())
        self.flushLoggedErrors(Mistake)


class EarlyRefusalTests(ActingCase):
    """
    Handlers that refuse a session before its bytes flow.
    """

    def test_whenMade(self) -> None:
        """
        When it is made, or in its talk, or while that waits for something: the client gets the answer and an end.
        """

        def begin(handler: Acting) -> None:
            handler.flow.refuse("not at this hour", b"come back later\r\n")

        async def talk(handler: Acting, near: Any, far: Any) -> None:
            begin(handler)

        async def wait(handler: Acting, near: Any, far: Any) -> None:
            handler.flow.callLater(1, begin, handler)
            await near.readLine()

        for start in (self.plain, self.offload):
            for what in ({"begin": begin}, {"talk": talk}, {"talk": wait}):
                client = start(self.act(**what))
                self.after(1.5)
                self.settle(lambda client=client: bool(client.ended))  # type: ignore[misc]
                self.assertEqual(b"come back later\r\n", client.received)
                self.assertTrue(client.told if isinstance(client, TLSPeer) else client.ended == "end")
                self.assertEqual(("refused", "handler acting: not at this hour"), self.ended())
                self.assertEqual(b"", self.upstream.peer.received)
                self.assertTrue(self.aborted(self.upstream.peer))
                self.tearDown()
                self.setUp()

    def test_releaseTooEarly(self) -> None:
        """
        To release bytes before they flow is a mistake, and is told as one.
        """
        self.plain(self.act(begin=lambda handler: handler.flow.release(OUTWARD, b"x")))
        self.assertEqual(FAILED, self.ended())
        (failure,) = self.flushLoggedErrors(RuntimeError)
        self.assertEqual("the bytes do not flow yet: before that, a side is written to", str(failure.value))
