# -*- test-case-name: tests.test_splice_urgent -*-
"""
L{tlsproxy.splice}: a byte that is sent as urgent is no part of the stream.  It neither stops the bytes behind it, nor
ends the stream before them, nor keeps the reactor busy.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from twisted.trial.unittest import SkipTest

from tests.test_splice import SplicedStreams
from tlsproxy import splice
from tlsproxy.testing.streams import Loopback, Side, TCPLoopback

if TYPE_CHECKING:
    _Mixin = SplicedStreams
else:
    _Mixin = object


class Urgent(_Mixin):
    """
    What holds for all sockets, spliced and copied; to be mixed into L{SplicedStreams}.
    """

    def urge(self, side: Side) -> None:
        """
        Have a peer send an urgent byte behind what it sent.
        """
        while side.peer.unsent:
            self.assertTrue(side.peer.pump())
        try:
            side.peer.socket.send(b"!", socket.MSG_OOB)
        except OSError as e:
            raise SkipTest(f"these sockets have no urgent bytes: {e}") from e

    def test_passedOver(self) -> None:
        """
        What is sent before it and behind it arrives, and is counted, and the session goes on.
        """
        self.make()
        for source, sink, direction in self.ways():
            source.peer.write(b"before")
            self.urge(source)
            source.peer.write(b"behind")
            self.settle(lambda sink=sink: sink.peer.received == b"beforebehind")  # type: ignore[misc]
            self.settle()
            self.assertEqual(12, direction.count)
            source.peer.write(b", and on")
            self.settle(lambda sink=sink: sink.peer.received == b"beforebehind, and on")  # type: ignore[misc]
            self.assertEqual((20, 0), (direction.count, self.pipesHeld()))

    def test_apart(self) -> None:
        """
        So it is where each comes when the reactor has seen the one before.
        """
        self.make()
        for source, sink, direction in self.ways():
            received = b""
            for word in (b"one", b"two", b"three"):
                self.urge(source)
                self.settle()
                self.assertEqual(len(received), direction.count)
                source.peer.write(word)
                received += word
                self.settle(lambda sink=sink, received=received: sink.peer.received == received)  # type: ignore[misc]
                self.settle()

    def test_end(self) -> None:
        """
        The stream does not end before the bytes behind it, however many are moved at once.
        """
        for most in (splice._MOST, 6, 3):
            for first in (0, 1):
                for words in ((b"before", b"behind"), (b"", b"behind"), (b"before", b"")):
                    self.patch(splice, "_MOST", most)
                    self.make()
                    source, sink, direction = self.ways()[first]
                    source.peer.write(words[0])
                    self.urge(source)
                    source.peer.write(words[1])
                    source.peer.end()
                    while source.peer.pump():
                        pass
                    self.settle(lambda sink=sink: sink.peer.ended == "end")  # type: ignore[misc]
                    self.assertEqual(b"".join(words), sink.peer.received)
                    self.assertEqual(len(b"".join(words)), direction.count)
                    self.assertEqual([], self.outcomes)
                    self.tearDown()
                    self.setUp()

    def test_endApart(self) -> None:
        """
        Nor does it where the end comes last.
        """
        self.make()
        self.near.peer.write(b"before")
        self.urge(self.near)
        self.settle()
        self.near.peer.end()
        self.settle(lambda: self.far.peer.ended == "end")
        self.assertEqual(b"before", self.far.peer.received)

    def test_answerBehindIt(self) -> None:
        """
        Where it is the last before the end, the answer arrives whole all the same, and then the end, without a reset.
        """
        self.make()
        self.near.peer.write(b"request")
        self.settle(lambda: self.far.peer.received == b"request")
        self.urge(self.near)
        self.near.peer.end()
        self.settle(lambda: self.far.peer.ended == "end")
        answer = bytes(1 << 20)
        self.far.peer.write(answer)
        self.far.peer.end()
        while self.far.peer.pump():
            pass
        self.settle(lambda: bool(self.near.peer.ended))
        self.assertEqual((len(answer), "end"), (len(self.near.peer.received), self.near.peer.ended))

    def test_beforeTheJoin(self) -> None:
        """
        It may come before the session is joined.
        """
        self.near = self.side("plain", near=True)
        self.far = self.side("plain", near=False)
        for side in self.sides:
            self.urge(side)
            side.peer.write(b"behind")
            side.peer.end()
            while side.peer.pump():
                pass
        self.join()
        self.settle(lambda: self.relay.over and self.near.peer.ended == self.far.peer.ended == "end")
        self.assertEqual((b"behind", b"behind"), (self.near.peer.received, self.far.peer.received))
        self.assertOver("closed")

    def test_clogged(self) -> None:
        """
        It may come while the sink is full.
        """
        for first in (0, 1):
            self.makeSmall()
            source, sink, direction, data = self.clog(first, 400000)
            sink.peer.reading = True
            self.urgeBehind(source, sink)
            source.peer.write(b"behind")
            source.peer.end()
            self.settle(lambda sink=sink: sink.peer.ended == "end")  # type: ignore[misc]
            self.assertTrue(data + b"behind" == sink.peer.received)
            self.assertEqual((len(data) + 6, 0), (direction.count, self.pipesHeld()))
            self.tearDown()
            self.setUp()

    def urgeBehind(self, source: Side, sink: Side) -> None:
        """
        Send the urgent byte as soon as what was written before is sent, while the sink rests.
        """
        while source.peer.unsent:
            sink.peer.reading = True
            sink.peer.pump()
            sink.peer.reading = False
            self.loopback.reactor.turn()
            source.peer.pump()
        self.urge(source)
        sink.peer.reading = True

    def test_many(self) -> None:
        """
        There may be many, in a stream of many pieces.
        """
        self.makeSmall()
        data = os.urandom(60000)
        for start in range(0, len(data), 5000):
            self.near.peer.write(data[start : start + 5000])
            self.urge(self.near)
            self.settle()  # One that is not read by the time the next one comes is an urgent byte no more.
        self.near.peer.end()
        self.settle(lambda: self.far.peer.ended == "end")
        self.assertTrue(data == self.far.peer.received)


class TCPUrgentTests(Urgent, SplicedStreams):
    """
    TCP, spliced.
    """

    def makeLoopback(self) -> Loopback:
        """
        TCP.
        """
        return TCPLoopback()


class TCPUrgentCopyingTests(TCPUrgentTests):
    """
    TCP, copied.
    """

    splices = False


class UnixUrgentTests(Urgent, SplicedStreams):
    """
    Unix sockets, spliced.
    """


class UnixUrgentCopyingTests(UnixUrgentTests):
    """
    Unix sockets, copied.
    """

    splices = False
