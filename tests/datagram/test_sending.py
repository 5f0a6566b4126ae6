"""
Tests for L{tlsproxy.datagram.sending}.
"""

from __future__ import annotations

import errno

from twisted.internet.testing import EventLoggingObserver
from twisted.logger import formatEvent, globalLogPublisher

from tests.datagram.wires import EndCase, MemoryWire, Result
from tlsproxy.datagram.sending import EMPTY, FULL, TOO_LARGE, UNANSWERED, Sender
from tlsproxy.interfaces import DRAINED


class SendingTests(EndCase):
    """
    Tests for what is sent, and what is not.
    """

    def test_tooLarge(self) -> None:
        """
        What the path does not carry is dropped, counted, and told of once.
        """
        observer = EventLoggingObserver()
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.shaken()
        for _ in range(3):
            self.assertEqual(self.near.send(bytes(1164)), 0)
        self.assertEqual(self.near.dropped, {TOO_LARGE: 3})
        self.assertEqual(list(self.nearWire.sent), [])
        lines = [formatEvent(event) for event in observer]
        self.assertEqual(len(lines), 1)
        self.assertTrue(
            lines[0].startswith("a datagram of 1164 bytes to the client is dropped, since the path carries")
        )

    def test_tooLargeInClear(self) -> None:
        """
        So it is in clear, where the kernel says so.
        """
        self.nearWire.narrow = 500
        self.assertEqual((self.near.send(bytes(501)), self.near.send(bytes(500))), (0, 500))
        self.assertEqual(self.near.dropped, {TOO_LARGE: 1})

    def test_tooLargeForAny(self) -> None:
        """
        What no datagram could ever carry, as a handler may make it, is dropped, too.
        """
        self.assertEqual((self.near.send(bytes(70000)), self.near.dropped), (0, {TOO_LARGE: 1}))

    def test_narrowed(self) -> None:
        """
        Once the kernel has said so, larger ones are not even tried.
        """
        self.shaken()
        self.nearWire.narrow = 500
        self.assertEqual((self.near.send(bytes(1000)), self.near.send(bytes(463))), (0, 463))
        assert self.near.tls is not None
        self.assertEqual((self.near.dropped, self.near.tls.largest), ({TOO_LARGE: 1}, 463))

    def test_anotherTooLarge(self) -> None:
        """
        What fits is sent, where the kernel tells that an earlier one was too large; once is enough.
        """
        self.shaken()
        self.nearWire.known = 600
        for problems, sent in (([errno.EMSGSIZE], 5), ([errno.EMSGSIZE] * 2, 0)):
            self.nearWire.problems = problems
            self.assertEqual(self.near.send(b"small"), sent)
        self.assertEqual((self.near.dropped, len(self.nearWire.sent)), ({TOO_LARGE: 1}, 1))

    def test_empty(self) -> None:
        """
        An empty datagram goes on in clear, and cannot in DTLS.
        """
        heard = self.heard(self.far)
        self.near.emit(self.buffer, 0)
        self.carry()
        self.assertEqual(heard, [b""])
        self.setUpAgain()
        self.shaken()
        self.near.emit(self.buffer, 0)
        self.assertEqual(self.near.dropped, {EMPTY: 1})
        self.give(self.near, b"")
        assert self.near.tls is not None
        self.assertEqual(self.near.tls.state, DRAINED)

    def test_full(self) -> None:
        """
        What the kernel has no room for is dropped.
        """
        self.nearWire.problems = [errno.EAGAIN, errno.ENOBUFS]
        self.assertEqual([self.near.send(b"x") for _ in range(3)], [0, 0, 1])
        self.assertEqual(self.near.dropped, {FULL: 2})

    def test_unanswered(self) -> None:
        """
        That an earlier datagram has not arrived keeps no later one from being sent, and ends nothing.
        """
        self.shaken()
        self.nearWire.problems = [errno.ECONNREFUSED]
        self.assertEqual(self.near.send(b"x"), 1)
        self.nearWire.problems = [errno.ECONNREFUSED, errno.EHOSTUNREACH]
        self.assertEqual(self.near.send(b"x"), 0)
        self.assertEqual(self.near.dropped, {UNANSWERED: 3})
        self.assertEqual(len(self.nearWire.sent), 1)
        self.assertFalse(self.near.gone)

    def test_write(self) -> None:
        """
        One can be sent as streams are written to.
        """
        Result(self.near.write(b"hello"))
        self.assertEqual((list(self.nearWire.sent), self.near.writing.endWrite()), ([b"hello"], True))

    def test_base(self) -> None:
        """
        What the network tells is for whoever sends to heed.
        """
        sender = Sender("the client", MemoryWire())
        self.assertRaises(NotImplementedError, sender.unreachable, errno.ECONNREFUSED)
        self.assertRaises(NotImplementedError, sender.over, "closed", "")

    def test_broken(self) -> None:
        """
        What cannot be sent any more ends the association.
        """
        self.shaken()
        how: list[tuple[str, str]] = []
        self.near.onEnd = lambda *told: how.append(told)
        self.near.endWrite()
        self.assertEqual(self.near.send(b"x"), 0)
        self.assertEqual([outcome for outcome, _ in how], ["failed"])
