# -*- test-case-name: tests.integration.test_truncation -*-
"""
TLS that ends without its close_notify is told, and never passes for a stream that ended as it should.
"""

from __future__ import annotations

import socket
import ssl

from tests.integration.passages import Copying, Pairing, PassageTestCase


class TruncationTests(PassageTestCase):
    """
    A FIN without close_notify.
    """

    def assertTold(self, pairing: Pairing, reason: str) -> None:
        """
        Expect a truncation to be in the log, unless it was in TLS that the proxy did not decrypt: there it is an end.
        """
        expected = ("closed", "") if pairing.inner else ("truncated", reason)
        line = self.line()
        self.assertEqual(expected, (line["outcome"], line["reason"]))

    def test_nearTruncated(self) -> None:
        """
        The client's goes on as a FIN: toward TLS without a close_notify.  What came before it arrives, and so does the
        answer.
        """
        self.start()
        for pairing in self.pairings:
            if pairing.near or pairing.inner:
                with self.session(pairing) as (client, server):
                    client.send(b"half a requ")
                    client.truncate()
                    self.assertEqual(b"half a requ", server.read(11))
                    # OpenSSL lets nobody write who has read such an end.
                    server.send(b"answer")
                    server.endWrite()
                    self.assertEqual(b"", server.readAll())
                    self.assertEqual("truncated" if pairing.far or pairing.inner else "ended", server.how)
                    self.assertEqual((b"answer", "ended"), (client.readAll(), client.how))
                    self.assertTold(pairing, "the client ended the stream without ending TLS")

    def test_farTruncated(self) -> None:
        """
        The upstream's goes on in the same way.
        """
        self.start()
        for pairing in self.pairings:
            if pairing.far or pairing.inner:
                with self.session(pairing) as (client, server):
                    client.send(b"request")
                    self.assertEqual(b"request", server.read(7))
                    server.send(b"half an ans")
                    server.truncate()
                    self.assertEqual(b"half an ans", client.read(11))
                    client.send(b"more")
                    client.endWrite()
                    self.assertEqual(b"", client.readAll())
                    self.assertEqual("truncated" if pairing.near or pairing.inner else "ended", client.how)
                    self.assertEqual((b"more", "ended"), (server.readAll(), server.how))
                    self.assertTold(pairing, "the upstream ended the stream without ending TLS")

    def test_plainHasNoTruncation(self) -> None:
        """
        A plain side's FIN is all the end it has, and becomes a close_notify.  In TLS that is passed on undecrypted, it
        stays the truncation that it is.
        """
        self.start(truncation="abort")
        for pairing in self.pairings:
            with self.session(pairing) as (client, server):
                if pairing.inner:
                    client.truncate()
                    self.assertEqual((b"", "truncated"), (server.readAll(), server.how))
                elif not pairing.near:
                    client.truncate()
                    self.assertEqual((b"", "ended"), (server.readAll(), server.how))
                elif not pairing.far:
                    server.truncate()
                    self.assertEqual((b"", "ended"), (client.readAll(), client.how))


class CopiedTests(Copying, TruncationTests):
    """
    The same without splice(2).
    """


class DecryptedTests(PassageTestCase):
    """
    Where the proxy decrypts, it knows.
    """

    def test_pythonNotices(self) -> None:
        """
        Python's C{ssl}, told to mind, raises what it has for a truncated stream.
        """
        self.start()
        for pairing in self.pairings:
            if pairing.near and pairing.far:
                context = ssl.create_default_context(cafile=str(self.certificates.ca))
                # Some versions of the module do not mind unless they are told to.
                context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
                raw = socket.create_connection(("127.0.0.1", self.through.port(pairing.mode)))
                self.addCleanup(raw.close)
                client = context.wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False)
                self.addCleanup(client.close)
                server = self.acceptFrom(pairing)
                server.send(b"half an ans")
                server.truncate()
                self.assertEqual(b"half an ans", client.recv(100))
                error = self.assertRaises(ssl.SSLError, client.recv, 100)
                # The class of its own came with a later version; the reason is the same.
                told = isinstance(error, ssl.SSLEOFError) or error.reason == "UNEXPECTED_EOF_WHILE_READING"
                self.assertTrue(told, repr(error))
                client.close()
                server.close()

    def test_abortNear(self) -> None:
        """
        With C{truncation = "abort"} the client's goes on as a reset, to both sides.
        """
        self.start(truncation="abort")
        for pairing in self.pairings:
            if pairing.near:
                with self.session(pairing) as (client, server):
                    client.send(b"half a requ")
                    self.assertEqual(b"half a requ", server.read(11))
                    client.truncate()
                    self.assertEqual((b"", "reset"), (server.readAll(), server.how))
                    self.assertEqual((b"", "reset"), (client.readAll(), client.how))
                    line = self.line()
                    self.assertEqual("truncated", line["outcome"])
                    self.assertEqual("the client ended the stream without ending TLS", line["reason"])

    def test_abortFar(self) -> None:
        """
        With C{truncation = "abort"} the upstream's does the same.
        """
        self.start(truncation="abort")
        for pairing in self.pairings:
            if pairing.far:
                with self.session(pairing) as (client, server):
                    client.send(b"request")
                    self.assertEqual(b"request", server.read(7))
                    server.truncate()
                    self.assertEqual((b"", "reset"), (client.readAll(), client.how))
                    self.assertEqual((b"", "reset"), (server.readAll(), server.how))
                    self.assertEqual("truncated", self.line()["outcome"])
