# -*- test-case-name: tests.test_loopbacktls -*-
"""
L{tlsproxy.loopbacktls}: TLS by way of loopback is put on and taken off like TLS straight on the socket.
"""

from __future__ import annotations

import gc
import os
import socket
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from tests import test_end_tls
from tests.test_end import OneEnd
from tlsproxy import loopbacktls
from tlsproxy.borrowed import Borrowed
from tlsproxy.end import End
from tlsproxy.errors import HandshakeFailed, PeerReset, SessionError, forgetFrames
from tlsproxy.interfaces import WANTS_WRITE
from tlsproxy.loopbacktls import LoopbackTLS
from tlsproxy.plain import PlainStream
from tlsproxy.recordpipe import RecordPipe
from tlsproxy.selfconnection import Door, meet
from tlsproxy.stocktls import StockTLS
from tlsproxy.testing import certificates
from tlsproxy.testing.certificates import certificate
from tlsproxy.testing.socketreactor import connect
from tlsproxy.testing.streampeers import TLSPeer
from tlsproxy.testing.streams import Streams, clientTLS, serverTLS
from tlsproxy.tls.contexts import ClientTLS, ServerTLS
from tlsproxy.tls.policy import CertificateFiles

VERSIONS = ("TLSv1.2", "TLSv1.3")


class Looped(OneEnd):
    """
    One End whose TLS is run by way of loopback, and its peer.
    """

    def setUp(self) -> None:
        """
        Have TLS run by way of loopback.
        """
        self.patch(End, "takeOff", "loopback")
        super().setUp()


class StartTests(Looped, test_end_tls.StartTLSTests):
    """
    It begins, and fails to, as TLS straight on the socket does.
    """

    def test_intruder(self) -> None:
        """
        Whoever else of this machine connects first is not let in, and the session fails with a sentence on that.
        """
        intruders = []

        def robbed() -> tuple[socket.socket, socket.socket]:
            listening, mine = meet()
            mine.close()
            intruders.append(socket.create_connection(listening.getsockname()))
            late = socket.socket()
            late.bind(("127.0.0.1", 0))
            late.setblocking(False)
            late.connect_ex(listening.getsockname())
            return listening, late

        self.patch(loopbacktls, "meet", robbed)
        done = self.begin(self.end.startTLS(serverTLS("TLSv1.3")))
        self.assertIn("somebody else on this machine", str(self.failureResultOf(done, HandshakeFailed).value))
        self.loopback.advance(0)
        self.settle()
        intruders[0].settimeout(5)
        try:
            self.assertEqual(b"", intruders[0].recv(1))
        except ConnectionResetError:
            pass
        finally:
            intruders[0].close()
        self.assertEqual(b"", bytes(self.peer.received))

    def test_noDescriptor(self) -> None:
        """
        Where no socket is to be had, the session fails with a sentence on that.
        """

        def none() -> Any:
            raise SessionError("there is none")

        self.patch(loopbacktls, "meet", none)
        self.failureResultOf(self.begin(self.end.startTLS(serverTLS("TLSv1.3"))), SessionError)

    def test_goneAtAnyMoment(self) -> None:
        """
        A session that is over in the middle of a handshake leaves nothing.
        """
        for turns in range(12):
            peer = TLSPeer(self.peer.socket, "TLSv1.3", server=False)
            self.one.peer = peer
            done = Deferred.fromCoroutine(self.end.startTLS(serverTLS("TLSv1.3")))
            for _ in range(turns):
                self.loopback.reactor.turn()
                peer.pump()
            self.end.finish(reset=True)
            done.addErrback(lambda _: None)
            self.tearDown()
            self.setUp()


class StopTests(Looped, test_end_tls.StopTLSTests):
    """
    It ends like that, too, but for one thing.
    """

    def test_readingFirst(self) -> None:
        """
        A peer that ends its TLS where that was not expected has ended both directions: it has our close_notify.
        """
        self.peer.write(b"last secret")
        self.peer.endTLS()
        self.peer.writePlain(b"plain")
        self.assertEqual(b"last secret", self.successResultOf(self.begin(self.end.readToTLSEnd())))
        self.assertEqual(b"plain", self.successResultOf(self.begin(self.end.read(100))))
        self.failureResultOf(self.begin(self.end.write(b"our secret")), PeerReset)
        self.settle()
        self.assertEqual((True, b""), (self.peer.told, bytes(self.peer.plain)))

    def test_peerFirstAsExpected(self) -> None:
        """
        Where it is expected, what we have to say still goes, and our close_notify behind it.
        """
        self.end.expectTLSEnd()
        self.peer.endTLS()
        self.peer.writePlain(b"plain")
        reading = self.begin(self.end.read(100))
        self.settle()
        self.assertNoResult(reading)
        # Nobody asks the reactor for what is not to be read now.
        self.assertNotIn(self.one.connected.transport, self.loopback.reactor.getReaders())
        reading.cancel()
        self.failureResultOf(reading)
        self.successResultOf(self.begin(self.end.write(b"our secret")))
        self.assertEqual((b"our secret", False), (bytes(self.peer.received), self.peer.told))
        self.assertEqual(b"", self.successResultOf(self.begin(self.end.stopTLS())))
        self.assertTrue(self.peer.told)
        self.assertEqual(b"plain", self.successResultOf(self.begin(self.end.read(100))))

    def test_nothingBehindOurEnd(self) -> None:
        """
        Whatever TLS may still want to say behind our close_notify does not get to the peer.
        """
        self.successResultOf(self.begin(self.end.endTLSWrite()))
        stream: Any = self.end.reading
        stream._tls._transport.protocol.write(b"an alert, say")
        self.settle()
        self.peer.write(b"late")
        self.peer.endTLS()
        self.assertEqual(b"late", self.successResultOf(self.begin(self.end.readToTLSEnd())))
        self.successResultOf(self.begin(self.end.write(b"plain")))
        self.settle()
        self.assertEqual(b"plain", bytes(self.peer.plain))

    def test_slowPeer(self) -> None:
        """
        A peer that does not read stops us, holds little memory, and does not stop itself from being read.
        """
        self.peer.reading = False
        data = os.urandom(3 << 20)
        writing = self.begin(self.end.write(data))
        self.assertNoResult(writing)
        stream: Any = self.end.writing
        transport = stream._tls._transport
        held = stream._pipe.backlog + len(transport.dataBuffer) + transport._tempDataLen
        self.assertLess(held, 40000)
        self.peer.write(b"meanwhile")
        self.peer.pump()
        buffer = self.end.reading.read(100)  # The End itself waits for one thing only.
        self.assertEqual(b"meanwhile", buffer)
        self.peer.reading = True
        self.settle()
        self.successResultOf(writing)
        self.assertTrue(data == self.peer.received)

    def test_askedOverAndOver(self) -> None:
        """
        A peer that asks for answers of TLS and reads none is not read any more.
        """
        self.peer.reading = False
        writing = self.begin(self.end.write(bytes(1 << 20)))
        stream: Any = self.end.reading
        stream._tls.written += 1 << 18  # As if TLS had.
        self.peer.write(b"more")
        self.peer.pump()
        self.assertEqual((b"", WANTS_WRITE), (stream.read(100), stream.state))
        stream._tls.written -= 1 << 18
        writing.cancel()
        self.failureResultOf(writing)

    def test_nothingIsHeld(self) -> None:
        """
        Nothing of it waits for the garbage collector.
        """
        kinds = (LoopbackTLS, StockTLS, RecordPipe, Door, TLSMemoryBIOProtocol, SSL.Connection, Borrowed)

        def mine() -> list[Any]:
            return [one for one in gc.get_objects() if type(one) in kinds]

        for how in ("stopped", "let go", "failed"):
            self.tearDown()
            gc.collect()
            gc.disable()
            self.addCleanup(gc.enable)
            before = mine()
            self.setUp()
            if how == "failed":
                self.peer.writePlain(b"\x17\x03\x03\x00\x40" + bytes(64))
                forgetFrames(self.failureResultOf(self.begin(self.end.readToTLSEnd()), SessionError).value)
            elif how == "stopped":
                self.peer.endTLS()
                self.successResultOf(self.begin(self.end.stopTLS()))
                self.assertIsInstance(self.end.stream, PlainStream)
                self.settle()
                self.loopback.advance(0)
                loops = [one for one in mine() if type(one) in (LoopbackTLS, StockTLS, RecordPipe)]
                self.assertEqual([], [one for one in loops if id(one) not in map(id, before)])
            self.end.finish()
            self.tearDown()
            self.one = self.end = self.peer = None  # type: ignore[assignment]
            self.sides.clear()
            known = {id(one) for one in before}
            self.assertEqual([], [one for one in mine() if id(one) not in known], how)
            gc.enable()
            self.setUp()


class Stop12Tests(StopTests):
    """
    The same for TLS 1.2.
    """

    kind = "TLSv1.2"


class AgreedTests(Streams):
    """
    What is agreed upon, and what is said where nothing is, is the same by way of loopback.
    """

    def meet(
        self, way: str, server: ServerTLS, client: ClientTLS, name: str | None = None, back: str = "socket"
    ) -> list[Any]:
        """
        Let two Ends shake hands.

        @param way: How TLS is run at the server.
        @param back: How it is run at the client.
        @return: For the server and the client, the stream, or the error.
        """
        ours, theirs = self.loopback.pair()
        ends, results = [], []
        for sock, who, how in ((ours, "the client", way), (theirs, "the upstream", back)):
            end = End(who)
            end.takeOff = how
            connect(self.loopback.reactor, end, sock)
            ends.append(end)
        for end, work in zip(ends, (ends[0].startTLS(server, serverName=name), ends[1].startTLS(client)), strict=True):
            done: Deferred[Any] = Deferred.fromCoroutine(work)
            told: list[Any] = []
            results.append(told)
            done.addCallbacks(lambda stream, end=end: (stream, end), lambda failure: failure.value)
            done.addBoth(told.append)
        self.settle()
        for end, told in zip(ends, results, strict=True):
            if not told:
                end.finish()
            elif isinstance(told[0], tuple):
                # What fails it may come behind the handshake.
                reading = Deferred.fromCoroutine(end.read(10))
                self.settle()
                reading.addErrback(self.note, told)
                if not reading.called:
                    reading.cancel()
                    told.pop()
        found = [told[-1] for told in results]
        self.facts: list[Any] = [
            (one[0].connection.get_alpn_proto_negotiated(), one[0].connection.get_servername(), one[0].resumed())
            for one in found
            if isinstance(one, tuple)
        ]
        shown = [
            one[0].connection.get_peer_certificate(as_cryptography=True) for one in found if isinstance(one, tuple)
        ]
        self.facts += [None if one is None else one.subject.rfc4514_string() for one in shown]
        for end in ends:
            end.finish()
        self.settle()
        self.loopback.advance(0)
        return [f"{type(one).__name__}: {one}" if isinstance(one, Exception) else "agreed" for one in found]

    def note(self, failure: Failure, told: list[Any]) -> None:
        """
        Note what has failed.
        """
        told.append(failure.value)

    def same(self, server: ServerTLS, client: ClientTLS, name: str | None = None) -> list[str]:
        """
        See that it comes to the same, however TLS is run.
        """
        expected, facts = self.meet("socket", server, client, name), self.facts
        for ways in (("loopback", "socket"), ("socket", "loopback"), ("loopback", "loopback")):
            self.assertEqual(expected, self.meet(ways[0], server, client, name, ways[1]), ways)
            self.assertEqual(facts, self.facts, ways)
        return expected

    def test_agreed(self) -> None:
        """
        Application protocol, server name and certificates of both are those.
        """
        for version in ("1.2", "1.3"):
            server = certificates.serverTLS(
                "upstream.example", clients="required", alpn=("tlsproxy-seq/1", "http/1.1"), maxVersion=version
            )
            client = certificates.clientTLS(alpn=("http/1.1", "tlsproxy-seq/1"), cert=self.shown("a client"))
            self.assertEqual(["agreed", "agreed"], self.same(server, client, "upstream.example"))
            self.assertIn(b"tlsproxy-seq/1", self.facts[0])
            self.assertEqual("CN=a client", self.facts[2])

    def shown(self, name: str) -> Any:
        """
        Write a client's certificate.
        """
        path = self.mktemp()
        return CertificateFiles(certificates.write(path, certificates.pem(certificate(name, "client.example"))))

    def test_refusals(self) -> None:
        """
        Whatever is refused, and whoever refuses it, the sentences are those.
        """
        good = certificates.clientTLS()
        for version in ("1.2", "1.3"):
            named = certificates.serverTLS("upstream.example", maxVersion=version)
            for server, client in (
                (named, certificates.clientTLS("other.example")),
                (named, clientTLS("TLSv1.2" if version == "1.3" else "TLSv1.3").named("upstream.example")),
                (serverTLS(f"TLSv{version}"), good),
                (certificates.serverTLS("upstream.example", clients="required", maxVersion=version), good),
                (
                    certificates.serverTLS("upstream.example", alpn=("h2",), maxVersion=version),
                    certificates.clientTLS(alpn=("http/1.1",)),
                ),
                (
                    certificates.serverTLS(
                        "upstream.example", clients="required", maxVersion=version, allowCn=("another",)
                    ),
                    certificates.clientTLS(cert=self.shown("a client")),
                ),
                (named, certificates.clientTLS(pins=("sha256/" + "A" * 43 + "=",))),
            ):
                self.same(server, client, "upstream.example")
        self.assertIn("HandshakeFailed", self.same(named, certificates.clientTLS("other.example"))[1])

    def say(self, way: str, server: bool, data: bytes, how: str, established: str = "") -> str:
        """
        Have a peer say something that is no TLS.

        @param how: What it does then: C{"wait"}, C{"end"} or C{"reset"}.
        @param established: With which version the handshake is over before; C{""} for none.
        """
        ours, theirs = self.loopback.pair()
        end = End("the client" if server else "the upstream")
        end.takeOff = way
        connect(self.loopback.reactor, end, ours)
        version = established or "TLSv1.3"
        done: Deferred[Any] = Deferred.fromCoroutine(end.startTLS(serverTLS(version) if server else clientTLS(version)))
        if established:
            peer = TLSPeer(theirs, version, server=not server)
            self.loopback.settle([peer], lambda: done.called and peer.ready)
            self.successResultOf(done)
            done = Deferred.fromCoroutine(end.read(10))
        theirs.send(data)
        if how == "end":
            theirs.shutdown(socket.SHUT_WR)
        elif how == "reset":
            ours.send(b"never read")
            theirs.close()
        self.settle()
        results: list[Any] = []
        done.addBoth(results.append)
        if not results:
            done.cancel()
        end.finish()
        self.settle()
        self.loopback.advance(0)
        theirs.close()
        one = results[0]
        return f"{type(one.value).__name__}: {one.value}" if hasattr(one, "value") else repr(one)

    def test_noTLS(self) -> None:
        """
        So they are for a peer that speaks something else, breaks its stream off, or closes TLS in the middle.
        """
        for data in (
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"GET / HTTP/1.1\r\nHost: there\r\n\r\n",
            b"CONNECT a:1 HTTP/1.1\r\n\r\n",
            b"220 mail.example ESMTP\r\n",
            b"\x16\x03\x01\xff\xff" + bytes(20),
            b"\x15\x03\x03\x00\x02\x02\x28",
            b"\x15\x03\x03\x00\x02\x01\x00",
            b"\x17\x03\x03\x00\x20" + bytes(32),
            b"\x16\x03\x03\x00\x04\x63\x00\x00\x00",
            b"\x16\x03",
            b"\x16\x03\x03\x00\x20\x01",
            b"",
        ):
            for how in ("wait", "end", "reset"):
                for server in (True, False):
                    expected = self.say("socket", server, data, how)
                    self.assertEqual(expected, self.say("loopback", server, data, how), (data, how, server))

    def test_brokenTLS(self) -> None:
        """
        So they are for one that breaks TLS later.
        """
        for version in VERSIONS:
            for data in (
                b"\x17\x03\x03\x00\x40" + bytes(64),
                b"\x15\x03\x03\x00\x02\x01\x00",
                b"\x15\x03\x03\x00\x12" + bytes(18),
                b"plain, it is\r\n",
                b"",
            ):
                for how in ("end", "reset") if not data else ("end",):
                    expected = self.say("socket", True, data, how, version)
                    self.assertEqual(expected, self.say("loopback", True, data, how, version), (version, data, how))
                    self.assertNotEqual("b''", expected)

    def test_noRecord(self) -> None:
        """
        What TLS lets pass for a record and is none fails all the same.
        """
        self.assertIn("SessionError", self.say("loopback", True, b"\x18\x03\x03\x00\x02ab", "end", "TLSv1.2"))
