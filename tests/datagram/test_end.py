"""
Tests for L{tlsproxy.datagram.end}.
"""

from __future__ import annotations

import errno

from tests.datagram.wires import EndCase, Result
from tlsproxy.address import tellPeer
from tlsproxy.datagram.end import DatagramEnd
from tlsproxy.datagram.sending import FULL, TOO_LARGE
from tlsproxy.errors import AdmissionRefused, DialFailed, HandshakeFailed, PeerEnded, PeerReset
from tlsproxy.interfaces import DRAINED, ENDED
from tlsproxy.tls.datagrams import _BIO_read


class HandshakeTests(EndCase):
    """
    Tests for L{DatagramEnd.startTLS}.
    """

    def test_both(self) -> None:
        """
        Both ends come to DTLS; nothing of the timers is left.
        """
        self.shaken()
        for end in (self.near, self.far):
            assert end.tls is not None
            self.assertEqual(end.tls.connection.get_protocol_version_name(), "DTLSv1.2")
            self.assertEqual(end.state, DRAINED)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual((self.nearWire.done, self.farWire.done), ([self.near], [self.far]))

    def test_hello(self) -> None:
        """
        The client's hello is known before it is answered.
        """
        self.shake()
        hello = Result(self.near.peekHello()).value
        self.assertEqual(hello.serverName, "shop.example")

    def test_noHello(self) -> None:
        """
        A side in clear has none.
        """
        problem = Result(self.near.peekHello()).problem
        self.assertIsInstance(problem, AdmissionRefused)
        self.assertEqual(str(problem), "the client has sent no DTLS hello")

    def test_lost(self) -> None:
        """
        What gets lost, in either direction, is repeated, by the reactor's clock.
        """
        for lost in ((1, 0), (0, 1), (2, 1), (0, 3), (3, 4)):
            self.setUpAgain()
            here, there = self.shake(lost=lost)
            self.assertFalse(here.value and there.value)
            self.passes(40)
            self.assertTrue(here.value and there.value, lost)
            self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_narrow(self) -> None:
        """
        Where the kernel says that the path carries less, the flight is cut anew and repeated.
        """
        self.nearWire.narrow = 400
        here, there = self.shake()
        self.assertIdentical(there.value, None)
        self.passes(2)
        self.assertTrue(here.value and there.value)
        self.assertEqual(here.value.mtu, 400)
        self.assertEqual(self.near.dropped[TOO_LARGE], 0)

    def test_hole(self) -> None:
        """
        Where what is large gets lost and nobody tells, less is sent at once from the second repetition on.
        """
        self.nearWire.hole = 600
        here, there = self.shake()
        self.passes(5)
        self.assertTrue(here.value and there.value)
        self.assertEqual(here.value.mtu, 548)

    def test_local(self) -> None:
        """
        On a link of this machine's own large datagrams are taken, but not in the handshake.
        """
        self.nearWire.known = 65507
        here, there = self.shake()
        self.assertEqual((here.value.largest, there.value.largest), (16384, 1163))

    def test_given(self) -> None:
        """
        What the configuration says holds.
        """
        for given, kept in ((700, 700), (1400, 1400)):
            self.setUpAgain()
            self.near = DatagramEnd("the client", self.reactor, self.nearWire, given)
            here, _ = self.shake()
            self.assertEqual(here.value.mtu, kept)

    def test_refused(self) -> None:
        """
        Both sides are told why a handshake fails.
        """
        here, there = self.shake(self.server(clientCa=(self.anchor,)))
        self.assertIsInstance(here.problem, HandshakeFailed)
        self.assertTrue(str(here.problem).startswith("the client showed no certificate, and one is demanded"))
        self.assertIsInstance(there.problem, HandshakeFailed)
        self.assertIn("(alert handshake_failure received)", str(there.problem))

    def test_alert(self) -> None:
        """
        A client that is refused before its handshake is told by an alert, too.
        """
        there = self.hello()
        self.near.refuse(112)
        self.carry()
        self.assertIn("it does not know the server name asked for", str(there.problem))
        self.far.refuse(112)
        self.assertEqual(list(self.farWire.sent), [])

    def test_unknownName(self) -> None:
        """
        A server name that is to be refused leaves the side without DTLS.
        """
        here, _ = self.shake(self.server(unknownSni="refuse"), name="desk.example")
        self.assertIsInstance(here.problem, AdmissionRefused)
        self.assertIdentical(self.near.tls, None)

    def test_nobody(self) -> None:
        """
        Where nobody listens, the network says so.
        """
        self.farWire.problems = [0]
        there = Result(self.far.startTLS(self.client()))
        self.far.unreachable(errno.ECONNREFUSED)
        self.assertIsInstance(there.problem, DialFailed)
        self.assertEqual(str(there.problem), "the upstream does not take datagrams: nobody listens there")
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_noWay(self) -> None:
        """
        The same is told when something is sent.
        """
        self.farWire.problems = [errno.ENETUNREACH]
        there = Result(self.far.startTLS(self.client()))
        self.assertEqual(str(there.problem), "the upstream does not take datagrams: there is no way to it")

    def test_smallerPath(self) -> None:
        """
        That a flight was too large for the path, as a router tells, ends no handshake: it is made smaller.
        """
        there = self.hello()
        self.farWire.known = 600
        self.far.unreachable(errno.EMSGSIZE)
        assert self.far.tls is not None
        self.assertEqual((there.problem, self.far.tls.mtu, self.far.dropped), (None, 600, {}))
        here = Result(self.near.startTLS(self.server(), None, "shop.example"))
        self.carry()
        self.assertTrue(here.value and there.value)
        self.assertEqual(self.far.tls.mtu, 600)
        self.farWire.known = 560
        self.far.unreachable(errno.EMSGSIZE)
        self.assertEqual((self.far.tls.mtu, self.far.dropped), (560, {TOO_LARGE: 1}))

    def test_cancelled(self) -> None:
        """
        Nothing is left of a handshake that nobody waits for any more.
        """
        here, there = self.shake(lost=(100, 0))
        for result in (here, there):
            result.deferred.cancel()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.near.finish()
        self.far.finish()

    def test_finished(self) -> None:
        """
        Who waits for a handshake is told that the side is let go.
        """
        here, _ = self.shake(lost=(100, 0))
        self.near.finish()
        self.assertIsInstance(here.problem, PeerEnded)
        self.assertIsInstance(Result(self.near.startTLS(self.server())).problem, PeerReset)


class DatagramTests(EndCase):
    """
    Tests for what is said.
    """

    def test_kept(self) -> None:
        """
        What comes before anybody takes it is kept, in its order; too much is dropped, and counted.
        """
        for number in range(70):
            self.give(self.near, b"%d" % number)
        heard = self.heard(self.near)
        self.assertEqual(heard, [b"%d" % number for number in range(64)])
        self.assertEqual(self.near.dropped, {FULL: 6})
        self.give(self.near, b"more")
        self.assertEqual(heard[-1], b"more")
        self.assertTrue(self.nearWire.watched)

    def test_keptBytes(self) -> None:
        """
        Large ones are kept up to a bound of all together.
        """
        for _ in range(3):
            self.give(self.near, bytes(30000))
        self.assertEqual(self.near.dropped, {FULL: 1})

    def test_keptEncrypted(self) -> None:
        """
        Of a side with DTLS what came in clear is kept, and what is no data is answered at once.
        """
        self.shaken()
        self.far.send(b"early")
        self.far.send(b"birds")
        self.carry()
        self.assertEqual(self.heard(self.near), [b"early", b"birds"])

    def test_besideTheFlight(self) -> None:
        """
        What comes in one datagram with the last flight of a handshake, or before it, is heard at once.
        """
        for together in (True, False):
            self.setUpAgain()
            self.hello()
            here = Result(self.near.startTLS(self.server(), None, "shop.example"))
            for sent, to in ((self.nearWire.sent, self.far), (self.farWire.sent, self.near)):
                while sent:
                    self.give(to, sent.popleft())
            self.assertTrue(here.value)
            self.near.send(b"news")
            *flight, news = self.nearWire.sent
            for datagram in (b"".join((*flight, news)),) if together else (news, *flight):
                self.give(self.far, datagram)
            self.assertEqual(self.heard(self.far), [b"news"])

    def test_bothWays(self) -> None:
        """
        Each side hears what the other says.
        """
        self.shaken()
        here, there = self.heard(self.near), self.heard(self.far)
        said = [b"x", bytes(1163), b"yes" * 100]
        for data in said:
            self.near.send(data)
            self.far.send(data)
        self.assertEqual([len(datagram) for datagram in self.nearWire.sent], [len(data) + 37 for data in said])
        self.carry()
        self.assertEqual((here, there), (said, said))

    def test_several(self) -> None:
        """
        Several records in one datagram are all heard.
        """
        self.shaken()
        heard = self.heard(self.near)
        for data in (b"one", b"two", b"three"):
            self.far.send(data)
        self.give(self.near, b"".join(self.farWire.sent))
        self.assertEqual(heard, [b"one", b"two", b"three"])


class EndingTests(EndCase):
    """
    Tests for ends.
    """

    def setUp(self) -> None:
        """
        Note how the near side ends.
        """
        super().setUp()
        self.ended: list[tuple[str, str]] = []
        self.near.onEnd = lambda *how: self.ended.append(how)

    def test_closeNotify(self) -> None:
        """
        A peer that says that it is done ends the association, after what it has said before.
        """
        self.shaken()
        heard = self.heard(self.near)
        self.far.send(b"last")
        self.far.finish()
        self.carry()
        self.assertEqual((heard, self.ended), ([b"last"], [("closed", "")]))
        self.near.finish()
        self.assertEqual(len(self.nearWire.sent), 1)
        self.carry()
        assert self.near.tls is not None
        self.assertEqual((self.near.tls.state, self.near.gone, self.far.gone), (ENDED, True, True))

    def test_closedEarly(self) -> None:
        """
        So it does before anybody listens.
        """
        self.near.onEnd, onEnd = None, self.near.onEnd
        self.shaken()
        self.far.send(b"hello")
        self.far.finish()
        self.carry()
        self.near.onEnd = onEnd
        self.assertEqual((self.heard(self.near), self.ended), ([b"hello"], [("closed", "")]))

    def test_afterTheEnd(self) -> None:
        """
        What comes after a close_notify, while the side is held, is not kept.
        """
        self.shaken()
        self.far.endWrite()
        self.carry()
        self.assertEqual(self.near.state, ENDED)
        self.give(self.near, b"\x17\xfe\xfd\0\1" + bytes(1000))
        assert self.near.tls is not None
        self.assertTrue(_BIO_read(self.near.tls._into, self.buffer._pointer, self.buffer.size) <= 0)

    def test_muchShaking(self) -> None:
        """
        Nobody can have OpenSSL keep more than a handshake may take.
        """
        self.hello()
        here = Result(self.near.startTLS(self.server(), None, "shop.example"))
        for _ in range(300):
            self.give(self.near, b"\x16\xfe\xfd\0\1" + bytes(1000))
        self.assertTrue(30 < self.near.dropped[FULL] < 60, self.near.dropped)
        self.assertEqual((here.value, here.problem), (None, None))

    def test_finish(self) -> None:
        """
        What is let go says so once, and hears nothing more; who it was with is still known.
        """
        self.shaken()
        heard = self.heard(self.near)
        for _ in range(2):
            self.near.finish(reset=True)
            self.near.linger()
        self.assertEqual([datagram[0] for datagram in self.nearWire.sent], [21])
        self.assertEqual(self.nearWire.closed, [self.near])
        self.far.send(b"too late")
        self.carry()
        self.assertEqual((heard, self.ended), ([], []))
        self.assertEqual(
            (tellPeer(self.near.peer()), tellPeer(self.near.host())), ("192.0.2.7:40000", "127.0.0.1:8443")
        )
        self.near.overFor("nothing")

    def test_inClear(self) -> None:
        """
        Without DTLS there is nothing to be said.
        """
        self.near.finish()
        self.assertEqual(list(self.nearWire.sent), [])

    def test_finishInside(self) -> None:
        """
        A side may be let go by what takes its datagrams.
        """
        self.shaken()
        heard = []

        def take(datagram: object, count: int) -> None:
            heard.append(count)
            self.near.finish()

        self.far.send(b"one")
        self.far.send(b"three")
        self.give(self.near, b"".join(self.farWire.sent))
        self.near.join(take)
        self.assertEqual(heard, [3])

    def test_replaced(self) -> None:
        """
        A client that has begun anew ends its association without a word.
        """
        self.shaken()
        self.near.replaced()
        self.assertEqual(self.ended, [("closed", "the client began anew from the same address")])
        self.assertEqual((list(self.nearWire.sent), self.near.gone), ([], True))

    def test_replacedShaking(self) -> None:
        """
        So it does in the middle of the handshake.
        """
        here, _ = self.shake(lost=(100, 0))
        self.near.replaced()
        self.assertEqual(str(here.problem), "the client began anew from the same address")

    def test_tampered(self) -> None:
        """
        What nobody can read changes nothing.
        """
        self.shaken()
        heard = self.heard(self.near)
        self.far.send(b"hello")
        datagram = self.farWire.sent.popleft()
        for place in range(len(datagram)):
            self.give(self.near, datagram[:place] + bytes([datagram[place] ^ 1]) + datagram[place + 1 :])
        self.give(self.near, datagram)
        self.give(self.near, datagram)
        self.assertEqual((heard, self.ended), ([b"hello"], []))
