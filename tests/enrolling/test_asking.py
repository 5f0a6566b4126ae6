# -*- test-case-name: tests.enrolling.test_asking -*-
"""
L{tlsproxy.enrolling.asking}: asking a reverse proxy.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.address import TCP
from tlsproxy.end import End
from tlsproxy.enrolling import asking
from tlsproxy.enrolling.asking import SECONDS, Asking, AskingFailed, AskingRefused
from tlsproxy.enrolling.possession import newKey, requestFor, writeKey
from tlsproxy.errors import HandshakeFailed, PeerReset
from tlsproxy.testing.certificates import certify, clientTLS, write
from tlsproxy.testing.network import LINGER, Network
from tlsproxy.testing.streampeers import Origin, Peer
from tlsproxy.tls.contexts import ClientTLS
from tlsproxy.upstreamproxy import UpstreamProxy
from tlsproxy.wire.enrollanswer import IssuedAnswer
from tlsproxy.wire.enrolling import ALPN, KEYING, KEYING_LENGTH
from tlsproxy.wire.enrolltoken import Token
from tlsproxy.wire.proof import isProof, storedKey

NAME = "enroll.dmz.example"
WHERE = TCP(NAME, 8443)
TOKEN = Token.new(bytes(32), bytes(32))
ISSUED = {"certificate": "C", "mapping": "M", "server_name": "dmz.example", "renew_after": 5}

Ask = Callable[[Asking, ClientTLS], Awaitable[Any]]


def tls(**more: Any) -> ClientTLS:
    """
    Make the TLS that asks.
    """
    return clientTLS(NAME, alpn=(ALPN,), minVersion="1.3", **more)


def answer(body: bytes, kind: str = "application/json", status: str = "201 Created", *fields: str) -> bytes:
    """
    Make an answer.
    """
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *fields, "", ""]
    return "\r\n".join(lines).encode() + body


def renew(asking: Asking, by: ClientTLS) -> Awaitable[Any]:
    """
    Ask for a renewal.
    """
    return asking.renew(by, b"request")


class AskingTests(SynchronousTestCase):
    """
    Questions and answers.
    """

    def setUp(self) -> None:
        """
        Have a reverse proxy.
        """
        self.network = Network()
        self.addCleanup(self.network.close)
        self.serve()

    def serve(self, **how: Any) -> None:
        """
        Have it be some other.
        """
        self.upstream = self.network.upstream(str(WHERE), Origin, **{"alpn": ALPN.encode(), "name": NAME, **how})

    def ask(self, ask: Ask, by: ClientTLS | None = None, proxy: UpstreamProxy | None = None) -> Deferred[Any]:
        """
        Ask, and have all happen that needs no time.
        """
        asking = Asking(self.network.reactor, self.network.dialer, WHERE, proxy)

        async def work() -> Any:
            return await ask(asking, by or tls())

        asked = Deferred.fromCoroutine(work())
        self.network.settle()
        return asked

    def asked(self, ask: Ask, *pieces: bytes, end: bool = True) -> tuple[str, Any]:
        """
        Ask, and have it answered in pieces.

        @return: What was sent, and what came of it: an answer, or the sentence of a failure.
        """
        asked = self.ask(ask)
        peer = self.upstream.peers[-1]
        sent = bytes(peer.received).decode("latin-1")
        for piece in pieces:
            peer.write(piece)
            self.network.settle()
        if end:
            peer.end()
            self.network.settle()
        peer.close()
        self.network.advance(LINGER)
        outcome: list[Any] = []
        asked.addBoth(outcome.append)
        (came,) = outcome
        if hasattr(came, "value"):
            came.trap(AskingFailed)
            self.assertTrue(str(came.value).isprintable())
            return sent, str(came.value)
        return sent, came

    def test_enroll(self) -> None:
        """
        What goes out to enroll is the request for a certificate, and a proof that is good for this connection and this
        request alone: not the token's secret, and not the key.
        """
        key = newKey()
        request = requestFor(key)
        keying: list[bytes] = []
        asked = self.ask(lambda asking, by: asking.enroll(by, TOKEN, request))
        peer = self.upstream.peers[-1]
        sent = bytes(peer.received)
        keying.append(peer.connection.export_keying_material(KEYING, KEYING_LENGTH))
        peer.write(answer(json.dumps(ISSUED).encode()))
        self.network.settle()
        self.assertEqual(IssuedAnswer(b"C", b"M", "dmz.example", 5.0), self.successResultOf(asked))
        head, _, body = sent.partition(b"\r\n\r\n")
        self.assertEqual(request, body)
        lines = head.decode().split("\r\n")
        found = re.fullmatch(r'Authorization: TLSProxy-Token id="([0-9a-f]{16})", proof="(.*)"', lines[2])
        assert found is not None
        self.assertEqual(
            ["POST /enroll HTTP/1.1", f"Host: {NAME}", found[0], "Connection: close"]
            + ["Content-Type: application/pkcs10", f"Content-Length: {len(request)}"],
            lines,
        )
        self.assertEqual(TOKEN.id, found[1])
        proof = b64decode(found[2])
        self.assertTrue(isProof(storedKey(TOKEN.secret), keying[0] + request, proof))
        self.assertFalse(isProof(storedKey(TOKEN.secret), keying[0] + requestFor(newKey()), proof))
        private = writeKey(key)
        secrets = (TOKEN.secret, str(TOKEN).encode(), private, key.private_numbers().private_value.to_bytes(32, "big"))
        for secret in (*secrets, *private.split(b"\n")[1:-2]):
            self.assertNotIn(secret, sent)
        peer.close()

    def test_paths(self) -> None:
        """
        Each question has its path and its answer its type; however it is cut, it is the same.
        """
        ca: Ask = lambda asking, by: asking.authorities(by)  # noqa: E731
        mapping: Ask = lambda asking, by: asking.mapping(by)  # noqa: E731
        for ask, line, kind in (
            (ca, "GET /ca HTTP/1.1", "application/pem-certificate-chain"),
            (mapping, "GET /mapping HTTP/1.1", "application/toml; charset=utf-8"),
        ):
            whole = answer(b"\0what", kind, "200 OK")
            for pieces in ((whole,), [whole[at : at + 1] for at in range(len(whole))]):
                sent, came = self.asked(ask, *pieces)
                self.assertEqual(f"{line}\r\nHost: {NAME}\r\nConnection: close\r\n\r\n", sent)
                self.assertEqual(b"\0what", came)
        sent, came = self.asked(renew, answer(json.dumps(ISSUED).encode()))
        self.assertTrue(sent.startswith("POST /renew HTTP/1.1\r\n"))
        self.assertEqual("dmz.example", came.serverName)

    def test_refused(self) -> None:
        """
        What the reverse proxy says to people is passed on, and when to come again.
        """
        asked = self.ask(renew)
        peer = self.upstream.peers[-1]
        peer.write(answer(b"not\r\n\x07 you", "text/plain", "429 Too Many", "Retry-After: 7"))
        self.network.settle()
        refused = self.failureResultOf(asked, AskingRefused).value
        self.assertEqual("the reverse proxy says: not \\x07 you", str(refused))
        self.assertEqual((429, 7), (refused.status, refused.retryAfter))
        peer.close()
        self.assertIn("status 500", self.asked(renew, answer(b"<p>", "text/html", "500 Oh"))[1])

    def test_rubbish(self) -> None:
        """
        Half an answer, none, another one, or what is no answer at all is a failure that says so.
        """
        whole = answer(json.dumps(ISSUED).encode())
        for words, *pieces in (
            ("ended the connection before its answer was whole", whole[:-1]),
            ("ended the connection before its answer was whole", whole[:20]),
            ("ended the connection before its answer was whole",),
            ("does not answer as it should: the answer does not begin like HTTP/1.1", b"SSH-2.0"),
            ("does not answer as it should: the answer goes on behind its end", whole + b"x"),
            ("does not answer as it should: the answer is not JSON", answer(b"{")),
            ("answers with something else than application/json", answer(b"{}", "text/html")),
            ("answers with the status 302", answer(b"", "text/html", "302 Found")),
        ):
            self.assertIn(words, self.asked(renew, *pieces)[1])
        asked = self.ask(renew)
        self.upstream.peers[-1].write(whole[:20])
        self.network.settle()
        self.upstream.peers[-1].cut()
        self.network.settle()
        self.assertIn("ended the stream without ending TLS", str(self.failureResultOf(asked, AskingFailed).value))
        self.upstream.peers[-1].close()

    def test_slow(self) -> None:
        """
        All of it has one deadline, whatever takes so long.
        """
        for begin in (lambda peer: None, lambda peer: peer.write(b"HTTP/1.1 200")):
            asked = self.ask(renew)
            begin(self.upstream.peers[-1])
            self.network.advance(SECONDS - 1)
            self.assertNoResult(asked)
            self.network.advance(1)
            words = str(self.failureResultOf(asked, AskingFailed).value)
            self.assertEqual(f"the reverse proxy {WHERE} did not answer within 30 s", words)
            self.upstream.peers[-1].close()
        self.upstream.answers = False
        asked = self.ask(renew)
        self.network.advance(SECONDS)
        self.failureResultOf(asked, AskingFailed)
        self.assertEqual(1, self.upstream.cancelled)

    def test_cancelled(self) -> None:
        """
        Whoever does not want to know any more leaves nothing behind.
        """
        asked = self.ask(renew)
        asked.cancel()
        self.failureResultOf(asked)
        self.upstream.peers[-1].close()

    def test_away(self) -> None:
        """
        One that cannot be reached is told of in a sentence.
        """
        self.upstream.refuses = True
        failed = self.failureResultOf(self.ask(renew), AskingFailed).value
        self.assertEqual(f"the reverse proxy {WHERE} refuses connections", str(failed))

    def test_stranger(self) -> None:
        """
        One whose certificate has another name is refused before anything is sent, and so is one that does not enroll.
        """
        self.serve(name="other.example")
        failed = self.failureResultOf(self.ask(renew), AskingFailed).value
        self.assertIn(f"it is not for {NAME}; it is for other.example", str(failed))
        self.assertEqual(b"", bytes(self.upstream.peers[-1].received))
        self.upstream.peers[-1].close()
        self.serve(alpn=b"")
        failed = self.failureResultOf(self.ask(renew), AskingFailed).value
        self.assertIn(f"under the name {NAME}, but enrolls nobody there", str(failed))
        self.assertEqual(b"", bytes(self.upstream.peers[-1].received))
        self.upstream.peers[-1].close()
        self.serve(version="TLSv1.2")
        failed = self.failureResultOf(self.ask(renew), AskingFailed).value
        self.assertIn("TLS", str(failed))
        self.upstream.peers[-1].close()

    def test_otherProtocols(self) -> None:
        """
        One that breaks TLS off for want of our application protocol enrolls nobody, as one that speaks none does.
        """
        alert = (
            "broke TLS off (alert no_application_protocol received): it speaks none; it has to be a proxy for tunnels"
        )
        self.breaksOff(alert)
        self.assertIn(f"under the name {NAME}, but enrolls nobody there", self.problem())

    def test_remedies(self) -> None:
        """
        Nobody is told to change tables that there are none of here.
        """
        for words, remedy in (
            ("its certificate is refused: it is not for x; it is for y", "if so, say its name in name of upstream_tls"),
            ("it does not know the server name asked for", "say in server_name of its [[reverse_proxy]] what it is"),
        ):
            self.breaksOff(f"{words}; {remedy}")
            self.assertEqual(words, self.problem())
            self.breaksOff(f"{words}; set the clock")
            self.assertEqual(f"{words}; set the clock", self.problem())

    def breaksOff(self, sentence: str) -> None:
        """
        Have the handshake fail.
        """

        async def fails(*_: object) -> None:
            raise HandshakeFailed(sentence)

        self.patch(End, "startTLS", fails)

    def problem(self) -> str:
        """
        Ask in vain.

        @return: Why.
        """
        return str(self.failureResultOf(self.ask(renew), AskingFailed).value)

    def test_otherName(self) -> None:
        """
        Where a certificate is demanded of who has none yet, the name is wrong, and no setting of a route would mend it.
        """
        demands = "it broke TLS off (alert certificate_required received): give upstream_tls a cert"
        self.patch(asking, "explainLate", lambda *_: demands)
        asked = self.ask(renew)
        self.upstream.peers[-1].reset()
        self.network.settle()
        words = str(self.failureResultOf(asked, AskingFailed).value)
        self.assertIn(f"demands a certificate under the name {NAME}, so that is not where it enrolls", words)
        self.assertNotIn("upstream_tls", words)

    def test_expired(self) -> None:
        """
        Where our certificate has expired, no setting of a route would mend that.
        """
        expired = "it broke TLS off (alert certificate_expired received): it finds ours expired; renew upstream_tls"
        self.patch(asking, "explainLate", lambda *_: expired)
        asked = self.ask(renew)
        self.upstream.peers[-1].reset()
        self.network.settle()
        words = str(self.failureResultOf(asked, asking.AskingExpired).value)
        self.assertTrue(words.endswith("it finds ours expired"), words)

    def test_many(self) -> None:
        """
        A reset may be a limit, of those who have no certificate yet.
        """
        file = self.mktemp()
        key = newKey()
        write(file, certify("laptop", key=key).pem() + writeKey(key))
        for by, told in ((tls(), True), (tls(cert=file), False)):

            async def resets(*_: Any) -> None:
                raise PeerReset("the reverse proxy reset the connection in the middle of the TLS handshake")

            self.patch(End, "startTLS", resets)
            words = str(self.failureResultOf(self.ask(renew, by), AskingFailed).value)
            self.assertEqual(
                told, words.endswith("; where many enroll at once, it lets more of them in after a minute")
            )

    def test_proxy(self) -> None:
        """
        It goes through a proxy where there is one, which looks the name up, and is told apart in messages.
        """
        through = self.network.upstream("192.0.2.9:3128", Peer)
        proxy = UpstreamProxy(scheme="http", address=TCP("192.0.2.9", 3128))
        asked = self.ask(renew, proxy=proxy)
        peer = through.peers[-1]
        self.assertEqual(f"CONNECT {WHERE} HTTP/1.1\r\nHost: {WHERE}\r\n\r\n".encode(), bytes(peer.received))
        peer.write(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
        self.network.settle()
        failed = str(self.failureResultOf(asked, AskingFailed).value)
        self.assertEqual("the upstream proxy 192.0.2.9:3128 answers with the status 403", failed)
        peer.close()
        asked = self.ask(renew, proxy=proxy)
        through.peers[-1].write(b"HTTP/1.1 200 OK\r\n\r\n")
        self.network.settle()
        self.assertTrue(bytes(through.peers[-1].received).partition(b"\r\n\r\n")[2].startswith(b"\x16\x03"))
        through.peers[-1].close()
        self.network.settle()
        self.failureResultOf(asked, AskingFailed)
        through.refuses = True
        failed = str(self.failureResultOf(self.ask(renew, proxy=proxy), AskingFailed).value)
        self.assertEqual("the upstream proxy 192.0.2.9:3128 refuses connections", failed)
