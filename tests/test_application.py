# -*- test-case-name: tests.test_application -*-
"""
L{tlsproxy.application}
"""

from __future__ import annotations

import gc
from typing import Any

from OpenSSL import SSL, crypto
from twisted.internet import error
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    INegotiated,
    IPushProducer,
    ISSLTransport,
    ITCPTransport,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tlsproxy.application import Application, ApplicationTransport, fromProtocol, toProtocol
from tlsproxy.errors import DialFailed, PeerReset
from tlsproxy.interfaces import TRUNCATED
from tlsproxy.loopback import PipedEnd, Told
from tlsproxy.testing.socketreactor import ADDRESS
from tlsproxy.testing.streams import Streams


class Program(Protocol):
    """
    A protocol of an application, that remembers all.
    """

    transport: Any

    def __init__(self) -> None:
        self.got = b""
        self.reasons: list[Failure] = []

    def dataReceived(self, data: bytes) -> None:
        """
        Remember it.
        """
        self.got += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Remember it.
        """
        self.reasons.append(reason)


@implementer(IHalfCloseableProtocol)
class Patient(Program):
    """
    One that knows half-closed connections.
    """

    ended = False
    told = False

    def readConnectionLost(self) -> None:
        """
        Remember it.
        """
        self.ended = True

    def writeConnectionLost(self) -> None:
        """
        Remember it.
        """
        self.told = True


class ApplicationCase(Streams):
    """
    A program, and the End that a session has of it.
    """

    def program(self, kind: type[Program] = Program, near: Any = None) -> tuple[PipedEnd, Any]:
        """
        Connect with a program.
        """
        made: list[Program] = []

        def buildProtocol(address: Any) -> Program:
            self.address = address
            made.append(kind())
            return made[0]

        factory: Any = Factory()
        factory.buildProtocol = buildProtocol
        end = toProtocol(self.loopback.reactor, factory, near)
        self.addCleanup(end.close)
        self.ends.append(end)
        return end, made[0]

    def setUp(self) -> None:
        """
        Begin.
        """
        super().setUp()
        self.ends: list[PipedEnd] = []

    def read(self, end: PipedEnd) -> bytes:
        """
        Read what is there.
        """
        self.settle()
        return self.successResultOf(Deferred.fromCoroutine(end.read(1 << 20)))

    def tearDown(self) -> None:
        """
        Whatever happened, nothing is left.
        """
        for end in self.ends:
            end.finish(reset=True)
        self.ends.clear()
        super().tearDown()


class ToProtocolTests(ApplicationCase):
    """
    A program in the place of an upstream.
    """

    def test_bothWays(self) -> None:
        """
        Bytes go both ways.
        """
        end, program = self.program()
        end.writing.send(b"question")
        self.settle()
        self.assertEqual(b"question", program.got)
        program.transport.write(b"answer")
        self.assertEqual(b"answer", self.read(end))
        self.assertEqual("the upstream", end.who)

    def test_transport(self) -> None:
        """
        The transport is one of TCP, with all that goes with it.
        """
        _, program = self.program()
        transport = program.transport
        for interface in (ITransport, ITCPTransport, IPushProducer):
            self.assertTrue(verifyObject(interface, transport))
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)
        self.assertTrue(transport.getTcpNoDelay())
        self.assertEqual([], self.flushLoggedErrors())

    def test_plainClient(self) -> None:
        """
        Of a client without TLS it tells the addresses.
        """
        side = self.side("plain", near=True)
        _, program = self.program(near=side.end)
        transport = program.transport
        self.assertEqual(IPv4Address("TCP", *ADDRESS), transport.getPeer())
        self.assertEqual(transport.getPeer(), self.address)
        self.assertFalse(ISSLTransport.providedBy(transport))
        self.assertEqual((None, None), (transport.negotiatedProtocol, transport.getPeerCertificate()))

    def test_secureClient(self) -> None:
        """
        Of one with TLS it tells that, too: what was negotiated, and the certificate.
        """
        side = self.side("TLSv1.3", near=True)
        connection: Any = side.end.tls and side.end.tls.connection
        certificate = crypto.X509()
        self.patch(SSL.Connection, "get_peer_certificate", lambda _: certificate)
        self.patch(SSL.Connection, "get_alpn_proto_negotiated", lambda _: b"h2")
        _, program = self.program(near=side.end)
        self.assertIsNotNone(connection)
        self.assertTrue(ISSLTransport.providedBy(program.transport))
        self.assertTrue(INegotiated.providedBy(program.transport))
        self.assertEqual(b"h2", program.transport.negotiatedProtocol)
        self.assertIs(certificate, program.transport.getPeerCertificate())
        # Others are not.
        self.assertFalse(ISSLTransport.providedBy(self.program()[1].transport))

    def test_nothingNegotiated(self) -> None:
        """
        What was not negotiated is L{None}.
        """
        side = self.side("TLSv1.3", near=True)
        _, program = self.program(near=side.end)
        self.assertIsNone(program.transport.negotiatedProtocol)
        self.assertIsNone(program.transport.getPeerCertificate())

    def test_nobody(self) -> None:
        """
        Without a client it has the address of nobody.
        """
        _, program = self.program()
        self.assertEqual((UNIXAddress(None), UNIXAddress(None)), (program.transport.getPeer(), self.address))

    def test_refused(self) -> None:
        """
        A factory may refuse.
        """
        factory: Any = Factory()
        factory.buildProtocol = lambda _: None
        problem = self.assertRaises(DialFailed, toProtocol, self.loopback.reactor, factory)
        self.assertEqual("the application takes no connection", str(problem))

    def test_failing(self) -> None:
        """
        A program that fails when it is connected leaves nothing open.
        """

        class Failing(Program):
            def connectionMade(self) -> None:
                raise RuntimeError("not today")

        self.assertRaises(RuntimeError, self.program, Failing)
        self.settle()

    def test_programEnds(self) -> None:
        """
        C{loseConnection} sends what was written, and ends.
        """
        end, program = self.program()
        program.transport.write(b"x" * 3000000)
        program.transport.loseConnection()
        got = b""
        while data := self.read(end):
            got += data
        self.assertEqual(3000000, len(got))
        self.assertTrue(program.reasons[0].check(error.ConnectionDone))

    def test_programEndsUnread(self) -> None:
        """
        It is an end also where the program has not read all.
        """
        end, program = self.program()
        program.transport.pauseProducing()
        end.writing.send(b"never read")
        program.transport.write(b"413")
        program.transport.loseConnection()
        self.assertEqual([b"413", b""], [self.read(end), self.read(end)])

    def test_programHalfCloses(self) -> None:
        """
        C{loseWriteConnection} ends one direction, and the program goes on hearing the other.
        """
        end, program = self.program(Patient)
        program.transport.write(b"that is all")
        program.transport.loseWriteConnection()
        self.assertEqual([b"that is all", b""], [self.read(end), self.read(end)])
        self.assertTrue(program.told)
        end.writing.send(b"well")
        self.settle()
        self.assertEqual((b"well", []), (program.got, program.reasons))

    def test_programAborts(self) -> None:
        """
        C{abortConnection} is a reset.
        """
        end, program = self.program()
        program.transport.abortConnection()
        self.settle()
        self.failureResultOf(Deferred.fromCoroutine(end.read(1)), PeerReset)
        self.assertTrue(program.reasons[0].check(error.ConnectionAborted))

    def test_programFails(self) -> None:
        """
        So is an exception of the program's.
        """
        end, program = self.program()
        # This is what a reactor does where an event has failed.
        program.transport.connectionLost(Failure(TypeError()))
        self.settle()
        self.failureResultOf(Deferred.fromCoroutine(end.read(1)), PeerReset)

    def test_clientEnds(self) -> None:
        """
        A program that does not know half-closed connections loses its connection at the end of a stream, as with TCP.
        """
        end, program = self.program()
        end.shutdownWrite()
        self.settle()
        self.assertTrue(program.reasons[0].check(error.ConnectionDone))
        self.assertEqual(b"", self.read(end))

    def test_clientEndsEarly(self) -> None:
        """
        Where it had more to say, that was cut off.
        """
        end, program = self.program()
        program.transport.write(bytes(3000000))
        self.settle()
        end.shutdownWrite()
        self.settle()
        self.assertEqual(TRUNCATED, end._theirs.how)

    def test_clientHalfCloses(self) -> None:
        """
        One that knows them goes on.
        """
        end, program = self.program(Patient)
        end.shutdownWrite()
        self.settle()
        self.assertEqual((True, []), (program.ended, program.reasons))
        program.transport.write(b"late answer")
        self.assertEqual(b"late answer", self.read(end))
        program.transport.loseConnection()
        self.assertEqual(b"", self.read(end))
        self.assertTrue(program.reasons[0].check(error.ConnectionDone))

    def test_clientTruncates(self) -> None:
        """
        A truncated stream is no end, for neither kind.
        """
        for kind in (Program, Patient):
            end, program = self.program(kind)
            end.writing.send(b"half a sent")
            end.shutdownWrite(TRUNCATED)
            self.settle()
            self.assertEqual(b"half a sent", program.got)
            self.assertTrue(program.reasons[0].check(error.ConnectionLost))
            self.assertIn("without ending TLS", str(program.reasons[0].value))

    def test_clientResets(self) -> None:
        """
        A reset is told as such.
        """
        end, program = self.program(Patient)
        end.writing.send(b"bytes")
        end.finish(reset=True)
        self.settle()
        self.assertEqual(b"bytes", program.got)
        self.assertTrue(program.reasons[0].check(error.ConnectionLost))
        self.assertIn("reset the connection", str(program.reasons[0].value))

    def test_cut(self) -> None:
        """
        A session that was cut tells the program why, whether the program reads or not.
        """
        for paused in (False, True):
            end, program = self.program(Patient)
            if paused:
                program.transport.pauseProducing()
            end.finish(reset=True)
            end.overFor("no byte moved within 5 s")
            self.settle()
            (reason,) = program.reasons
            self.assertEqual((error.ConnectionLost, ("no byte moved within 5 s",)), (reason.type, reason.value.args))

    def test_resetWhilePaused(self) -> None:
        """
        Also to a program that does not read.
        """
        end, program = self.program()
        program.transport.pauseProducing()
        end.finish(reset=True)
        self.settle()
        self.assertTrue(program.reasons[0].check(error.ConnectionLost))

    def test_backPressure(self) -> None:
        """
        A program that does not read stops the session, and a session that does not read pauses the program.
        """
        end, program = self.program()
        program.transport.pauseProducing()
        sent = 0
        while count := end.writing.send(bytes(65536)):
            sent += count
            self.settle()
        self.assertLess(sent, 1 << 20)
        program.transport.resumeProducing()
        self.settle()
        self.assertEqual(sent, len(program.got))

        paused: list[bool] = []
        producer: Any = Program()
        producer.pauseProducing = lambda: paused.append(True)
        producer.resumeProducing = lambda: paused.append(False)
        producer.stopProducing = lambda: None
        program.transport.registerProducer(producer, True)
        while not paused:
            program.transport.write(bytes(65536))
            self.settle()
        self.assertEqual([True], paused)
        while paused == [True]:
            self.read(end)
        self.assertEqual([True, False], paused)

    def test_noGarbage(self) -> None:
        """
        Nothing is left to the cycle collector, whoever ends it.
        """
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        held = gc.get_objects()  # So that none of them dies and lends its id to what comes later.
        before = {id(one) for one in held}
        for how in ("program", "abort", "session", "reset"):
            end, program = self.program()
            if how == "program":
                program.transport.loseConnection()
            elif how == "abort":
                program.transport.abortConnection()
            self.settle()
            end.finish(reset=how == "reset")
            self.settle()
            self.ends.clear()
            self._cleanups.pop()
            self.assertEqual(1, len(program.reasons))
            del end, program
            found = [one for one in gc.get_objects() if type(one) in (ApplicationTransport, PipedEnd, Told)]
            self.assertEqual([], [one for one in found if id(one) not in before], how)


class FromProtocolTests(ApplicationCase):
    """
    A program in the place of a client.
    """

    def application(self) -> tuple[PipedEnd, Application]:
        """
        Make an End for a program.
        """
        end, application = fromProtocol(self.loopback.reactor)
        self.ends.append(end)
        self.addCleanup(end.close)
        return end, application

    def test_later(self) -> None:
        """
        The program is connected when all is ready, and finds what the upstream has said.
        """
        end, application = self.application()
        end.writing.send(b"220 welcome")
        self.settle()
        program = Program()
        far = self.side("TLSv1.3", near=False)
        application.connect(program, far.end)
        self.settle()
        self.assertEqual(b"220 welcome", program.got)
        self.assertTrue(ISSLTransport.providedBy(program.transport))
        self.assertIsInstance(program.transport.getPeerCertificate(), crypto.X509)
        self.assertEqual(far.end.peer(), program.transport.getPeer())
        program.transport.write(b"EHLO")
        self.assertEqual(b"EHLO", self.read(end))

    def test_never(self) -> None:
        """
        Where the session ends before, nothing is left open.
        """
        end, _ = self.application()
        end.finish(reset=True)
        self.settle()

    def test_address(self) -> None:
        """
        The End has the address that it is given.
        """
        address = IPv4Address("TCP", "192.0.2.7", 1)
        end, _ = fromProtocol(self.loopback.reactor, "the program", address)
        self.ends.append(end)
        self.assertEqual(("the program", address), (end.who, end.peer()))
